//! From segment files to frames: replay, and the tail rule.
//!
//! The walk goes frame by frame through every segment that may hold a record after `start.after`, and stops at the
//! first place that is not a good frame. There, with *next* the seq that a frame should begin with:
//!
//! | found | verdict |
//! | --- | --- |
//! | a later segment, and this one ends at the end of its file just before the later one's first seq | go on with it |
//! | a later segment otherwise | corrupt: a segment is sealed (cut to its frames and synced) before the next is made |
//! | *next* ≤ `start.floor` or `start.after` | corrupt: the store holds records that the journal should |
//! | a later frame header that calls this offset, or *next*, durable | corrupt |
//! | none of these, and only zeros | the end |
//! | none of these | a torn tail: cut |
//!
//! **A cut drops nothing that was acknowledged, unless the disk damaged it.** Acknowledged is what a sync that
//! returned success covers. Let the cut be at offset *c* of the newest segment.
//!
//! 1. Bytes before a successful sync are on the disk as written, whatever crash follows: the writer never touches
//!    them again, save to write the same bytes (5.), and a sector is written whole or not at all.
//! 2. So the frames of successful syncs form a prefix of good frames, each chained to the one before, and the walk
//!    passes all of them. The cut at *c* is behind them, whatever half-written frames lie beyond.
//! 3. If damage hits a frame before *c*' < end of that prefix, the walk stops too early, at *c*'. Every frame that was
//!    written after a sync that covered *c*' says so in `durable bytes`, and every later segment says so by being
//!    there. Then the verdict is *corrupt*, not *torn*. It is enough that one such header is readable.
//! 4. What is left undetectable: damage in the frames of the newest successful sync, with no later header written. Nothing
//!    on the disk tells these from a torn write, except the store's position (`floor`). The empty frame that
//!    `append_watermark` adds shrinks the remainder to that empty frame.
//! 5. After a *failed* sync the page cache may show frames that the disk lacks, and the next sync of an untouched
//!    page says nothing about it. So recovery writes the bytes that no later header calls durable again, and syncs
//!    them, before it lets anything rest on them.
//! 6. A cut writes zeros over everything beyond, and syncs, before the next append: no stale frame can follow
//!    a new one. Should these zeros be lost (a failed sync that the cache then hides), the next recovery, which sees
//!    nothing to cut, writes zeros over the place of the next header all the same; stale frames farther on are refused
//!    by the chain, and their `durable bytes` ≤ *c* make them no witnesses against a later cut.

use std::io;
use std::path::Path;

use super::error::{JournalError, ReplayError, io_error};
use super::frame::{self, Link, Seed};
use super::reader::{Cursor, SegmentReader, Step};
use super::segment::{self, SegmentHeader, SegmentHeaderError};
use super::{Cut, DIRECTORY, FrameAt, FrameView, Recovered, SegmentInfo, Start, StoreId};
use crate::env::disk::read_full_at;
use crate::env::{Disk, DiskFile};
use crate::model::Seq;

/// Zeros and rewritten bytes go out in pieces of this length.
const WRITE_BYTES: usize = 1 << 20;

pub(super) type Open<'a> = &'a dyn Fn(&Path) -> io::Result<Box<dyn DiskFile>>;

/// A segment whose header is good. It is not held open: there may be more of them than a process may open files.
pub(super) struct Found {
    pub name: String,
    pub header: SegmentHeader,
    pub link: Link,
    pub len: u64,
}

/// The journal as it was found, before anything is changed.
pub(super) struct Scan {
    pub store_id: StoreId,
    /// All but the newest.
    pub sealed: Vec<SegmentInfo>,
    pub newest_name: String,
    pub newest_first_seq: Seq,
    pub cursor: Cursor,
    pub recovered: Recovered,
    pub file: Box<dyn DiskFile>,
}

/// What the tail rule says of a newest segment that is not corrupt.
enum Tail {
    Ends(Option<Cut>),
    /// A daemon appended while `read` was reading: what was not there yet when it was read is there now.
    Grew,
}

/// Reads the journal without changing a byte, for `meterd verify`; a daemon may be appending meanwhile, whose
/// unfinished frame then shows as `cut`. Visits frames as [`super::Journal::recover`] does.
pub fn read<E>(
    disk: &dyn Disk,
    start: Start,
    visit: &mut dyn FnMut(FrameView<'_>) -> Result<(), E>,
) -> Result<Recovered, ReplayError<E>> {
    scan(disk, start, &|path| disk.open_read_only(path), visit).map(|scan| scan.recovered)
}

/// Whether there is at least one segment.
pub fn exists(disk: &dyn Disk) -> Result<bool, JournalError> {
    match disk.list(Path::new(DIRECTORY)) {
        Ok(names) => Ok(names.iter().any(|name| segment::parse_file_name(name).is_some())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("list", DIRECTORY)(error)),
    }
}

pub(super) fn scan<E>(
    disk: &dyn Disk,
    start: Start,
    open: Open<'_>,
    visit: &mut dyn FnMut(FrameView<'_>) -> Result<(), E>,
) -> Result<Scan, ReplayError<E>> {
    let segments = find_segments(disk, start.store_id, open)?;
    let skip = first_to_read(&segments, start.after.next())?;
    let mut sealed = sealed_before(&segments, skip);
    let mut recovered = Recovered { last: Seq::ZERO, frames: 0, bytes: 0, cut: None };
    let mut previous: Option<Cursor> = None;
    for (index, found) in segments.iter().enumerate().skip(skip) {
        if let Some(previous) = &previous {
            check_follows(previous, found)?;
        }
        let segment = found.header.first_seq;
        let mut reader = open_segment(found, open)?;
        let mut cursor = Cursor::new(Seed::new(found.header.store_id), found.link, segment);
        let mut stopped = walk(&mut reader, &mut cursor, segment, start.after, &mut recovered, visit)?;
        if let Some(next) = segments.get(index + 1) {
            check_sealed(&reader, &cursor, stopped, next.header.first_seq)?;
            sealed.push(sealed_info(found, next));
            previous = Some(cursor);
            continue;
        }
        recovered.cut = loop {
            match judge_tail(&mut reader, &cursor, stopped, start)? {
                Tail::Ends(cut) => break cut,
                Tail::Grew => {
                    stopped = walk(&mut reader, &mut cursor, segment, start.after, &mut recovered, visit)?;
                }
            }
        };
        recovered.last = Seq(cursor.next.0 - 1);
        return Ok(Scan {
            store_id: found.header.store_id,
            sealed,
            newest_name: found.name.clone(),
            newest_first_seq: segment,
            cursor,
            recovered,
            file: reader.into_file(),
        });
    }
    Err(JournalError::NoJournal.into())
}

pub(super) fn open_segment(found: &Found, open: Open<'_>) -> Result<SegmentReader, JournalError> {
    let display = segment::display(&found.name);
    let file = open(&segment::path(&found.name)).map_err(io_error("open", &display))?;
    SegmentReader::new(file, display)
}

/// Checks every segment's header and name; at least one.
pub(super) fn find_segments(
    disk: &dyn Disk,
    store_id: Option<StoreId>,
    open: Open<'_>,
) -> Result<Vec<Found>, JournalError> {
    if !exists(disk)? {
        return Err(JournalError::NoJournal);
    }
    let names = disk.list(Path::new(DIRECTORY)).map_err(io_error("list", DIRECTORY))?;
    let mut segments: Vec<Found> = Vec::new();
    for name in names {
        let Some(first_seq) = segment::parse_file_name(&name) else { continue };
        let found = find_segment(first_seq, open)?;
        let expected =
            store_id.or(segments.first().map(|first| first.header.store_id)).unwrap_or(found.header.store_id);
        if found.header.store_id != expected {
            let file = segment::display(&name);
            return Err(JournalError::WrongStore { file, expected, found: found.header.store_id });
        }
        segments.push(found);
    }
    Ok(segments)
}

/// Checks one segment's header against its name.
pub(super) fn find_segment(first_seq: Seq, open: Open<'_>) -> Result<Found, JournalError> {
    let name = segment::file_name(first_seq);
    let display = segment::display(&name);
    let file = open(&segment::path(&name)).map_err(io_error("open", &display))?;
    let len = file.len().map_err(io_error("measure", &display))?;
    let mut bytes = [0; segment::HEADER_BYTES];
    let read = read_full_at(file.as_ref(), 0, &mut bytes).map_err(io_error("read", &display))?;
    let corrupt = |reason| JournalError::Corrupt { file: display.clone(), offset: 0, seq: first_seq, reason };
    let (header, link) = match SegmentHeader::decode(&bytes[..read]) {
        Ok(decoded) => decoded,
        Err(SegmentHeaderError::Corrupt(reason)) => return Err(corrupt(reason)),
        Err(SegmentHeaderError::Newer(version)) => return Err(JournalError::OtherFormat { file: display, version }),
    };
    if header.first_seq != first_seq {
        return Err(corrupt("the segment header does not agree with the file's name"));
    }
    Ok(Found { name, header, link, len })
}

/// The index of the segment that holds `wanted`, or would. Older ones are not read: nothing rests on them but evidence.
fn first_to_read(segments: &[Found], wanted: Seq) -> Result<usize, JournalError> {
    let at_or_before = segments.iter().rposition(|found| found.header.first_seq <= wanted);
    at_or_before.ok_or_else(|| missing(wanted, &segments[0]))
}

fn missing(expected: Seq, found: &Found) -> JournalError {
    JournalError::MissingSegment { file: segment::display(&found.name), expected, found: found.header.first_seq }
}

fn sealed_before(segments: &[Found], end: usize) -> Vec<SegmentInfo> {
    segments[..end].iter().zip(&segments[1..]).map(|(found, next)| sealed_info(found, next)).collect()
}

fn sealed_info(found: &Found, next: &Found) -> SegmentInfo {
    let last_seq = Seq(next.header.first_seq.0 - 1);
    SegmentInfo { first_seq: found.header.first_seq, last_seq, bytes: found.len }
}

/// Goes as far as frames are good. The reason why not further; None at zeros or the file's end.
fn walk<E>(
    reader: &mut SegmentReader,
    cursor: &mut Cursor,
    segment: Seq,
    after: Seq,
    recovered: &mut Recovered,
    visit: &mut dyn FnMut(FrameView<'_>) -> Result<(), E>,
) -> Result<Option<&'static str>, ReplayError<E>> {
    let mut scratch = Vec::new();
    loop {
        let (header, link, stored) = match reader.step(cursor)? {
            Step::End => return Ok(None),
            Step::Bad(reason) => return Ok(Some(reason)),
            Step::Frame { header, link, stored } => (header, link, stored),
        };
        let end = header.first_seq.plus(u64::from(header.count));
        if header.count > 0 && end > after.next() {
            let payload = match frame::unpack(&header, stored, &mut scratch) {
                Ok(payload) => payload,
                Err(reason) => return Err(reader.corrupt(cursor, reason).into()),
            };
            let at = FrameAt { segment, offset: cursor.offset, bytes: header.frame_bytes() };
            visit(FrameView { first_seq: header.first_seq, count: header.count, payload, durable: header.durable, at })
                .map_err(ReplayError::Visit)?;
            recovered.frames += 1;
            recovered.bytes += at.bytes;
        }
        cursor.advance(&header, link);
    }
}

/// The segment before ended where this one begins, with the frame that this one names.
fn check_follows(previous: &Cursor, found: &Found) -> Result<(), JournalError> {
    if previous.next != found.header.first_seq {
        return Err(missing(previous.next, found));
    }
    if previous.link != found.header.previous {
        let reason = "the segment does not follow the one before it";
        let file = segment::display(&found.name);
        return Err(JournalError::Corrupt { file, offset: 0, seq: previous.next, reason });
    }
    Ok(())
}

/// A segment that another follows holds good frames to its last byte, up to the other's first record.
fn check_sealed(
    reader: &SegmentReader,
    cursor: &Cursor,
    stopped: Option<&'static str>,
    next_segment: Seq,
) -> Result<(), JournalError> {
    if let Some(reason) = stopped {
        return Err(reader.corrupt(cursor, reason));
    }
    if cursor.offset != reader.len() {
        return Err(reader.corrupt(cursor, "there are zeros where a frame should be, and a later segment exists"));
    }
    if cursor.next > next_segment {
        return Err(reader.corrupt(cursor, "the next segment begins before this one ends"));
    }
    Ok(())
}

/// The tail rule, for the newest segment; see the module's text.
fn judge_tail(
    reader: &mut SegmentReader,
    cursor: &Cursor,
    stopped: Option<&'static str>,
    start: Start,
) -> Result<Tail, JournalError> {
    if cursor.next <= start.floor.max(start.after) {
        let reason = stopped.unwrap_or("the journal ends before what the store holds");
        return Err(reader.corrupt(cursor, reason));
    }
    let beyond = reader.look_beyond(cursor)?;
    if beyond.witness.is_some() {
        reader.forget();
        if matches!(reader.step(cursor)?, Step::Frame { .. }) {
            return Ok(Tail::Grew);
        }
        let reason =
            stopped.unwrap_or("there are zeros where a frame should be, and a later frame was written after it");
        return Err(reader.corrupt(cursor, reason));
    }
    let (offset, bytes) = (cursor.offset, beyond.end - cursor.offset);
    Ok(Tail::Ends((bytes > 0).then(|| Cut { file: reader.name().to_owned(), offset, bytes })))
}

impl Scan {
    /// Cuts the torn tail and makes what is left durable (see 5. and 6. above); then the journal may be appended to.
    pub fn settle(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        let name = segment::display(&self.newest_name);
        let file = self.file.as_ref();
        let (end, len) = (self.cursor.offset, file.len().map_err(io_error("measure", &name))?);
        let cut_bytes = self.recovered.cut.as_ref().map_or(0, |cut| cut.bytes);
        let zero_bytes = cut_bytes.max((len - end).min(frame::HEADER_BYTES as u64));
        file.write_zeros_at(end, zero_bytes).map_err(io_error("cut", &name))?;
        rewrite(file, self.cursor.durable_bytes, end).map_err(io_error("rewrite", &name))?;
        file.sync_data().map_err(io_error("sync", &name))?;
        remove_temporary(disk)?;
        disk.sync_dir(Path::new(DIRECTORY)).map_err(io_error("sync", DIRECTORY))?;
        disk.sync_dir(Path::new("")).map_err(io_error("sync", "."))
    }
}

/// Removes segments that were being prepared when an earlier run ended.
pub(super) fn remove_temporary(disk: &dyn Disk) -> Result<(), JournalError> {
    let names = disk.list(Path::new(DIRECTORY)).map_err(io_error("list", DIRECTORY))?;
    for name in names.iter().filter(|name| name.ends_with(segment::TEMPORARY_SUFFIX)) {
        disk.remove(&segment::path(name)).map_err(io_error("remove", &segment::display(name)))?;
    }
    Ok(())
}

/// Writes bytes over themselves, so that the next sync covers them.
fn rewrite(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
    let mut buf = vec![0; piece(end.saturating_sub(start))];
    let mut at = start;
    while at < end {
        let take = piece(end - at);
        if read_full_at(file, at, &mut buf[..take])? < take {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_at(at, &buf[..take])?;
        at += take as u64;
    }
    Ok(())
}

fn piece(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(WRITE_BYTES)
}
