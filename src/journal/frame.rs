//! One journal frame: header and payload to bytes and back. Pure: no I/O, no clock.
//!
//! | offset | bytes | field | meaning |
//! | --- | --- | --- | --- |
//! | 0 | 4 | magic | `MFRM` |
//! | 4 | 4 | crc | crc32c of bytes 8..64, seeded with the store id |
//! | 8 | 4 | previous | crc of the frame before; of the segment header for a segment's first frame |
//! | 12 | 4 | payload crc | crc32c of the stored payload, seeded with the store id |
//! | 16 | 4 | stored bytes | length of the payload as it is stored |
//! | 20 | 4 | payload bytes | its length decoded |
//! | 24 | 8 | first seq | of the first record; the next record's in an empty frame |
//! | 32 | 4 | count | records; 0 in an empty frame |
//! | 36 | 1 | codec | 0 none, 1 LZ4 block |
//! | 37 | 3 | – | zero |
//! | 40 | 8 | durable seq | everything up to it was durable when this frame was written |
//! | 48 | 8 | durable bytes | so were this segment's bytes before this offset |
//! | 56 | 8 | offset | where this frame begins in its segment |
//! | 64 | … | payload | then zeros up to a multiple of 8 |
//!
//! Integers are little-endian.
//!
//! 1. `decode` believes no field before the crc is right; the payload is believed by its own crc, which the header holds.
//! 2. `previous` chains header to header, so that no frame can be left out, repeated or moved unseen.
//! 3. The crc does not depend on the chain: a header is recognised on its own, behind a damaged frame, and then
//!    its durable fields tell that the damage is no torn write.

use super::{Compression, PAYLOAD_BYTES_MAX, StoreId};
use crate::model::Seq;

pub const HEADER_BYTES: usize = 64;
/// Frames begin at multiples of this.
pub const ALIGNMENT: usize = 8;
pub const MAGIC: [u8; 4] = *b"MFRM";

const CODEC_NONE: u8 = 0;
const CODEC_LZ4: u8 = 1;

/// The start value of every checksum of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

/// The crc of a frame's or segment's header: what the next frame must name as `previous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub previous: Link,
    pub payload_crc: u32,
    pub stored_bytes: u32,
    pub payload_bytes: u32,
    pub first_seq: Seq,
    pub count: u32,
    pub codec: u8,
    pub durable: Seq,
    pub durable_bytes: u64,
    pub offset: u64,
}

/// What a payload became in the frame.
pub struct Stored {
    pub codec: u8,
    pub stored_bytes: u32,
    pub payload_bytes: u32,
}

impl Seed {
    pub fn new(store_id: StoreId) -> Self {
        Self(crc32c::crc32c(&store_id.0.to_le_bytes()))
    }

    pub fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

impl Header {
    pub fn encode(&self, seed: Seed) -> ([u8; HEADER_BYTES], Link) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.previous.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_seq.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.count.to_le_bytes());
        bytes[36] = self.codec;
        bytes[40..48].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.durable_bytes.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.offset.to_le_bytes());
        let crc = seed.checksum(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        (bytes, Link(crc))
    }

    /// None if these bytes are not a header of this store.
    pub fn decode(bytes: &[u8; HEADER_BYTES], seed: Seed) -> Option<(Self, Link)> {
        let crc = u32_at(bytes, 4);
        if bytes[0..4] != MAGIC || seed.checksum(&bytes[8..]) != crc {
            return None;
        }
        let header = Self {
            previous: Link(u32_at(bytes, 8)),
            payload_crc: u32_at(bytes, 12),
            stored_bytes: u32_at(bytes, 16),
            payload_bytes: u32_at(bytes, 20),
            first_seq: Seq(u64_at(bytes, 24)),
            count: u32_at(bytes, 32),
            codec: bytes[36],
            durable: Seq(u64_at(bytes, 40)),
            durable_bytes: u64_at(bytes, 48),
            offset: u64_at(bytes, 56),
        };
        Some((header, Link(crc)))
    }

    /// Whether the payload is stored in another form than its own.
    pub fn is_packed(&self) -> bool {
        self.codec != CODEC_NONE
    }

    /// How the payload is stored. What is neither cannot be unpacked.
    pub fn compression(&self) -> Compression {
        if self.codec == CODEC_LZ4 { Compression::Lz4 } else { Compression::None }
    }

    /// The whole frame's length, padding included.
    pub fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.stored_bytes)).next_multiple_of(ALIGNMENT as u64)
    }
}

/// Appends a payload as it will be stored, and the padding. The caller has checked that it is not too large.
pub fn pack(payload: &[u8], compression: Compression, out: &mut Vec<u8>) -> Stored {
    let start = out.len();
    let codec = match compression {
        Compression::Lz4 if compress(payload, out) => CODEC_LZ4,
        Compression::Lz4 | Compression::None => {
            out.truncate(start);
            out.extend_from_slice(payload);
            CODEC_NONE
        }
    };
    let stored_bytes = out.len() - start;
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    let length = |bytes: usize| u32::try_from(bytes).expect("a payload is at most 64 MiB");
    Stored { codec, stored_bytes: length(stored_bytes), payload_bytes: length(payload.len()) }
}

/// False if the payload would not get smaller; `out` then holds anything.
fn compress(payload: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(payload.len()), 0);
    match lz4_flex::block::compress_into(payload, &mut out[start..]) {
        Ok(bytes) if bytes < payload.len() => {
            out.truncate(start + bytes);
            true
        }
        _ => false,
    }
}

/// The payload of a frame whose checksums are right; an error is corruption all the same.
pub fn unpack<'a>(header: &Header, stored: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], &'static str> {
    let bytes = header.payload_bytes as usize;
    if bytes > PAYLOAD_BYTES_MAX {
        return Err("its payload is longer than any");
    }
    match header.codec {
        CODEC_NONE if stored.len() == bytes => Ok(stored),
        CODEC_NONE => Err("its payload has two lengths"),
        CODEC_LZ4 => {
            scratch.resize(bytes, 0);
            match lz4_flex::block::decompress_into(stored, scratch) {
                Ok(decoded) if decoded == bytes => Ok(scratch),
                _ => Err("its payload does not decompress"),
            }
        }
        _ => Err("its codec is unknown"),
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
