use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use super::*;

/// Answers one request per text, hanging up where the text is empty and reconnecting after that.
fn serve(answers: &'static [&'static str]) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::Builder::new()
        .name("answers".into())
        .spawn(move || {
            let mut answers = answers.iter();
            while let Ok((stream, _)) = listener.accept() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut writer = stream;
                while let Some(length) = request_body_bytes(&mut reader) {
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    match answers.next() {
                        Some(&"") | None => break,
                        Some(answer) => writer.write_all(answer.as_bytes()).unwrap(),
                    }
                }
            }
        })
        .unwrap();
    Target { host: "127.0.0.1".into(), port }
}

/// Reads a request's head; none once the client has hung up.
fn request_body_bytes(reader: &mut impl BufRead) -> Option<usize> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line).ok()? {
            0 => return None,
            _ if line.trim().is_empty() => return Some(length),
            _ => {}
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
}

fn client(answers: &'static [&'static str]) -> Client {
    Client::new(&serve(answers), Duration::from_secs(5)).unwrap()
}

#[test]
fn reads_addresses_and_says_what_is_wrong_with_others() {
    for (url, text) in [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("localhost:9", "localhost:9"),
        ("http://meterd.example", "meterd.example:80"),
    ] {
        assert_eq!(Target::parse(url).unwrap().to_string(), text);
    }
    for url in ["https://127.0.0.1", "http://127.0.0.1/v1", "", "http://"] {
        assert!(Target::parse(url).is_err(), "{url}");
    }
    assert!(Target::parse("localhost:1").unwrap().is_local() && !Target::parse("10.0.0.1:1").unwrap().is_local());
}

#[test]
fn reads_status_body_and_retry_after_over_one_connection() {
    let mut client = client(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 20\r\n\r\n{\"detail\":\"no such\"}",
    ]);
    assert_eq!(client.get("/a").unwrap().body, "{\"a\":1}");
    let busy = client.post("/b", "text/plain", Bytes::from_static(b"body")).unwrap();
    assert_eq!((busy.status, busy.retry_after), (503, Some(Duration::from_secs(7))));
    let missing = client.get_json::<serde_json::Value>("/c").unwrap_err();
    assert_eq!(missing.to_string(), "GET /c was answered 404: no such");
}

#[test]
fn asks_again_on_a_new_connection_when_the_kept_one_is_gone() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let mut client = client(&[OK, "", OK]);
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(client.get("/").unwrap().status, 200);
}

#[test]
fn tells_a_refused_connection_a_lost_one_and_silence_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Target { host: "127.0.0.1".into(), port: closed };
    let refused = Client::new(&nobody, Duration::from_secs(5)).unwrap().get("/").unwrap_err();
    assert!(matches!(refused, ClientError::Connect { .. }), "{refused}");
    let lost = client(&[""]).get("/").unwrap_err();
    assert!(matches!(lost, ClientError::Lost(_)), "{lost}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target { host: "127.0.0.1".into(), port: silent.local_addr().unwrap().port() };
    let silence = Client::new(&target, Duration::from_millis(50)).unwrap().get("/").unwrap_err();
    assert!(matches!(silence, ClientError::TimedOut(_)), "{silence}");
}

#[test]
fn the_exit_code_tells_a_bad_file_from_a_bad_daemon() {
    let io = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let connect = ClientError::Connect { target: "x".into(), cause: io() };
    for (well, code) in [
        (Ok(true), 0),
        (Ok(false), 1),
        (Err(anyhow::anyhow!("x")), 1),
        (Err(connect.into()), 1),
        (Err(anyhow::Error::from(io()).context("cannot open")), EXIT_IO),
    ] {
        assert_eq!(exit_code("test", well), ExitCode::from(code));
    }
}

#[test]
fn encodes_what_a_query_cannot_hold() {
    assert_eq!(percent_encode("a-b_c.d~e f/é&="), "a-b_c.d~e%20f%2F%C3%A9%26%3D");
}
