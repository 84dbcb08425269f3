//! Strong entity tags, and what a client says of those it has.

use std::fmt::Write;

use axum::http::HeaderMap;
use axum::http::header::IF_NONE_MATCH;

use crate::engine::Hasher;

/// No secret: tags of the same bytes are the same on every daemon.
const KEY: [u8; 16] = *b"meterd ETag v1..";

/// A strong tag, quotes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The tag of all that makes a body what it is, in order.
    pub fn of(parts: &[&[u8]]) -> Self {
        let hasher = Hasher::new(&KEY);
        let mut text = String::from("\"");
        // A hash each, then one over all, so that bytes cannot move from one part to the next unseen.
        let hashes: Vec<u8> = parts.iter().flat_map(|part| hasher.hash128(part).to_be_bytes()).collect();
        write!(text, "{:032x}\"", hasher.hash128(&hashes)).expect("a String takes any text");
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// True if the client has what would be sent: If-None-Match names the tag, or is `*`. Tags are compared weakly, as
/// RFC 9110 says for this header; one that cannot be read ends its list.
pub fn is_known(headers: &HeaderMap, etag: Option<&ETag>) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut lists = lists.map(str::trim);
    lists.any(|list| list == "*" || etag.is_some_and(|etag| tags(list).any(|tag| tag == etag.0)))
}

/// The tags of a list, quotes included and `W/` left out. A tag may hold commas.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let opaque = start.strip_prefix("W/").unwrap_or(start);
        let end = opaque.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = opaque.split_at(end);
        rest = after;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn known(lists: &[&str], etag: Option<&ETag>) -> bool {
        let headers = lists.iter().map(|list| (IF_NONE_MATCH, HeaderValue::from_str(list).unwrap())).collect();
        is_known(&headers, etag)
    }

    #[test]
    fn finds_its_tag_in_lists_weak_or_strong_and_with_commas_inside_tags() {
        let tag = ETag("\"ab\"".into());
        for lists in [
            &["\"ab\""][..],
            &["W/\"ab\""],
            &["\"x\", \"ab\""],
            &["\"x,\",W/\"y\" ,\t\"ab\" "],
            &["\"x\"", "\"ab\""],
            &["*"],
            &[" * "],
        ] {
            assert!(known(lists, Some(&tag)), "{lists:?}");
        }
        for lists in
            [&[][..], &["ab"], &["\"a\", b\""], &["\"x,\"ab\""], &["\"ab"], &["\"AB\""], &["w/\"ab\""], &["\"x\", *"]]
        {
            assert!(!known(lists, Some(&tag)), "{lists:?}");
        }
        assert!(known(&["*"], None) && !known(&["\"ab\""], None));
    }

    #[test]
    fn the_tag_is_the_same_for_the_same_parts_only() {
        let tag = ETag::of(&[b"json", b"body"]);
        assert_eq!(tag, ETag::of(&[b"json", b"body"]));
        assert_eq!(tag.as_str().len(), 34);
        for other in [&[&b"csv"[..], b"body"][..], &[b"json", b"bodz"], &[b"jsonb", b"ody"], &[b"json", b"body", b""]] {
            assert_ne!(tag, ETag::of(other));
        }
    }
}
