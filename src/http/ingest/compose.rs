//! A native event as text, put together from the members of another route's body: what is kept as its evidence.

use crate::http::ingest::json::{Item, Value};

/// What a member of the event is made of.
#[derive(Clone, Copy, Debug)]
pub enum Part<'p, 't, 'a> {
    Text(&'p str),
    /// As it was sent: numbers keep their digits.
    Item(Item<'t, 'a>),
}

/// Appends an object; members without a part are left out.
pub fn event(out: &mut String, members: &[(&str, Option<Part<'_, '_, '_>>)]) {
    out.push('{');
    let given = members.iter().filter_map(|(name, part)| Some((name, (*part)?)));
    for (place, (name, part)) in given.enumerate() {
        name_member(out, place, name);
        match part {
            Part::Text(text) => string(out, text),
            Part::Item(item) => value(out, item),
        }
    }
    out.push('}');
}

/// A value that is a whole event already.
pub fn whole(item: Item<'_, '_>) -> String {
    let mut out = String::new();
    value(&mut out, item);
    out
}

/// Adds a last member to an object that has some already.
pub fn extend(object: &str, name: &str, text: &str) -> String {
    let mut out = String::with_capacity(object.len() + name.len() + text.len() + 8);
    out.push_str(object.strip_suffix('}').unwrap_or(object));
    name_member(&mut out, 1, name);
    string(&mut out, text);
    out.push('}');
    out
}

fn name_member(out: &mut String, place: usize, name: &str) {
    if place > 0 {
        out.push(',');
    }
    string(out, name);
    out.push(':');
}

/// No deeper than the scanner lets values nest.
fn value(out: &mut String, item: Item<'_, '_>) {
    match item.value() {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(text) => out.push_str(text),
        Value::Text(text) => string(out, text),
        Value::Array => {
            out.push('[');
            for (place, element) in item.children().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                value(out, element);
            }
            out.push(']');
        }
        Value::Object => {
            out.push('{');
            for (place, member) in item.children().enumerate() {
                name_member(out, place, member.key());
                value(out, member);
            }
            out.push('}');
        }
    }
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|character: char| matches!(character, '"' | '\\' | '\0'..='\x1f')) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            byte @ (b'"' | b'\\') => out.extend(['\\', char::from(byte)]),
            byte => out.push_str(&format!("\\u{byte:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ingest::json::{Scanner, Tape};

    #[test]
    fn what_is_written_reads_as_what_it_was_made_from() {
        let sent =
            r#"{"z":[1.50,-0,1e3,[],{}],"a\"\\\n\u0001é/":{"n":null,"t":true,"f":false,"s":"\ud83d\ude00\u007f"}}"#;
        let (mut scanner, mut tape) = (Scanner::new(sent), Tape::default());
        scanner.value(&mut tape, 0).unwrap();
        let mut out = String::new();
        event(&mut out, &[("id", Some(Part::Text("e\"1"))), ("no", None), ("data", Some(Part::Item(tape.root())))]);
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(read["id"], "e\"1");
        assert_eq!(read["data"], serde_json::from_str::<serde_json::Value>(sent).unwrap());
        assert!(out.starts_with(r#"{"id":"e\"1","data":{"z":[1.50,-0,1e3,[],{}],"#), "{out}");
    }

    #[test]
    fn a_member_can_be_added_at_the_end() {
        assert_eq!(extend(r#"{"a":1}"#, "reservation", "r\"1"), r#"{"a":1,"reservation":"r\"1"}"#);
    }
}
