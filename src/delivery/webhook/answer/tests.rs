use http_body_util::Full;
use hyper::http::HeaderValue;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
}

fn pause(value: &str) -> Option<Duration> {
    retry_after(&headers(RETRY_AFTER, value), at("1994-11-06T08:49:00Z"))
}

async fn answer(body: impl Into<Bytes>) -> String {
    read(Response::new(Full::new(body.into())), Timestamp::EPOCH).await.answer
}

#[test]
fn every_status_has_its_meaning() {
    let slow = Failure::SlowDown { retry_after: None };
    for (status, failure, error) in [
        (300, Failure::Refused, "answered 300, a redirect: not followed"),
        (304, Failure::Refused, "answered 304, a redirect: not followed"),
        (400, Failure::Refused, "answered 400 Bad Request"),
        (401, Failure::Refused, "answered 401 Unauthorized"),
        (404, Failure::Refused, "answered 404 Not Found"),
        (408, Failure::Unavailable, "answered 408 Request Timeout"),
        (409, Failure::Refused, "answered 409 Conflict"),
        (410, Failure::Gone, "answered 410 Gone"),
        (413, Failure::Never, "answered 413 Payload Too Large"),
        (422, Failure::Refused, "answered 422 Unprocessable Entity"),
        (429, slow, "answered 429 Too Many Requests"),
        (500, Failure::Unavailable, "answered 500 Internal Server Error"),
        (501, Failure::Unavailable, "answered 501 Not Implemented"),
        (502, slow, "answered 502 Bad Gateway"),
        (503, slow, "answered 503 Service Unavailable"),
        (504, slow, "answered 504 Gateway Timeout"),
        (505, Failure::Unavailable, "answered 505 HTTP Version Not Supported"),
        (599, Failure::Unavailable, "answered 599"),
        (799, Failure::Refused, "answered 799"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let expected = Outcome::Failed(failure, error.into());
        assert_eq!(outcome(status, &HeaderMap::new(), Timestamp::EPOCH), expected, "{status}");
    }
    for status in 200..300 {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(outcome(status, &HeaderMap::new(), Timestamp::EPOCH), Outcome::Delivered, "{status}");
    }
}

#[test]
fn retry_after_is_read_as_seconds_and_as_each_of_http_s_dates() {
    let cases = [
        ("0", Some(0)),
        ("120", Some(120)),
        (" 7 ", Some(7)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
        ("Sun Nov  6 08:49:37 1994", Some(37)),
        // Passed already.
        ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("1994-11-06T08:49:37Z", None),
    ];
    for (text, seconds) in cases {
        assert_eq!(pause(text), seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), Timestamp::EPOCH), None);
}

#[test]
fn who_asks_for_less_is_heard_with_the_time_it_names() {
    let said = outcome(StatusCode::TOO_MANY_REQUESTS, &headers(RETRY_AFTER, "30"), Timestamp::EPOCH);
    let failure = Failure::SlowDown { retry_after: Some(Duration::from_secs(30)) };
    assert_eq!(said, Outcome::Failed(failure, "answered 429 Too Many Requests, retry after 30 s".into()));
}

#[test]
fn of_a_redirect_s_location_only_the_host_is_told() {
    for (location, told) in [
        ("https://user:hunter2@other.example:8443/T0K3N?key=hunter2#x", " to other.example"),
        ("/elsewhere?key=hunter2", ""),
        ("http://", ""),
        ("\u{e9}", ""),
    ] {
        let value = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        let said = outcome(StatusCode::FOUND, &HeaderMap::from_iter([(LOCATION, value)]), Timestamp::EPOCH);
        let expected = format!("answered 302, a redirect{told}: not followed");
        assert_eq!(said, Outcome::Failed(Failure::Refused, expected), "{location}");
    }
    let long = format!("https://{}/", "a".repeat(300));
    assert_eq!(redirect_host(&headers(LOCATION, &long)), "");
}

#[tokio::test]
async fn an_answer_is_one_line_of_text() {
    assert_eq!(answer("taken").await, "taken");
    assert_eq!(answer("a\r\nb\tc\u{1b}[31md\0\u{7f}\u{85}e\u{202e}f\u{2028}g\n").await, "a  b c [31md   e f g");
    assert_eq!(answer(&b"a\xffb"[..]).await, "a\u{fffd}b");
    assert_eq!(answer("").await, "");
}

#[tokio::test]
async fn an_answer_is_kept_up_to_its_limit_and_between_characters() {
    assert_eq!(answer("a".repeat(ANSWER_BYTES_MAX)).await, "a".repeat(ANSWER_BYTES_MAX));
    assert_eq!(answer("a".repeat(ANSWER_BYTES_MAX + 1)).await, "a".repeat(ANSWER_BYTES_MAX));
    assert_eq!(answer("\u{20ac}".repeat(1_000)).await, "\u{20ac}".repeat(ANSWER_BYTES_MAX / 3));
    // Replacement characters are longer than what they replace.
    let answer = answer(vec![0xff; ANSWER_BYTES_MAX]).await;
    assert_eq!(answer, "\u{fffd}".repeat(ANSWER_BYTES_MAX / 3));
}
