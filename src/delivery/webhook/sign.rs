//! Standard Webhooks signatures. Pure.
//!
//! | header | value |
//! | --- | --- |
//! | `webhook-id` | the delivery's id: the same at every attempt |
//! | `webhook-timestamp` | unix seconds of the attempt |
//! | `webhook-signature` | `v1,` and base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`, once per secret, separated by spaces |
//!
//! 1. A secret is written `whsec_` and base64 of 24 to 64 bytes; nothing shows it, no error and no `Debug`.
//! 2. While keys rotate every secret signs: a receiver that knows one of them is content.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::model::Timestamp;

pub const HEADER_ID: &str = "webhook-id";
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
pub const HEADER_SIGNATURE: &str = "webhook-signature";

/// The most secrets one sink signs with.
pub const SECRETS_MAX: usize = 8;

const PREFIX: &str = "whsec_";
const KEY_BYTES_MIN: usize = 24;
const KEY_BYTES_MAX: usize = 64;

/// A signing key.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("a webhook secret begins with {PREFIX}")]
    Prefix,
    #[error("what follows {PREFIX} in a webhook secret is not base64 (RFC 4648, with + and /, padded with =)")]
    Base64,
    #[error("a webhook secret has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, this one has {bytes}")]
    Length { bytes: usize },
}

impl Secret {
    /// Reads `whsec_…`; white space around it (the end of a file's line) is no part of it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        // Only what the receivers' libraries read too.
        let key = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(SecretError::Length { bytes: key.len() });
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The values of the three headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
}

/// Signs a body as sent at `now`. The id has no full stop.
pub fn sign(id: &str, now: Timestamp, body: &[u8], secrets: &[Secret]) -> Signed {
    let timestamp = now.micros().div_euclid(1_000_000).to_string();
    let signatures: Vec<String> = secrets.iter().map(|secret| signature(id, &timestamp, body, secret)).collect();
    Signed { id: id.to_owned(), timestamp, signature: signatures.join(" ") }
}

fn signature(id: &str, timestamp: &str, body: &[u8], Secret(key): &Secret) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests;
