//! Walks a journal that another thread appends to, from one segment on, up to what is known to be durable.
//!
//! 1. A frame that holds records up to the durable one is whole in the file: what does not check is read once more, in
//!    case it was read while it was being written, and is corruption then.
//! 2. A segment is sealed once the one that begins with the next record has its name.
//! 3. Segments may be removed at any time, oldest first: a gap after a segment means that it is gone, too.

use std::sync::Arc;

use super::error::JournalError;
use super::frame::{self, HEADER_BYTES, Header, Link};
use super::reader::{Cursor, SegmentReader, Step};
use super::segment_file::{SegmentFile, segments};
use super::{FrameAt, FrameView, SegmentInfo, StoreId};
use crate::env::Disk;
use crate::model::Seq;

/// Follows the journal frame by frame.
pub struct Follower {
    disk: Arc<dyn Disk>,
    store_id: StoreId,
    segment: Seq,
    reader: SegmentReader,
    cursor: Cursor,
    /// The newest frame passed, empty ones included.
    newest: Option<FrameMark>,
    /// Where to go on, once a segment was told to be sealed.
    next_segment: Option<Seq>,
    scratch: Vec<u8>,
}

/// Names a frame by its place and its header's crc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMark {
    pub offset: u64,
    pub crc: u32,
}

/// The next thing that the journal holds.
pub enum Followed<'a> {
    Frame {
        frame: FrameView<'a>,
        /// It is stored in another form than its payload.
        is_packed: bool,
    },
    /// The segment ends here. `mark` is its last frame; none if it has no frame.
    Sealed { segment: SegmentInfo, mark: Option<FrameMark> },
    /// What follows is not durable yet.
    UpToDate,
}

impl Follower {
    /// Before the first frame of a segment; none if there is no such segment.
    pub fn open(disk: Arc<dyn Disk>, store_id: StoreId, segment: Seq) -> Result<Option<Self>, JournalError> {
        let Some(file) = SegmentFile::open(disk.as_ref(), store_id, segment)? else { return Ok(None) };
        let (reader, cursor) = file.into_reader()?;
        let scratch = Vec::new();
        Ok(Some(Self { disk, store_id, segment, reader, cursor, newest: None, next_segment: None, scratch }))
    }

    /// The segment that it is in.
    pub fn segment(&self) -> Seq {
        self.next_segment.unwrap_or(self.segment)
    }

    /// The next frame that holds records up to `durable`, or the end of a segment, after which it goes on with the next.
    pub fn next(&mut self, durable: Seq) -> Result<Followed<'_>, JournalError> {
        if let Some(segment) = self.next_segment.take()
            && !self.enter(segment)?
        {
            return Ok(Followed::UpToDate);
        }
        while self.cursor.next <= durable {
            let Some((header, link)) = self.step()? else { return self.end() };
            let at = FrameAt { segment: self.segment, offset: self.cursor.offset, bytes: header.frame_bytes() };
            self.newest = Some(FrameMark { offset: at.offset, crc: link.0 });
            if header.count == 0 {
                self.cursor.advance(&header, link);
                continue;
            }
            let before = self.cursor.clone();
            self.cursor.advance(&header, link);
            let corrupt = |reason| {
                let file = super::segment::display(&super::segment::file_name(at.segment));
                JournalError::Corrupt { file, offset: before.offset, seq: before.next, reason }
            };
            let stored = self.reader.bytes(at.offset + HEADER_BYTES as u64, header.stored_bytes as usize)?;
            let payload = frame::unpack(&header, stored, &mut self.scratch).map_err(corrupt)?;
            let Header { first_seq, count, durable, .. } = header;
            let frame = FrameView { first_seq, count, payload, durable, at };
            return Ok(Followed::Frame { frame, is_packed: header.is_packed() });
        }
        Ok(Followed::UpToDate)
    }

    /// The frame at the cursor, with its checks done; none where there are zeros or the file ends.
    fn step(&mut self) -> Result<Option<(Header, Link)>, JournalError> {
        for _ in 0..2 {
            if let Step::Frame { header, link, .. } = self.reader.step(&self.cursor)? {
                return Ok(Some((header, link)));
            }
            self.reader.refresh()?;
        }
        match self.reader.step(&self.cursor)? {
            Step::Frame { header, link, .. } => Ok(Some((header, link))),
            Step::End => Ok(None),
            Step::Bad(reason) => Err(self.reader.corrupt(&self.cursor, reason)),
        }
    }

    /// There is no frame although its records are durable: the next segment holds them.
    fn end(&mut self) -> Result<Followed<'_>, JournalError> {
        let later = segments(self.disk.as_ref())?.into_iter().find(|first| *first > self.segment);
        let Some(next) = later else {
            return Err(self.reader.corrupt(&self.cursor, "there are zeros where a durable frame should be"));
        };
        let is_whole = self.cursor.offset == self.reader.len();
        if next < self.cursor.next || (next == self.cursor.next && !is_whole) {
            return Err(self.reader.corrupt(&self.cursor, "the segment does not end where the next one begins"));
        }
        self.next_segment = Some(next);
        let last_seq = Seq(self.cursor.next.0 - 1);
        let segment = SegmentInfo { first_seq: self.segment, last_seq, bytes: self.cursor.offset };
        Ok(Followed::Sealed { segment, mark: self.newest })
    }

    /// False if the segment, and so all before it, is gone, and none is left to go on with.
    fn enter(&mut self, segment: Seq) -> Result<bool, JournalError> {
        let names = segments(self.disk.as_ref())?;
        let candidates = [segment].into_iter().chain(names.into_iter().filter(|first| *first > segment));
        for first in candidates {
            let Some(file) = SegmentFile::open(self.disk.as_ref(), self.store_id, first)? else { continue };
            (self.reader, self.cursor) = file.into_reader()?;
            (self.segment, self.newest) = (first, None);
            return Ok(true);
        }
        self.next_segment = Some(segment);
        Ok(false)
    }
}
