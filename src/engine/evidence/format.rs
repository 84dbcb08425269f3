//! A sidecar's bytes: header, records, customers, postings. Pure: no I/O.
//!
//! | header offset | bytes | field | meaning |
//! | --- | --- | --- | --- |
//! | 0 | 8 | magic | `MTRDINDX` |
//! | 8 | 4 | crc | of bytes 12..128 |
//! | 12 | 2 | version | 1 |
//! | 14 | 2 | – | zero |
//! | 16 | 16 | store id | |
//! | 32 | 8 | first seq | of the segment; the file's name |
//! | 40 | 8 | last seq | |
//! | 48 | 8 | segment bytes | length of the sealed segment |
//! | 56 | 8 | newest frame | offset of the segment's last frame |
//! | 64 | 4 | newest crc | of that frame's header: the sidecar is of this segment and no other |
//! | 68 | 4 | records | Events records |
//! | 72 | 4 | customers | |
//! | 76 | 4 | customer bytes | of all customers' entries |
//! | 80 | 4 | postings | events |
//! | 84 | 4 | – | zero |
//! | 88 | 16 | earliest, latest | counted times i64; of no meaning without postings |
//! | 104 | 24 | – | zero |
//!
//! | then, one after the other | |
//! | --- | --- |
//! | records, 40 bytes each, by seq | frame offset u64 · received_at i64 · first event's seq − first seq u32 · offset in the payload u32 · header bytes u32 · packed u32 (1: the frame is compressed) · header's crc32c u32 · crc |
//! | customers, sorted by name | name length u16 · name (`key::put_customer`) · first posting u32 · postings u32 · crc |
//! | customers + 1 offsets u32 | of each customer's entry among the entries, and their end |
//! | postings, 40 bytes each, by customer, counted time, seq | counted time i64 · meters u64 · seq − first seq u32 · record's number u32 · offset in the payload u32 · bytes u32 · event's crc32c u32 · crc |
//!
//! Integers are little-endian. A record's header is its bytes before its first event. `meters` has bit *n* mod 64 for
//! meter *n*.
//!
//! 1. Every entry ends with a crc32c of itself, seeded with store id, first seq, and the entry's number: one that was
//!    damaged, or read from the wrong place, is noticed when it is read, and nothing else needs to be read for that.
//! 2. Counted time is the event's timestamp, clamped into its first feed's window.

use std::ops::Range;

use crate::journal::{FrameMark, SegmentInfo, StoreId};
use crate::model::Seq;

pub const HEADER_BYTES: usize = 128;
pub const RECORD_BYTES: usize = 40;
pub const POSTING_BYTES: usize = 40;
pub const OFFSET_BYTES: usize = 4;
const MAGIC: [u8; 8] = *b"MTRDINDX";
const VERSION: u16 = 1;
const CRC_BYTES: usize = 4;

/// The start value of a sidecar's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub store_id: StoreId,
    pub segment: SegmentInfo,
    pub newest: FrameMark,
    pub records: u32,
    pub customers: u32,
    pub customer_bytes: u32,
    pub postings: u32,
    /// Counted times, in µs.
    pub earliest: i64,
    pub latest: i64,
}

/// An Events record of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordEntry {
    pub frame: u64,
    pub received_at: i64,
    /// Its first event's seq, from the segment's first.
    pub first: u32,
    /// In the frame's payload.
    pub offset: u32,
    /// From there to its first event.
    pub header_bytes: u32,
    pub is_packed: bool,
    pub header_crc: u32,
}

/// An event of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// In µs since 1970.
    pub counted: i64,
    pub meters: u64,
    /// From the segment's first.
    pub seq: u32,
    pub record: u32,
    /// In the frame's payload.
    pub offset: u32,
    pub bytes: u32,
    pub crc: u32,
}

impl Seed {
    pub fn new(store_id: StoreId, first_seq: Seq) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&store_id.0.to_le_bytes()), &first_seq.0.to_le_bytes()))
    }

    fn of(self, number: u32, entry: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &number.to_le_bytes()), entry)
    }

    fn check(self, number: u32, entry: &[u8]) -> Option<&[u8]> {
        let (body, crc) = entry.split_last_chunk::<CRC_BYTES>()?;
        (u32::from_le_bytes(*crc) == self.of(number, body)).then_some(body)
    }
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(12, &VERSION.to_le_bytes());
        put(16, &self.store_id.0.to_le_bytes());
        put(32, &self.segment.first_seq.0.to_le_bytes());
        put(40, &self.segment.last_seq.0.to_le_bytes());
        put(48, &self.segment.bytes.to_le_bytes());
        put(56, &self.newest.offset.to_le_bytes());
        put(64, &self.newest.crc.to_le_bytes());
        put(68, &self.records.to_le_bytes());
        put(72, &self.customers.to_le_bytes());
        put(76, &self.customer_bytes.to_le_bytes());
        put(80, &self.postings.to_le_bytes());
        put(88, &self.earliest.to_le_bytes());
        put(96, &self.latest.to_le_bytes());
        let crc = Seed::new(self.store_id, self.segment.first_seq).of(0, &bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None if this is no header of this segment's sidecar, or one of another version.
    pub fn decode(bytes: &[u8; HEADER_BYTES], store_id: StoreId, first_seq: Seq) -> Option<Self> {
        let crc = Seed::new(store_id, first_seq).of(0, &bytes[12..]);
        let header = Self {
            store_id: StoreId(u128::from_le_bytes(at(bytes, 16))),
            segment: SegmentInfo {
                first_seq: Seq(u64::from_le_bytes(at(bytes, 32))),
                last_seq: Seq(u64::from_le_bytes(at(bytes, 40))),
                bytes: u64::from_le_bytes(at(bytes, 48)),
            },
            newest: FrameMark { offset: u64::from_le_bytes(at(bytes, 56)), crc: u32::from_le_bytes(at(bytes, 64)) },
            records: u32::from_le_bytes(at(bytes, 68)),
            customers: u32::from_le_bytes(at(bytes, 72)),
            customer_bytes: u32::from_le_bytes(at(bytes, 76)),
            postings: u32::from_le_bytes(at(bytes, 80)),
            earliest: i64::from_le_bytes(at(bytes, 88)),
            latest: i64::from_le_bytes(at(bytes, 96)),
        };
        let is_whole = bytes[..8] == MAGIC && u32::from_le_bytes(at(bytes, 8)) == crc;
        let is_of = header.store_id == store_id && header.segment.first_seq == first_seq;
        (is_whole && is_of && u16::from_le_bytes(at(bytes, 12)) == VERSION).then_some(header)
    }

    pub fn record_at(&self, number: u32) -> u64 {
        (HEADER_BYTES + RECORD_BYTES * number as usize) as u64
    }

    pub fn customers_at(&self) -> u64 {
        self.record_at(self.records)
    }

    pub fn offset_at(&self, number: u32) -> u64 {
        self.customers_at() + u64::from(self.customer_bytes) + (OFFSET_BYTES * number as usize) as u64
    }

    pub fn posting_at(&self, number: u32) -> u64 {
        let start = self.offset_at(self.customers) + OFFSET_BYTES as u64;
        start + (POSTING_BYTES * number as usize) as u64
    }

    /// The whole file's length.
    pub fn bytes(&self) -> u64 {
        self.posting_at(self.postings)
    }
}

impl RecordEntry {
    pub fn put(&self, seed: Seed, number: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame.to_le_bytes());
        out.extend_from_slice(&self.received_at.to_le_bytes());
        let is_packed = u32::from(self.is_packed);
        for field in [self.first, self.offset, self.header_bytes, is_packed, self.header_crc] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let crc = seed.of(number, &out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    pub fn read(seed: Seed, number: u32, entry: &[u8; RECORD_BYTES]) -> Option<Self> {
        seed.check(number, entry)?;
        Some(Self {
            frame: u64::from_le_bytes(at(entry, 0)),
            received_at: i64::from_le_bytes(at(entry, 8)),
            first: u32::from_le_bytes(at(entry, 16)),
            offset: u32::from_le_bytes(at(entry, 20)),
            header_bytes: u32::from_le_bytes(at(entry, 24)),
            is_packed: u32::from_le_bytes(at(entry, 28)) != 0,
            header_crc: u32::from_le_bytes(at(entry, 32)),
        })
    }
}

impl Posting {
    pub fn put(&self, seed: Seed, number: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.counted.to_le_bytes());
        out.extend_from_slice(&self.meters.to_le_bytes());
        for field in [self.seq, self.record, self.offset, self.bytes, self.crc] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let crc = seed.of(number, &out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    pub fn read(seed: Seed, number: u32, entry: &[u8; POSTING_BYTES]) -> Option<Self> {
        seed.check(number, entry)?;
        Some(Self {
            counted: i64::from_le_bytes(at(entry, 0)),
            meters: u64::from_le_bytes(at(entry, 8)),
            seq: u32::from_le_bytes(at(entry, 16)),
            record: u32::from_le_bytes(at(entry, 20)),
            offset: u32::from_le_bytes(at(entry, 24)),
            bytes: u32::from_le_bytes(at(entry, 28)),
            crc: u32::from_le_bytes(at(entry, 32)),
        })
    }
}

pub fn put_customer(name: &[u8], postings: Range<u32>, seed: Seed, number: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let name_bytes = u16::try_from(name.len()).expect("a tenant and a customer take at most 256 bytes each");
    out.extend_from_slice(&name_bytes.to_le_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(&postings.start.to_le_bytes());
    out.extend_from_slice(&(postings.end - postings.start).to_le_bytes());
    let crc = seed.of(number, &out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// A customer's name and postings.
pub fn read_customer(seed: Seed, number: u32, entry: &[u8]) -> Option<(&[u8], Range<u32>)> {
    let body = seed.check(number, entry)?;
    let (len, body) = body.split_first_chunk()?;
    let (name, body) = body.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let (start, count) = body.split_first_chunk()?;
    let (start, count) = (u32::from_le_bytes(*start), u32::from_le_bytes(count.try_into().ok()?));
    Some((name, start..start.checked_add(count)?))
}

fn at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the field lies within what was checked to be long enough")
}

pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(at(bytes, offset))
}

#[cfg(test)]
mod tests;
