//! A small JSON document as a request's body: read within a limit, checked member by member.

use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;

use crate::http::body::{self, Room};
use crate::http::ingest::FramingError;
use crate::http::ingest::content;
use crate::http::ingest::decode;
use crate::http::ingest::framing::{self, Form};
use crate::http::ingest::json::{Item, JsonError, Scanner, Tape, Value};
use crate::http::problem::Problem;
use crate::http::routes::App;

/// The longest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// The body; empty if there is none, else of type `application/json`.
pub async fn receive(app: &App, request: Request) -> Result<Bytes, Problem> {
    let mut room = Room::new(&app.engine)?;
    receive_within(app, request, DOCUMENT_BYTES_MAX, &mut room).await
}

/// The same, of at most `limit` bytes.
pub async fn receive_within(app: &App, request: Request, limit: usize, room: &mut Room) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let declared = body::declared_length(&parts.headers, limit)?;
    let deadline: Duration = app.options.body_timeout.to_std();
    let body = body::collect(body, declared, limit, deadline, room).await?;
    if body.is_empty() {
        return Ok(body);
    }
    if content::form(&parts.headers)? != Form::Json {
        return Err(Problem::ContentType("send application/json, in UTF-8".to_owned()));
    }
    decode::decode(body, content::encoding(&parts.headers)?, limit, room)
}

/// Reads an object off `body` and hands its members to `read`, one after the other.
pub fn members(body: &[u8], mut read: impl FnMut(&str, Item<'_, '_>) -> Result<(), Problem>) -> Result<(), Problem> {
    object(body, |root| root.children().try_for_each(|member| read(member.key(), member)))
}

/// Reads an object off `body` and hands it to `read`.
pub fn object<T>(body: &[u8], read: impl FnOnce(Item<'_, '_>) -> Result<T, Problem>) -> Result<T, Problem> {
    value(body, |root| match root.is_object() {
        true => read(root),
        false => Err(Problem::Member { pointer: String::new(), detail: "the body must be a JSON object".to_owned() }),
    })
}

/// Reads one value of any kind off `body` and hands it to `read`.
pub fn value<T>(body: &[u8], read: impl FnOnce(Item<'_, '_>) -> Result<T, Problem>) -> Result<T, Problem> {
    let malformed = |error: JsonError| {
        Problem::Unreadable(FramingError::Malformed { offset: error.offset, line: None, fault: error.fault })
    };
    let mut scanner = Scanner::new(framing::utf8(body)?);
    let mut tape = Tape::default();
    scanner.value(&mut tape, 0).map_err(malformed)?;
    scanner.end().map_err(malformed)?;
    read(tape.root())
}

/// Nothing but an empty object, or nothing at all.
pub fn no_members(body: &[u8]) -> Result<(), Problem> {
    if body.is_empty() { Ok(()) } else { members(body, |name, _| Err(unknown_member(name))) }
}

/// The reason for what an operator does, empty if the body gives none; it takes no other member.
pub fn reason(body: &[u8]) -> Result<String, Problem> {
    let mut reason = String::new();
    if body.is_empty() {
        return Ok(reason);
    }
    members(body, |name, value| {
        match (name, value.value()) {
            ("reason", Value::Null) => {}
            ("reason", Value::Text(text)) if text.len() <= REASON_BYTES_MAX => reason = text.to_string(),
            ("reason", _) => return Err(Problem::member("reason", "must be a string of at most 1,024 bytes")),
            _ => return Err(unknown_member(name)),
        }
        Ok(())
    })?;
    Ok(reason)
}

/// The problem of a member that nobody asked for.
pub fn unknown_member(name: &str) -> Problem {
    let end = name.floor_char_boundary(64);
    Problem::member(&name[..end], "is not known here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &[u8]) -> Result<Vec<String>, Problem> {
        let mut names = Vec::new();
        members(body, |name, _| {
            names.push(name.to_owned());
            if name == "bad" { Err(unknown_member(name)) } else { Ok(()) }
        })
        .map(|()| names)
    }

    #[test]
    fn members_come_in_order_and_the_first_fault_ends_it() {
        assert_eq!(names(br#" {"b":1,"a":{"c":[]}} "#).unwrap(), ["b", "a"]);
        assert!(matches!(names(br#"{"bad":1,"a":2}"#), Err(Problem::Member { pointer, .. }) if pointer == "/bad"));
    }

    #[test]
    fn what_is_no_object_or_no_json_is_refused_with_its_place() {
        assert!(matches!(names(b"[1]"), Err(Problem::Member { pointer, .. }) if pointer.is_empty()));
        for (body, offset) in
            [(&b"{\"a\":}"[..], 5), (b"", 0), (b"{} x", 3), (b"{\"a\":\"\xff\"}", 6), (b"{\"a\":1,\"a\":2}", 0)]
        {
            match names(body) {
                Err(Problem::Unreadable(error)) => assert_eq!(error.offset(), Some(offset), "{body:?}"),
                other => panic!("{body:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_reason_is_optional_and_a_string() {
        for (body, expected) in [("", ""), ("{}", ""), (r#"{"reason":null}"#, ""), (r#"{"reason":"NTP\n"}"#, "NTP\n")] {
            assert_eq!(reason(body.as_bytes()).unwrap(), expected, "{body}");
        }
        let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(REASON_BYTES_MAX + 1));
        for (body, expected) in [(r#"{"reason":1}"#, "/reason"), (r#"{"why":"x"}"#, "/why"), (&long, "/reason")] {
            assert!(matches!(reason(body.as_bytes()), Err(Problem::Member { pointer, .. }) if pointer == expected));
        }
    }
}
