//! A look at segments one by one, for those who want to see what is there: nothing is changed, cut or judged.
//!
//! 1. A daemon may be appending meanwhile: the newest segment then ends before a frame that is being written.
//! 2. Each segment stands alone here. Whether they follow each other is for [`super::read`] to say.

use super::error::{JournalError, ReplayError};
use super::frame::{self, Seed};
use super::reader::{Cursor, Step};
use super::recovery;
use super::{Compression, FrameAt};
use crate::env::Disk;
use crate::model::Seq;

/// A segment file, as far as names and headers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    pub first_seq: Seq,
    /// None: the newest, which is appended to.
    pub last_seq: Option<Seq>,
    /// Of the file, zeros written ahead included.
    pub bytes: u64,
}

/// A frame of a segment. `count` may be 0: then it only says what was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub first_seq: Seq,
    pub count: u32,
    pub payload: &'a [u8],
    pub stored_bytes: u32,
    pub compression: Compression,
    pub durable: Seq,
    pub at: FrameAt,
}

/// Where a segment's good frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    pub offset: u64,
    /// The seq that would come next.
    pub next: Seq,
    /// What is wrong with what follows; None: only zeros do, or nothing.
    pub reason: Option<&'static str>,
}

/// Every segment, oldest first; none where there is no journal.
pub fn segments(disk: &dyn Disk) -> Result<Vec<SegmentFile>, JournalError> {
    if !recovery::exists(disk)? {
        return Ok(Vec::new());
    }
    let found = recovery::find_segments(disk, None, &|path| disk.open_read_only(path))?;
    let next = found.iter().skip(1).map(|next| Some(Seq(next.header.first_seq.0 - 1))).chain([None]);
    let files = found.iter().zip(next);
    Ok(files
        .map(|(found, last_seq)| SegmentFile { first_seq: found.header.first_seq, last_seq, bytes: found.len })
        .collect())
}

/// Visits the frames of the segment with this name, until one is not good or the visitor has enough.
pub fn frames<E>(
    disk: &dyn Disk,
    segment: Seq,
    visit: &mut dyn FnMut(Frame<'_>) -> Result<(), E>,
) -> Result<SegmentEnd, ReplayError<E>> {
    let open = |path: &std::path::Path| disk.open_read_only(path);
    let found = recovery::find_segment(segment, &open)?;
    let mut reader = recovery::open_segment(&found, &open)?;
    let mut cursor = Cursor::new(Seed::new(found.header.store_id), found.link, segment);
    let mut scratch = Vec::new();
    loop {
        let ended = |reason| SegmentEnd { offset: cursor.offset, next: cursor.next, reason };
        let (header, link, stored) = match reader.step(&cursor)? {
            Step::End => return Ok(ended(None)),
            Step::Bad(reason) => return Ok(ended(Some(reason))),
            Step::Frame { header, link, stored } => (header, link, stored),
        };
        let payload = match frame::unpack(&header, stored, &mut scratch) {
            Ok(payload) => payload,
            Err(reason) => return Ok(ended(Some(reason))),
        };
        visit(Frame {
            first_seq: header.first_seq,
            count: header.count,
            payload,
            stored_bytes: header.stored_bytes,
            compression: header.compression(),
            durable: header.durable,
            at: FrameAt { segment, offset: cursor.offset, bytes: header.frame_bytes() },
        })
        .map_err(ReplayError::Visit)?;
        cursor.advance(&header, link);
    }
}
