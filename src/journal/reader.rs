//! Walks one segment: frame after frame, and then what lies beyond the last good one.
//!
//! 1. A frame is handed out only if every check holds: both checksums, its place, the chain, the next seq, the padding.
//! 2. What is not a frame is never skipped: the walk stops there, and [`super::recovery`] judges.

use super::error::{JournalError, io_error};
use super::frame::{ALIGNMENT, HEADER_BYTES, Header, Link, MAGIC, Seed};
use super::segment;
use crate::env::DiskFile;
use crate::env::disk::read_full_at;
use crate::model::Seq;

/// Read ahead by this much; a longer frame is read whole.
const WINDOW_BYTES: usize = 1 << 20;

/// An open segment file, read through a window.
pub struct SegmentReader {
    file: Box<dyn DiskFile>,
    name: String,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// How far the walk has come: all before `offset` is good.
#[derive(Clone, Debug)]
pub struct Cursor {
    pub seed: Seed,
    /// What the next frame must name as `previous`.
    pub link: Link,
    /// The seq that the next frame must begin with.
    pub next: Seq,
    pub offset: u64,
    /// This segment's bytes that the newest frame calls durable; the header alone before the first frame.
    pub durable_bytes: u64,
    /// Whether the newest frame holds records: the bytes from `durable_bytes` on may be records then.
    pub ends_with_records: bool,
}

pub enum Step<'a> {
    Frame {
        header: Header,
        link: Link,
        stored: &'a [u8],
    },
    /// Zeros, or the end of the file.
    End,
    Bad(&'static str),
}

/// What lies behind the place where the walk stopped.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// The end of the last byte that is not zero; the place itself if there is none.
    pub end: u64,
    /// The header of a later frame that calls the place durable.
    pub witness: Option<u64>,
}

impl Cursor {
    /// Before the first frame of a segment.
    pub fn new(seed: Seed, link: Link, first_seq: Seq) -> Self {
        let offset = segment::HEADER_BYTES as u64;
        Self { seed, link, next: first_seq, offset, durable_bytes: offset, ends_with_records: false }
    }

    pub fn advance(&mut self, header: &Header, link: Link) {
        self.link = link;
        self.next = header.first_seq.plus(u64::from(header.count));
        self.offset += header.frame_bytes();
        self.durable_bytes = header.durable_bytes;
        self.ends_with_records = header.count > 0;
    }
}

impl SegmentReader {
    pub fn new(file: Box<dyn DiskFile>, name: String) -> Result<Self, JournalError> {
        let len = file.len().map_err(io_error("measure", &name))?;
        Ok(Self { file, name, len, window: Vec::new(), window_at: 0 })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn into_file(self) -> Box<dyn DiskFile> {
        self.file
    }

    /// Reads anew what was read before.
    pub fn forget(&mut self) {
        self.window.clear();
    }

    /// Reads and measures anew: the file may have grown, or have been cut to its frames.
    pub fn refresh(&mut self) -> Result<(), JournalError> {
        self.forget();
        self.len = self.file.len().map_err(io_error("measure", &self.name))?;
        Ok(())
    }

    /// The bytes at `offset`: `want` of them, or fewer where the file ends.
    pub fn bytes(&mut self, offset: u64, want: usize) -> Result<&[u8], JournalError> {
        let rest = self.len.saturating_sub(offset);
        let want = want.min(usize::try_from(rest).unwrap_or(usize::MAX));
        let held = offset >= self.window_at && offset + want as u64 <= self.window_at + self.window.len() as u64;
        if !held {
            let fill = want.max(WINDOW_BYTES).min(usize::try_from(rest).unwrap_or(usize::MAX));
            self.window.resize(fill, 0);
            let read =
                read_full_at(self.file.as_ref(), offset, &mut self.window).map_err(io_error("read", &self.name))?;
            self.window.truncate(read);
            self.window_at = offset;
        }
        let at = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        Ok(&self.window[at.min(self.window.len())..(at + want).min(self.window.len())])
    }

    pub fn step(&mut self, cursor: &Cursor) -> Result<Step<'_>, JournalError> {
        let head = self.bytes(cursor.offset, HEADER_BYTES)?;
        if is_zero(head) {
            return Ok(Step::End);
        }
        let Ok(head) = head.try_into() else {
            return Ok(Step::Bad("the file ends within a frame header"));
        };
        let Some((header, link)) = Header::decode(head, cursor.seed) else {
            return Ok(Step::Bad("this is no frame header, or its checksum is wrong"));
        };
        if header.offset != cursor.offset {
            return Ok(Step::Bad("the frame belongs elsewhere in the segment"));
        }
        if header.previous != cursor.link || header.first_seq != cursor.next {
            return Ok(Step::Bad("the frame does not follow the one before it"));
        }
        if header.frame_bytes() > self.len.saturating_sub(cursor.offset) {
            return Ok(Step::Bad("the file ends within a frame"));
        }
        let frame_bytes = usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        let body = self.bytes(cursor.offset + HEADER_BYTES as u64, frame_bytes - HEADER_BYTES)?;
        let Some((stored, padding)) = body.split_at_checked(header.stored_bytes as usize) else {
            return Ok(Step::Bad("the file ends within a frame"));
        };
        if cursor.seed.checksum(stored) != header.payload_crc {
            return Ok(Step::Bad("the payload's checksum is wrong"));
        }
        if !is_zero(padding) {
            return Ok(Step::Bad("the padding is not zero"));
        }
        Ok(Step::Frame { header, link, stored })
    }

    /// Looks through the rest of the file for bytes that are not zero, and among them for a header of this store
    /// that says: what is at `cursor` was durable.
    pub fn look_beyond(&mut self, cursor: &Cursor) -> Result<Beyond, JournalError> {
        let mut beyond = Beyond { end: cursor.offset, witness: None };
        let mut candidates = Vec::new();
        let mut at = cursor.offset;
        while at < self.len {
            let chunk = self.bytes(at, WINDOW_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            if let Some(last) = last_nonzero(chunk) {
                beyond.end = at + last as u64 + 1;
                let words = chunk.chunks_exact(ALIGNMENT).enumerate();
                let marked = words.filter(|(_, word)| word.starts_with(&MAGIC));
                candidates.extend(marked.map(|(index, _)| at + (index * ALIGNMENT) as u64));
            }
            at += chunk.len() as u64;
        }
        for offset in candidates {
            let Ok(head) = self.bytes(offset, HEADER_BYTES)?.try_into() else { continue };
            let Some((header, _)) = Header::decode(head, cursor.seed) else { continue };
            let calls_durable = header.durable_bytes > cursor.offset || header.durable >= cursor.next;
            if header.offset == offset && calls_durable {
                beyond.witness = Some(offset);
                break;
            }
        }
        Ok(beyond)
    }

    pub fn corrupt(&self, cursor: &Cursor, reason: &'static str) -> JournalError {
        JournalError::Corrupt { file: self.name.clone(), offset: cursor.offset, seq: cursor.next, reason }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    last_nonzero(bytes).is_none()
}

/// Compares blocks with zeros first, which the compiler turns into wide loads: most of a prepared segment is zeros.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    const BLOCK_BYTES: usize = 256;
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        if bytes[start..end].iter().fold(0, |all, byte| all | byte) != 0 {
            return bytes[start..end].iter().rposition(|byte| *byte != 0).map(|index| start + index);
        }
        end = start;
    }
    None
}
