use super::*;

/// From the Standard Webhooks libraries.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000 + 999_999).unwrap()
}

fn written(key: &[u8]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(key))
}

#[test]
fn signs_as_the_published_vector_says() {
    let secret = Secret::parse(SECRET).unwrap();
    let signed = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at(1_614_265_330), br#"{"test": 2432232314}"#, &[secret]);
    assert_eq!(
        signed,
        Signed {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(),
            timestamp: "1614265330".into(),
            signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".into(),
        }
    );
}

#[test]
fn every_secret_signs_while_keys_rotate() {
    let secrets = [SECRET.to_owned(), written(&[7; 64])].map(|text| Secret::parse(&text).unwrap());
    let both = sign("msg_1", at(5), b"{}", &secrets).signature;
    let each: Vec<String> =
        secrets.iter().map(|one| sign("msg_1", at(5), b"{}", std::slice::from_ref(one)).signature).collect();
    assert_eq!(both, each.join(" "));
    assert_ne!(each[0], each[1]);
}

#[test]
fn id_time_and_body_are_each_signed() {
    let secrets = [Secret::parse(SECRET).unwrap()];
    let all = [
        sign("msg_1", at(5), b"{}", &secrets),
        sign("msg_2", at(5), b"{}", &secrets),
        sign("msg_1", at(6), b"{}", &secrets),
        sign("msg_1", at(5), b"{ }", &secrets),
    ];
    let distinct: std::collections::HashSet<&str> = all.iter().map(|signed| signed.signature.as_str()).collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn takes_24_to_64_bytes_and_a_line_end() {
    for bytes in [24, 25, 32, 63, 64] {
        assert!(Secret::parse(&written(&vec![1; bytes])).is_ok(), "{bytes}");
    }
    assert!(Secret::parse(&format!(" {SECRET}\r\n")).is_ok());
}

#[test]
fn refuses_what_is_no_secret() {
    let cases = [
        ("", SecretError::Prefix),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
        ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
        ("whsec_not base64!", SecretError::Base64),
        // base64url, and padding that is missing: verifiers do not read it.
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", SecretError::Base64),
        ("whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ", SecretError::Base64),
        ("whsec_", SecretError::Length { bytes: 0 }),
        ("whsec_AAAA", SecretError::Length { bytes: 3 }),
    ];
    for (text, error) in cases {
        assert_eq!(Secret::parse(text).err(), Some(error), "{text}");
    }
    assert_eq!(Secret::parse(&written(&[1; 23])).err(), Some(SecretError::Length { bytes: 23 }));
    assert_eq!(Secret::parse(&written(&[1; 65])).err(), Some(SecretError::Length { bytes: 65 }));
}

#[test]
fn neither_debug_nor_an_error_shows_a_secret() {
    assert_eq!(format!("{:?}", Secret::parse(SECRET).unwrap()), "Secret(…)");
    let hidden = "hunter2hunter2";
    for text in [hidden.to_owned(), format!("whsec_{hidden}!"), format!("whsec_{}", STANDARD.encode(hidden))] {
        let error = Secret::parse(&text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(hidden) && !shown.contains(&STANDARD.encode(hidden)), "{shown}");
    }
}
