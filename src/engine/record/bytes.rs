//! Values to little-endian bytes and back: what every record is made of.

use crate::model::{Timestamp, Window};

/// The length that says a text was not given.
pub const NOT_GIVEN: u16 = u16::MAX;

pub fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.micros().to_le_bytes());
}

pub fn put_window(out: &mut Vec<u8>, window: Window) {
    put_time(out, window.start);
    put_time(out, window.end);
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// A u16 length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() < usize::from(NOT_GIVEN), "names are bounded at the door");
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("bodies are capped far below 4 GiB")
}

/// Takes values off the front of a slice; `None` at the first that is not whole.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub fn i128(&mut self) -> Option<i128> {
        self.take().map(i128::from_le_bytes)
    }

    pub fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    pub fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_micros(i64::from_le_bytes(self.take()?)).ok()
    }

    pub fn window(&mut self) -> Option<Window> {
        Some(Window { start: self.time()?, end: self.time()? })
    }

    /// What `put_bytes` wrote.
    pub fn sized(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// `Some(None)`: a text that was not given.
    pub fn text(&mut self) -> Option<Option<&'a str>> {
        let len = self.u16()?;
        if len == NOT_GIVEN {
            return Some(None);
        }
        std::str::from_utf8(self.bytes(usize::from(len))?).ok().map(Some)
    }
}
