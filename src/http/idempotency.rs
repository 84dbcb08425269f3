//! The `Idempotency-Key` header: what a client sends so that a request that it repeats has one effect.
//!
//! With the key goes a digest of what is asked for, so that one key for two requests is found out. The log holds it: how it
//! is made never changes.

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::engine::RequestKey;
use crate::http::problem::Problem;

const HEADER: &str = "idempotency-key";
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The key, if there is one. `request`: the method, the path and whatever else says what is asked for.
pub fn request_key(headers: &HeaderMap, request: &[Option<&str>]) -> Result<Option<RequestKey>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::BadRequest("the request has more than one Idempotency-Key header"));
    }
    let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let key = key.filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
    let key = key.ok_or(Problem::BadRequest("Idempotency-Key must be 1 to 255 visible ASCII characters"))?;
    Ok(Some(RequestKey { key: key.to_owned(), request: digest(request) }))
}

/// The first 8 bytes, big-endian, of the SHA-256 of every part with its length in front; what is not given has none.
fn digest(parts: &[Option<&str>]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        hasher.update(length.to_be_bytes());
        hasher.update(part.unwrap_or_default());
    }
    let digest = hasher.finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(keys: &[&[u8]]) -> HeaderMap {
        let values = keys.iter().map(|key| HeaderValue::from_bytes(key).unwrap());
        values.map(|value| (axum::http::HeaderName::from_static(HEADER), value)).collect()
    }

    #[test]
    fn a_key_is_one_to_255_visible_characters_given_once() {
        assert!(request_key(&headers(&[]), &[]).unwrap().is_none());
        for key in ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", &"x".repeat(255)] {
            assert_eq!(request_key(&headers(&[key.as_bytes()]), &[]).unwrap().unwrap().key, key);
        }
        for keys in [&[&b""[..]][..], &[b"a b"], &[b"\xff"], &["x".repeat(256).as_bytes()], &[b"a", b"a"]] {
            assert_eq!(request_key(&headers(keys), &[]).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn the_digest_tells_requests_apart_and_stays_as_it_is() {
        let requests: [&[Option<&str>]; 5] =
            [&[], &[None], &[Some("")], &[Some("ab"), Some("c")], &[Some("a"), Some("bc")]];
        let digests: std::collections::HashSet<u64> = requests.into_iter().map(digest).collect();
        assert_eq!(digests.len(), requests.len());
        assert_eq!(digest(&[]), 0xe3b0_c442_98fc_1c14);
    }
}
