use super::*;
use crate::http::ingest::json::DEPTH_MAX;

fn events(form: Form, body: &str) -> Result<Vec<&str>, FramingError> {
    let mut raws = Vec::new();
    read(form, body, 3, |raw, _| raws.push(raw))?;
    Ok(raws)
}

#[test]
fn hands_on_each_event_as_it_was_written() {
    for (form, body, expected) in [
        (Form::Json, r#" {"a": 1} "#, &[r#"{"a": 1}"#][..]),
        (Form::Json, "[ {\"a\":1} , 5,\n\"x\" ]", &["{\"a\":1}", "5", "\"x\""]),
        (Form::Json, " [ ] ", &[]),
        (Form::Lines, "{\"a\":1}\r\n\n  \n {\"b\":2}", &["{\"a\":1}", "{\"b\":2}"]),
        (Form::Lines, "", &[]),
        (Form::Lines, "null\n[1]\n", &["null", "[1]"]),
        (Form::CloudEvent, "{}", &["{}"]),
        (Form::CloudEvents, "[{}]", &["{}"]),
    ] {
        assert_eq!(events(form, body).as_deref(), Ok(expected), "{body:?}");
    }
}

#[test]
fn names_the_byte_and_for_lines_the_line_where_a_body_goes_wrong() {
    for (form, body, offset, line) in [
        (Form::Json, "[{},{]", 5, None),
        (Form::Json, "[{}] {}", 5, None),
        (Form::Json, "", 0, None),
        (Form::Json, "[{}", 3, None),
        (Form::Json, "[{} {}]", 4, None),
        (Form::Json, "\"text\"", 0, None),
        (Form::Json, "5", 0, None),
        (Form::CloudEvent, "[{}]", 0, None),
        (Form::CloudEvents, " {}", 1, None),
        (Form::Lines, "{}\n\n{\"a\":}\n", 9, Some(3)),
        (Form::Lines, "{} {}", 3, Some(1)),
        (Form::Lines, "{\n}", 1, Some(1)),
        (Form::Lines, "{}\n{\"a\":1,\"a\":2}", 3, Some(2)),
    ] {
        let error = events(form, body).unwrap_err();
        assert_eq!((error.offset(), error.line()), (Some(offset), line), "{body:?}: {error}");
        assert!(error.to_string().contains(&format!("byte {offset}")), "{error}");
    }
}

#[test]
fn counts_the_array_around_events_as_a_level() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(events(Form::Json, &nested(DEPTH_MAX)).is_ok());
    assert!(events(Form::Json, &nested(DEPTH_MAX + 1)).is_err());
    assert!(events(Form::Lines, &nested(DEPTH_MAX + 1)).is_err());
}

#[test]
fn stops_at_the_first_event_past_the_limit() {
    for (form, body) in
        [(Form::Json, "[{},{},{},{}]"), (Form::Lines, "{}\n{}\n{}\n{}"), (Form::CloudEvents, "[1,2,3,4]")]
    {
        assert_eq!(events(form, body), Err(FramingError::TooManyEvents { limit: 3 }));
    }
    assert_eq!(events(Form::Json, "[{},{},{}]").map(|raws| raws.len()), Ok(3));
}

#[test]
fn finds_the_first_byte_that_is_not_utf8() {
    assert_eq!(utf8(b"{\"a\":\"\xff\"}"), Err(FramingError::NotUtf8 { offset: 6 }));
    assert_eq!(utf8("é".as_bytes()), Ok("é"));
}
