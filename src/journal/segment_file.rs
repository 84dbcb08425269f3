//! A segment read at will: frame headers, payloads and pieces of them, by their offsets.
//!
//! 1. A header is believed by its own crc, a payload by the header's. A piece of a payload carries no check of its own:
//!    who reads one has a checksum for it.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{JournalError, io_error};
use super::frame::{self, HEADER_BYTES, Header, Link, Seed};
use super::reader::{Cursor, SegmentReader};
use super::segment::{self, SegmentHeader, SegmentHeaderError};
use super::{DIRECTORY, FrameAt, StoreId};
use crate::env::disk::read_full_at;
use crate::env::{Disk, DiskFile};
use crate::model::Seq;

/// A segment, open for reading.
pub struct SegmentFile {
    file: Box<dyn DiskFile>,
    name: String,
    first_seq: Seq,
    seed: Seed,
    link: Link,
}

/// A frame's header, which checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub at: FrameAt,
    /// Of its first record; of the next one in an empty frame.
    pub first_seq: Seq,
    /// Records; 0 in an empty frame.
    pub count: u32,
    /// Its header's crc.
    pub crc: u32,
    header: Header,
}

/// The segments that have a name now, by their first records, oldest first.
pub fn segments(disk: &dyn Disk) -> Result<Vec<Seq>, JournalError> {
    let names = disk.list(Path::new(DIRECTORY)).map_err(io_error("list", DIRECTORY))?;
    Ok(names.iter().filter_map(|name| segment::parse_file_name(name)).collect())
}

/// Sidecars whose segments are gone, by their first records.
pub fn orphaned_sidecars(disk: &dyn Disk) -> Result<Vec<Seq>, JournalError> {
    let names = disk.list(Path::new(DIRECTORY)).map_err(io_error("list", DIRECTORY))?;
    let has_segment = |first: &Seq| names.binary_search(&segment::file_name(*first)).is_ok();
    let sidecars = names.iter().filter_map(|name| segment::parse_sidecar_name(name));
    Ok(sidecars.filter(|first| !has_segment(first)).collect())
}

/// A segment's file, for messages.
pub fn segment_display(first_seq: Seq) -> String {
    segment::display(&segment::file_name(first_seq))
}

/// The path of a segment's sidecar, from the disk's root, and of the temporary file that becomes it.
pub fn sidecar_paths(first_seq: Seq) -> (PathBuf, PathBuf) {
    let name = segment::sidecar_name(first_seq);
    let temporary = format!("{name}{}", segment::TEMPORARY_SUFFIX);
    (segment::path(&name), segment::path(&temporary))
}

impl SegmentFile {
    /// None if there is no such segment. Its header is checked.
    pub fn open(disk: &dyn Disk, store_id: StoreId, first_seq: Seq) -> Result<Option<Self>, JournalError> {
        let file_name = segment::file_name(first_seq);
        let name = segment::display(&file_name);
        let file = match disk.open_read_only(&segment::path(&file_name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &name)(error)),
        };
        let mut bytes = [0; segment::HEADER_BYTES];
        let read = read_full_at(file.as_ref(), 0, &mut bytes).map_err(io_error("read", &name))?;
        let corrupt = |reason| JournalError::Corrupt { file: name.clone(), offset: 0, seq: first_seq, reason };
        let (header, link) = match SegmentHeader::decode(&bytes[..read]) {
            Ok(decoded) => decoded,
            Err(SegmentHeaderError::Corrupt(reason)) => return Err(corrupt(reason)),
            Err(SegmentHeaderError::Newer(version)) => return Err(JournalError::OtherFormat { file: name, version }),
        };
        if header.first_seq != first_seq {
            return Err(corrupt("the segment header does not agree with the file's name"));
        }
        if header.store_id != store_id {
            return Err(JournalError::WrongStore { file: name, expected: store_id, found: header.store_id });
        }
        Ok(Some(Self { file, name, first_seq, seed: Seed::new(store_id), link }))
    }

    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// Its length in bytes, zeros written ahead included.
    pub fn bytes(&self) -> Result<u64, JournalError> {
        self.file.len().map_err(io_error("measure", &self.name))
    }

    /// Where the first frame begins.
    pub fn frames_start() -> u64 {
        segment::HEADER_BYTES as u64
    }

    /// The header of the frame that begins at an offset.
    pub fn frame(&self, offset: u64) -> Result<FrameHead, JournalError> {
        let mut bytes = [0; HEADER_BYTES];
        self.read(offset, &mut bytes)?;
        let decoded = Header::decode(&bytes, self.seed).filter(|(header, _)| header.offset == offset);
        let Some((header, link)) = decoded else {
            return Err(self.corrupt(offset, self.first_seq, "this is no frame header, or its checksum is wrong"));
        };
        let at = FrameAt { segment: self.first_seq, offset, bytes: header.frame_bytes() };
        Ok(FrameHead { at, first_seq: header.first_seq, count: header.count, crc: link.0, header })
    }

    /// A frame's payload, checked. `stored` and `payload` are room to work in.
    pub fn payload<'a>(
        &self,
        head: &FrameHead,
        stored: &'a mut Vec<u8>,
        payload: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], JournalError> {
        let corrupt = |reason| self.corrupt(head.at.offset, head.first_seq, reason);
        stored.resize(head.header.stored_bytes as usize, 0);
        self.read(head.at.offset + HEADER_BYTES as u64, stored)?;
        if self.seed.checksum(stored) != head.header.payload_crc {
            return Err(corrupt("the payload's checksum is wrong"));
        }
        frame::unpack(&head.header, stored, payload).map_err(corrupt)
    }

    /// A piece of the payload of a frame that is stored as it is.
    pub fn piece(&self, frame_offset: u64, payload_offset: u64, buf: &mut [u8]) -> Result<(), JournalError> {
        self.read(frame_offset + HEADER_BYTES as u64 + payload_offset, buf)
    }

    /// Says what is wrong, and where.
    pub fn corrupt(&self, offset: u64, seq: Seq, reason: &'static str) -> JournalError {
        JournalError::Corrupt { file: self.name.clone(), offset, seq, reason }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), JournalError> {
        let read = read_full_at(self.file.as_ref(), offset, buf).map_err(io_error("read", &self.name))?;
        if read < buf.len() {
            return Err(self.corrupt(offset, self.first_seq, "the file ends too early"));
        }
        Ok(())
    }

    pub(super) fn into_reader(self) -> Result<(SegmentReader, Cursor), JournalError> {
        let cursor = Cursor::new(self.seed, self.link, self.first_seq);
        Ok((SegmentReader::new(self.file, self.name)?, cursor))
    }
}
