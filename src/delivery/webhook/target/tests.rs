use super::*;

#[test]
fn reads_host_port_and_scheme() {
    for (url, shown, https) in [
        ("https://billing.example/hooks?token=a%20b", "billing.example:443", true),
        ("http://billing.example", "billing.example:80", false),
        ("HTTPS://Billing.Example:8443/", "Billing.Example:8443", true),
        ("http://[::1]:9000/x", "[::1]:9000", false),
        ("https://[2606:4700::1111]/x", "[2606:4700::1111]:443", true),
        ("http://127.0.0.1/x", "127.0.0.1:80", false),
        ("http://2130706433/", "2130706433:80", false),
        ("https://billing.example/hooks@v1", "billing.example:443", true),
    ] {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.to_string().as_str(), target.https()), (shown, https), "{url}");
    }
}

#[test]
fn only_plain_addresses_are_literals() {
    for (host, literal) in [
        ("127.0.0.1", true),
        ("[::ffff:127.0.0.1]", true),
        ("2130706433", false),
        ("0x7f000001", false),
        ("0177.0.0.1", false),
        ("127.1", false),
    ] {
        let target = Target::parse(&format!("http://{host}/")).unwrap();
        assert_eq!(target.literal().is_some(), literal, "{host}");
    }
}

#[test]
fn refuses_what_a_webhook_does_not_send_to() {
    let long = format!("https://billing.example/{}", "a".repeat(URL_BYTES_MAX));
    for (url, error) in [
        ("", UrlError::Scheme),
        ("billing.example/hooks", UrlError::Scheme),
        ("/hooks", UrlError::Scheme),
        ("ftp://billing.example/", UrlError::Scheme),
        ("file:///etc/passwd", UrlError::Scheme),
        ("https://user:hunter2@billing.example/", UrlError::Userinfo),
        ("https://user@billing.example/", UrlError::Userinfo),
        ("https://@billing.example/", UrlError::Userinfo),
        ("https://billing.example/#top", UrlError::Fragment),
        ("https://billing.example:0/", UrlError::Port),
        ("https://billing.example:/", UrlError::Port),
        ("https://billing.example:65536/", UrlError::Port),
        ("https://billing.example:http/", UrlError::Port),
        (long.as_str(), UrlError::Length),
    ] {
        assert_eq!(Target::parse(url), Err(error), "{url}");
    }
    for url in ["https://", "https:///hooks", "https://billing example/", "https://bücher.example/", "https://a/\r\nb"]
    {
        assert!(Target::parse(url).is_err(), "{url:?}");
    }
}

#[test]
fn shows_neither_path_nor_query() {
    let target = Target::parse("https://billing.example/T0K3N?key=hunter2").unwrap();
    assert_eq!(format!("{target} {target:?}"), "billing.example:443 Target(billing.example:443)");
}
