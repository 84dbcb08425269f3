//! The inside of JSON strings: where one ends, and what an escape means. Pure, over bytes known to be UTF-8.

/// What ended a run of plain string bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Quote,
    Backslash,
    Control,
    End,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A mask with the high bit of every byte that is zero in `word`; bytes after the first such may be set wrongly.
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The first quote, backslash or control character at or after `from`, eight bytes at a time.
#[inline]
pub fn find_stop(bytes: &[u8], from: usize) -> (usize, Stop) {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + 8).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quotes = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let backslashes = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let stops = quotes | backslashes | controls;
        if stops != 0 {
            at += (stops.trailing_zeros() / 8) as usize;
            return (at, stop_at(bytes[at]));
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            return (at, stop_at(byte));
        }
        at += 1;
    }
    (bytes.len(), Stop::End)
}

fn stop_at(byte: u8) -> Stop {
    match byte {
        b'"' => Stop::Quote,
        b'\\' => Stop::Backslash,
        _ => Stop::Control,
    }
}

/// Reads the escape at the front, backslash included: the character and the bytes it took.
pub fn unescape(bytes: &[u8]) -> Option<(char, usize)> {
    let simple = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unescape_unicode(bytes),
        _ => return None,
    };
    Some((simple, 2))
}

/// `\u00e9`, or a surrogate pair `\ud83d\ude00`; a lone surrogate is no character.
fn unescape_unicode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = hex4(bytes.get(2..6)?)?;
    if !(0xD800..0xE000).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = match bytes.get(6..12)? {
        [b'\\', b'u', digits @ ..] => hex4(digits)?,
        _ => return None,
    };
    if first >= 0xDC00 || !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    Some((char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))?, 12))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
}
