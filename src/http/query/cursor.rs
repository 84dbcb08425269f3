//! Where the next page begins: the last row's key, as hex, opaque to clients.
//!
//! Bytes: version 1 · window start (µs, i64 BE) · customer · dimension count u8 · each dimension. A text is a flag byte
//! (0 not given, 1 given), and if given its length (u16 BE) and bytes.

use crate::http::problem::Problem;
use crate::http::query::fold::RowKey;
use crate::model::{Timestamp, hex};

const VERSION: u8 = 1;

/// The key of the last row of a page.
pub fn encode(key: &RowKey) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(key.window_start.micros().to_be_bytes());
    put(&mut bytes, key.customer.as_deref());
    bytes.push(key.dimensions.len() as u8);
    key.dimensions.iter().for_each(|value| put(&mut bytes, value.as_deref()));
    hex::encode(&bytes)
}

/// Reads a cursor for rows that are split like `customer` and `dimensions` say.
pub fn decode(text: &str, by_customer: bool, dimensions: usize) -> Result<RowKey, Problem> {
    let key = hex::decode(text).and_then(|bytes| read_key(&bytes));
    key.filter(|key| key.customer.is_some() == by_customer && key.dimensions.len() == dimensions).ok_or_else(foreign)
}

/// A list's cursor: the last entry's name.
pub fn encode_text(text: &str) -> String {
    hex::encode(text.as_bytes())
}

pub fn decode_text(text: &str) -> Result<String, Problem> {
    hex::decode(text).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(foreign)
}

fn foreign() -> Problem {
    Problem::parameter("cursor", "parameter \"cursor\" does not come from an answer to this query")
}

fn read_key(bytes: &[u8]) -> Option<RowKey> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let (micros, mut rest) = rest.split_first_chunk::<8>()?;
    let window_start = Timestamp::from_micros(i64::from_be_bytes(*micros)).ok()?;
    let customer = take(&mut rest)?;
    let (&count, after) = rest.split_first()?;
    rest = after;
    let dimensions = (0..count).map(|_| take(&mut rest)).collect::<Option<_>>()?;
    rest.is_empty().then_some(RowKey { window_start, customer, dimensions })
}

fn put(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        out.extend((text.len() as u16).to_be_bytes());
        out.extend(text.as_bytes());
    }
}

fn take(rest: &mut &[u8]) -> Option<Option<Box<str>>> {
    let (&given, after) = rest.split_first()?;
    if given == 0 {
        *rest = after;
        return Some(None);
    }
    let (length, after) = after.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(Some(std::str::from_utf8(text).ok()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RowKey {
        RowKey {
            window_start: Timestamp::from_micros(-5).unwrap(),
            customer: Some("c/1".into()),
            dimensions: [Some("gpt".into()), None, Some("".into())].into_iter().collect(),
        }
    }

    #[test]
    fn leads_back_to_the_row_it_was_made_from() {
        let text = encode(&key());
        assert_eq!(decode(&text, true, 3).unwrap(), key());
        assert_eq!(decode_text(&encode_text("größe")).unwrap(), "größe");
    }

    #[test]
    fn refuses_every_truncation_and_cursors_of_other_queries() {
        let text = encode(&key());
        assert!((0..text.len()).all(|end| decode(&text[..end], true, 3).is_err()));
        for (text, by_customer, dimensions) in
            [(&text[..], false, 3), (&text[..], true, 2), ("zz", true, 3), ("é", true, 3)]
        {
            assert_eq!(decode(text, by_customer, dimensions).unwrap_err().status(), 400);
        }
    }
}
