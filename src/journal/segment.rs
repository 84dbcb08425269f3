//! A segment file's name and header. Pure: no I/O.
//!
//! | offset | bytes | field | meaning |
//! | --- | --- | --- | --- |
//! | 0 | 8 | magic | `MTRDJRNL` |
//! | 8 | 4 | crc | crc32c of bytes 12..64, seeded with the store id below |
//! | 12 | 2 | version | 1 |
//! | 14 | 2 | – | zero |
//! | 16 | 16 | store id | |
//! | 32 | 8 | first seq | of the first record; the file's name |
//! | 40 | 4 | previous | crc of the newest frame (or header) of the segment before; 0 in the first of all |
//! | 44 | 20 | – | zero |
//!
//! Integers are little-endian. Frames follow from byte 64.

use std::path::{Path, PathBuf};

use super::frame::{Link, Seed, u32_at, u64_at};
use super::{DIRECTORY, StoreId};
use crate::model::Seq;

pub const HEADER_BYTES: usize = 64;
pub const VERSION: u16 = 1;
pub const TEMPORARY_SUFFIX: &str = ".tmp";

const MAGIC: [u8; 8] = *b"MTRDJRNL";
const SUFFIX: &str = ".log";
const SIDECAR_SUFFIX: &str = ".idx";
const SEQ_DIGITS: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub store_id: StoreId,
    pub first_seq: Seq,
    pub previous: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentHeaderError {
    Corrupt(&'static str),
    Newer(u16),
}

impl SegmentHeader {
    pub fn encode(&self) -> ([u8; HEADER_BYTES], Link) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[12..14].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store_id.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_seq.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous.0.to_le_bytes());
        let crc = Seed::new(self.store_id).checksum(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        (bytes, Link(crc))
    }

    /// Reads a header; `bytes` may be shorter than one if the file is.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Link), SegmentHeaderError> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            return Err(SegmentHeaderError::Corrupt("the file ends within the segment header"));
        };
        if bytes[0..8] != MAGIC {
            return Err(SegmentHeaderError::Corrupt("this is no segment header"));
        }
        let store_id = StoreId(u128::from(u64_at(bytes, 16)) | u128::from(u64_at(bytes, 24)) << 64);
        let crc = u32_at(bytes, 8);
        if Seed::new(store_id).checksum(&bytes[12..]) != crc {
            return Err(SegmentHeaderError::Corrupt("the segment header's checksum is wrong"));
        }
        let version = u16::from_le_bytes([bytes[12], bytes[13]]);
        if version > VERSION {
            return Err(SegmentHeaderError::Newer(version));
        }
        let header = Self { store_id, first_seq: Seq(u64_at(bytes, 32)), previous: Link(u32_at(bytes, 40)) };
        if header.first_seq == Seq::ZERO {
            return Err(SegmentHeaderError::Corrupt("the segment begins before the first record"));
        }
        Ok((header, Link(crc)))
    }
}

/// `00000000000000000001.log`
pub fn file_name(first_seq: Seq) -> String {
    format!("{:0width$}{SUFFIX}", first_seq.0, width = SEQ_DIGITS)
}

/// `00000000000000000001.idx`: an index of the segment's records. What it holds can be made anew from the segment.
pub fn sidecar_name(first_seq: Seq) -> String {
    format!("{:0width$}{SIDECAR_SUFFIX}", first_seq.0, width = SEQ_DIGITS)
}

/// The first seq that a segment's name tells; None if it is not a segment's name.
pub fn parse_file_name(name: &str) -> Option<Seq> {
    parse_digits(name.strip_suffix(SUFFIX)?)
}

/// The same of a sidecar's name.
pub fn parse_sidecar_name(name: &str) -> Option<Seq> {
    parse_digits(name.strip_suffix(SIDECAR_SUFFIX)?)
}

fn parse_digits(digits: &str) -> Option<Seq> {
    let well_formed = digits.len() == SEQ_DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    well_formed.then(|| digits.parse().ok().map(Seq))?
}

/// A file of the journal's directory, from the disk's root.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The same for messages.
pub fn display(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}
