//! From a place to the event itself, in the journal.
//!
//! 1. What is read is checked: an event and its record's header by their own checksums, a compressed frame by the
//!    journal's. What does not check is an error that names file, offset and record.
//! 2. An event whose segment is gone is left out.

use std::collections::{HashMap, VecDeque};

use super::format::RecordEntry;
use super::memory::Place;
use super::{EvidenceError, EvidenceEvent, Inner};
use crate::engine::record::{EventRecord, Events, RecordError, read_events_header};
use crate::journal::SegmentFile;
use crate::meter::BillingPeriod;
use crate::model::{Seq, Timestamp};

/// Segments that are held open, headers that are kept, and decompressed payloads.
const SEGMENTS_MAX: usize = 32;
const HEADERS_MAX: usize = 1_024;
const PAYLOADS_MAX: usize = 4;

/// Reads events, and keeps what the next one may need, too.
pub struct Fetch<'a> {
    inner: &'a Inner,
    segments: HashMap<Seq, Option<SegmentFile>>,
    headers: HashMap<(Seq, u64, u32), Header>,
    /// By segment and frame, newest last.
    payloads: VecDeque<((Seq, u64), Vec<u8>)>,
    buf: Vec<u8>,
}

/// What an Events record says of all its events.
pub struct Header {
    tenant: String,
    received_at: Timestamp,
    periods: Vec<BillingPeriod>,
    backfill: Option<u32>,
}

impl Header {
    pub fn new(events: Events<'_>) -> Self {
        let Events { received_at, periods, backfill, .. } = events;
        Self { tenant: events.tenant.to_owned(), received_at, periods, backfill }
    }

    pub fn show<'e>(&'e self, seq: Seq, event: EventRecord<'e>) -> EvidenceEvent<'e> {
        let Self { tenant, received_at, periods, backfill } = self;
        let counted_at = counted_at(&event);
        EvidenceEvent { seq, tenant, received_at: *received_at, counted_at, event, periods, backfill: *backfill }
    }
}

/// An event's timestamp, within its first feed's window.
fn counted_at(event: &EventRecord<'_>) -> Timestamp {
    let Some(window) = event.feeds.first().map(|feed| feed.window) else { return event.timestamp };
    let last = Timestamp::from_micros(window.end.micros() - 1).unwrap_or(window.start);
    event.timestamp.min(last).max(window.start)
}

impl<'a> Fetch<'a> {
    pub fn new(inner: &'a Inner) -> Self {
        let (segments, headers) = (HashMap::new(), HashMap::new());
        Self { inner, segments, headers, payloads: VecDeque::new(), buf: Vec::new() }
    }

    /// Shows one event, unless its segment is gone.
    pub fn event(
        &mut self,
        segment: Seq,
        place: &Place,
        visit: &mut dyn FnMut(&EvidenceEvent<'_>),
    ) -> Result<(), EvidenceError> {
        if !self.open(segment)? {
            return Ok(());
        }
        let Some(Some(file)) = self.segments.get(&segment) else { return Ok(()) };
        let Place { posting, record } = place;
        let seq = Seq(segment.0 + u64::from(posting.seq));
        let damaged = |offset: u32, reason| file.corrupt(record.frame + u64::from(offset), seq, reason);
        if record.is_packed {
            unpack(file, record.frame, &mut self.payloads)?;
        }
        let packed = self.payloads.back().filter(|_| record.is_packed).map(|(_, payload)| payload.as_slice());
        let name = (segment, record.frame, record.offset);
        if !self.headers.contains_key(&name) {
            let bytes = piece(file, packed, record, record.offset, record.header_bytes, &mut self.buf)?;
            if crc32c::crc32c(bytes) != record.header_crc {
                return Err(damaged(record.offset, "the checksum of a record's header is wrong").into());
            }
            let events = read_events_header(bytes).ok_or(RecordError::Malformed(record.offset as usize));
            let events = events.map_err(|source| EvidenceError::record(segment, record.frame, source))?;
            if self.headers.len() >= HEADERS_MAX {
                self.headers.clear();
            }
            self.headers.insert(name, Header::new(events));
        }
        let bytes = piece(file, packed, record, posting.offset, posting.bytes, &mut self.buf)?;
        if crc32c::crc32c(bytes) != posting.crc {
            return Err(damaged(posting.offset, "an event's checksum is wrong").into());
        }
        let event = EventRecord::read(bytes).ok_or(RecordError::Malformed(posting.offset as usize));
        let event = event.map_err(|source| EvidenceError::record(segment, record.frame, source))?;
        if let Some(header) = self.headers.get(&name) {
            visit(&header.show(seq, event));
        }
        Ok(())
    }

    /// False if the segment is gone.
    fn open(&mut self, segment: Seq) -> Result<bool, EvidenceError> {
        if let Some(file) = self.segments.get(&segment) {
            return Ok(file.is_some());
        }
        let file = SegmentFile::open(&*self.inner.disk, self.inner.store_id, segment)?;
        if self.segments.len() >= SEGMENTS_MAX {
            self.segments.clear();
        }
        let is_there = file.is_some();
        self.segments.insert(segment, file);
        Ok(is_there)
    }
}

/// Brings a frame's payload to the back.
fn unpack(file: &SegmentFile, frame: u64, payloads: &mut VecDeque<((Seq, u64), Vec<u8>)>) -> Result<(), EvidenceError> {
    let name = (file.first_seq(), frame);
    if let Some(index) = payloads.iter().position(|(known, _)| *known == name) {
        let known = payloads.remove(index);
        payloads.extend(known);
        return Ok(());
    }
    let (mut stored, mut unpacked) = (Vec::new(), Vec::new());
    let payload = file.payload(&file.frame(frame)?, &mut stored, &mut unpacked)?.to_vec();
    if payloads.len() >= PAYLOADS_MAX {
        payloads.pop_front();
    }
    payloads.push_back((name, payload));
    Ok(())
}

/// A piece of a record's frame: of the payload in memory, or else of the file.
fn piece<'b>(
    file: &SegmentFile,
    packed: Option<&'b [u8]>,
    record: &RecordEntry,
    offset: u32,
    bytes: u32,
    buf: &'b mut Vec<u8>,
) -> Result<&'b [u8], EvidenceError> {
    match packed {
        Some(payload) => {
            let end = u64::from(offset) + u64::from(bytes);
            let piece = usize::try_from(end).ok().and_then(|end| payload.get(offset as usize..end));
            Ok(piece
                .ok_or(RecordError::CutShort(offset as usize))
                .map_err(|source| EvidenceError::record(file.first_seq(), record.frame, source))?)
        }
        None => {
            buf.resize(bytes as usize, 0);
            file.piece(record.frame, u64::from(offset), buf)?;
            Ok(buf)
        }
    }
}
