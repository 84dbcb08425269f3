//! The journal: the one truth, as a chain of checked frames in segment files. Bytes in, bytes out: it knows
//! sequence numbers and payloads, not records.
//!
//! ```text
//! journal/00000000000000000001.log   header │ frame │ frame │ … │ frame            sealed: ends with its last frame
//! journal/00000000000000052310.log   header │ frame │ frame │ 0 0 0 0 0 0 0 0 0    newest: zeros written ahead
//! journal/00000000000000000001.idx   an index of the first: made by others, removed with its segment
//! journal/next-2.tmp                 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0    being prepared, has no name yet
//! ```
//!
//! `frame` and `segment` hold the bytes (pure), `reader` walks one segment, `recovery` judges what it finds,
//! `writer` appends, `prepare` makes segments ahead, `look` shows them one by one; `follower` and `segment_file` are for those
//! who read beside the writer. The format for others to read: `docs/FORMATS.md`.
//!
//! 1. One frame is one group commit. Seqs number records, without a gap: a lost frame is unbilled usage.
//! 2. What a successful [`Journal::sync`] covered is found by every later recovery, in order, or recovery refuses.
//! 3. A torn tail is cut, zeroed, synced and reported. Anything else that is bad is an error that names file, offset, seq.
//! 4. After a failed write or sync the journal is poisoned; the process must end, and recover.

mod error;
mod follower;
mod frame;
pub mod look;
mod prepare;
mod reader;
mod recovery;
mod segment;
mod segment_file;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;

pub use self::error::{JournalError, ReplayError};
pub use self::follower::{Followed, Follower, FrameMark};
pub use self::prepare::Preparer;
pub use self::recovery::read;
pub use self::segment_file::{FrameHead, SegmentFile, orphaned_sidecars, segment_display, segments, sidecar_paths};
pub use self::writer::Journal;
use crate::model::Seq;

/// The journal's directory, from the data directory.
pub const DIRECTORY: &str = "journal";
/// The longest payload of one frame, in bytes, before compression.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// How payloads are stored. Each frame says so itself: the option may change between runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    /// LZ4 block format, for payloads that it makes smaller.
    Lz4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment is sealed before it grows beyond this. May change between runs; as small as a few hundred in tests.
    pub segment_bytes: u64,
    pub compression: Compression,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 128 << 20, compression: Compression::None }
    }
}

/// Random, drawn once for a data directory; it is in every segment, and in every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(pub u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Where a replay starts, and what is known beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Frames that hold a record after this one are visited.
    pub after: Seq,
    /// The store holds everything up to here, so the journal did too. A journal that ends earlier is corrupt.
    pub floor: Seq,
    /// The store's id, if there is a store; else the journal's own is taken.
    pub store_id: Option<StoreId>,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAt {
    /// The first seq of its segment, which is the file's name.
    pub segment: Seq,
    /// Of its header, from the start of the file.
    pub offset: u64,
    /// Header, payload as stored, and padding.
    pub bytes: u64,
}

/// A frame as the replay shows it: `count` ≥ 1 records, from `first_seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameView<'a> {
    pub first_seq: Seq,
    pub count: u32,
    /// As it was appended.
    pub payload: &'a [u8],
    /// Every record up to here was durable when this frame was written.
    pub durable: Seq,
    pub at: FrameAt,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The newest record; one before the first if there is none.
    pub last: Seq,
    /// Frames visited.
    pub frames: u64,
    /// Bytes of the frames visited, as stored.
    pub bytes: u64,
    /// The torn tail, if there was one.
    pub cut: Option<Cut>,
}

/// A torn tail: bytes of a write that was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// From the data directory.
    pub file: String,
    pub offset: u64,
    /// From `offset` through the last byte that was not zero.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub first_seq: Seq,
    /// One before `first_seq` if it holds no record yet.
    pub last_seq: Seq,
    /// Header and frames, without the zeros written ahead.
    pub bytes: u64,
}
