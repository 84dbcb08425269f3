//! Tells a retry from a conflict: 32 keyed bits of an event as it was sent.
//!
//! | value | what is hashed beside the member's name |
//! | --- | --- |
//! | text, true, false, null | itself |
//! | number | sign, digits without zeros at either end, exponent: `1`, `1.0` and `10e-1` are one |
//! | `quantity`, time | the exact decimal, the instant in µs: `"1"` and `1`, `Z` and `+00:00` are one |
//! | array | its elements' hashes, chained in order |
//! | object | its members' hashes, added up: the order does not matter |
//!
//! 1. What the server fills in is left out, so a retry without a timestamp is still the same event.
//! 2. The caller leaves out the id and source (they are the key), null CloudEvents attributes and trace headers.
//! 3. Every name and text is hashed with its length before it, so that no two events join alike.
//! 4. Derived ids are made of the same sum: whatever changes it lets a retry across an upgrade count twice.

use crate::engine::Hasher;
use crate::http::ingest::json::{Item, Value};
use crate::model::{Fingerprint, Quantity, Timestamp};

#[derive(Clone, Copy)]
#[repr(u8)]
enum Tag {
    Null,
    False,
    True,
    Number,
    Text,
    Array,
    Object,
    Quantity,
    Instant,
}

/// Adds up the members of one event after the other.
pub struct Fingerprinter {
    hasher: Hasher,
    scratch: Vec<u8>,
    sum: u64,
}

impl Fingerprinter {
    pub fn new(hasher: Hasher) -> Self {
        Self { hasher, scratch: Vec::with_capacity(256), sum: 0 }
    }

    pub fn text(&mut self, name: &str, text: &str) {
        let hash = self.leaf(name, Tag::Text, |out| out.extend_from_slice(text.as_bytes()));
        self.add(hash);
    }

    pub fn quantity(&mut self, name: &str, quantity: Quantity) {
        let hash = self.leaf(name, Tag::Quantity, |out| out.extend_from_slice(&quantity.scaled().to_le_bytes()));
        self.add(hash);
    }

    pub fn instant(&mut self, name: &str, at: Timestamp) {
        let hash = self.leaf(name, Tag::Instant, |out| out.extend_from_slice(&at.micros().to_le_bytes()));
        self.add(hash);
    }

    pub fn item(&mut self, name: &str, item: Item<'_, '_>) {
        let hash = self.hash(name, item);
        self.add(hash);
    }

    /// The fingerprint of what was added since the last one.
    pub fn finish(&mut self) -> Fingerprint {
        let sum = std::mem::take(&mut self.sum);
        Fingerprint((sum ^ (sum >> 32)) as u32)
    }

    /// 128 bits of what was added since the last fingerprint, of some names, and of a time in µs.
    pub fn derive(&mut self, names: [&str; 3], micros: i64) -> u128 {
        let out = &mut self.scratch;
        out.clear();
        for name in names {
            out.extend_from_slice(&(name.len() as u32).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&self.sum.to_le_bytes());
        out.extend_from_slice(&micros.to_le_bytes());
        self.hasher.hash128(out)
    }

    /// Forgets what was added: the event is not taken after all.
    pub fn clear(&mut self) {
        self.sum = 0;
    }

    fn add(&mut self, hash: u64) {
        self.sum = self.sum.wrapping_add(hash);
    }

    fn hash(&mut self, name: &str, item: Item<'_, '_>) -> u64 {
        match item.value() {
            Value::Null => self.leaf(name, Tag::Null, |_| ()),
            Value::Bool(false) => self.leaf(name, Tag::False, |_| ()),
            Value::Bool(true) => self.leaf(name, Tag::True, |_| ()),
            Value::Number(text) => self.leaf(name, Tag::Number, |out| put_number(out, text)),
            Value::Text(text) => self.leaf(name, Tag::Text, |out| out.extend_from_slice(text.as_bytes())),
            Value::Array => {
                let chain = item.children().fold(0u64, |chain, element| {
                    let hash = self.hash("", element);
                    self.leaf("", Tag::Array, |out| {
                        out.extend_from_slice(&chain.to_le_bytes());
                        out.extend_from_slice(&hash.to_le_bytes());
                    })
                });
                self.leaf(name, Tag::Array, |out| out.extend_from_slice(&chain.to_le_bytes()))
            }
            Value::Object => {
                let sum = item.children().fold(0u64, |sum, member| sum.wrapping_add(self.hash(member.key(), member)));
                self.leaf(name, Tag::Object, |out| out.extend_from_slice(&sum.to_le_bytes()))
            }
        }
    }

    #[inline]
    fn leaf(&mut self, name: &str, tag: Tag, put: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let out = &mut self.scratch;
        out.clear();
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.push(tag as u8);
        put(out);
        self.hasher.hash64(out)
    }
}

/// Writes a JSON number so that equal values have equal bytes: sign, significant digits, power of ten.
fn put_number(out: &mut Vec<u8>, text: &str) {
    let (negative, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let sign_at = out.len();
    out.push(u8::from(negative));
    let digits = integer.bytes().chain(fraction.bytes()).skip_while(|&digit| digit == b'0');
    out.extend(digits);
    let mut trailing_zeros = 0;
    while out.len() > sign_at + 1 && out.last() == Some(&b'0') {
        out.pop();
        trailing_zeros += 1;
    }
    if out.len() == sign_at + 1 {
        out[sign_at] = 0; // zero has neither sign nor power
        return;
    }
    let power = exponent_of(exponent).saturating_sub(fraction.len() as i64).saturating_add(trailing_zeros);
    out.extend_from_slice(&power.to_le_bytes());
}

/// An exponent's value; ones beyond an i64 are all the same to us.
fn exponent_of(text: &str) -> i64 {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let magnitude = digits
        .trim_start_matches('+')
        .bytes()
        .fold(0i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests;
