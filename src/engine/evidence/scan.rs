//! Events by their records: one, or a tenant's in the order of the log.
//!
//! 1. Here whole frames are read, and checked as the journal checks them; the index only says where to begin.

use std::ops::ControlFlow;

use super::fetch::Header;
use super::format::RecordEntry;
use super::live::{Sealed, Who};
use super::memory::MemoryIndex;
use super::sidecar::Unusable;
use super::{EvidenceError, EvidenceEvent, Found, Inner};
use crate::engine::record::{EventRecord, RecordError, events_at};
use crate::journal::{self, FrameHead, SegmentFile};
use crate::model::{Seq, Timestamp};

/// Which part of the log is scanned.
pub struct Scan<'a> {
    pub tenant: Option<&'a str>,
    pub after: Seq,
    pub to: Seq,
    /// Of the journal, in bytes; the frame in which they are used up is still read.
    pub bytes: u64,
}

/// Which of a segment's Events records.
#[derive(Clone, Copy)]
enum Pick {
    First,
    /// The newest that begins with this seq or before.
    Before(Seq),
}

/// Room to read frames in.
#[derive(Default)]
struct Room {
    stored: Vec<u8>,
    unpacked: Vec<u8>,
}

type Visit<'v> = &'v mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>;

impl Inner {
    pub fn scan(&self, scan: &Scan<'_>, visit: Visit<'_>) -> Result<Option<Seq>, EvidenceError> {
        let durable = self.caught_up()?.1;
        let to = scan.to.min(durable);
        let (mut after, mut bytes, mut room) = (scan.after, 0, Room::default());
        while after < to {
            let Some((segment, next)) = self.segment_of(after.next())? else { return Ok(None) };
            after = after.max(Seq(segment.first_seq().0 - 1));
            let mut offset = self.frame_before(&segment, after.next())?;
            let end = segment.bytes()?;
            while after < to && offset < end {
                let head = segment.frame(offset)?;
                let last = Seq(head.first_seq.0 + u64::from(head.count)).0 - 1;
                offset += head.at.bytes;
                if last <= after.0 {
                    continue;
                }
                if bytes > 0 && bytes >= scan.bytes {
                    return Ok(Some(after));
                }
                bytes += head.at.bytes;
                let stopped = visit_frame(&segment, &head, (scan.tenant, after, to), &mut room, visit)?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                after = Seq(last);
            }
            if after < to && next.is_none_or(|next| next > after.next()) {
                return Err(segment.corrupt(offset, after.next(), "the segment ends before what is durable").into());
            }
        }
        Ok(None)
    }

    pub fn one(&self, seq: Seq, visit: &mut dyn FnMut(&EvidenceEvent<'_>)) -> Result<Found, EvidenceError> {
        let durable = self.caught_up()?.1;
        if seq == Seq::ZERO || seq > durable {
            return Ok(Found::No);
        }
        let Some((segment, _)) = self.segment_of(seq)? else { return Ok(Found::Expired) };
        if segment.first_seq() > seq {
            return Ok(Found::Expired);
        }
        let head = segment.frame(self.frame_before(&segment, seq)?)?;
        let mut found = Found::No;
        let mut visit = |event: &EvidenceEvent<'_>| {
            found = Found::Yes;
            visit(event);
            ControlFlow::Break(())
        };
        visit_frame(&segment, &head, (None, Seq(seq.0 - 1), seq), &mut Room::default(), &mut visit)?;
        Ok(found)
    }

    pub fn oldest(&self) -> Result<Seq, EvidenceError> {
        Ok(journal::segments(&*self.disk)?.first().copied().unwrap_or(Seq(1)))
    }

    pub fn kept_from(&self) -> Result<Option<Timestamp>, EvidenceError> {
        drop(self.caught_up()?);
        let segments = journal::segments(&*self.disk)?;
        if segments.first().is_none_or(|oldest| *oldest == Seq(1)) {
            return Ok(None);
        }
        for segment in segments {
            if let Some(record) = self.record(segment, Pick::First)? {
                return Ok(Timestamp::from_micros(record.received_at).ok());
            }
        }
        Ok(None)
    }

    /// The segment that holds this record, or else the first one behind it, and where the one after it begins.
    fn segment_of(&self, seq: Seq) -> Result<Option<(SegmentFile, Option<Seq>)>, EvidenceError> {
        let segments = journal::segments(&*self.disk)?;
        let at = segments.partition_point(|first| *first <= seq).saturating_sub(1);
        for (index, first) in segments.iter().enumerate().skip(at) {
            if let Some(file) = SegmentFile::open(&*self.disk, self.store_id, *first)? {
                return Ok(Some((file, segments.get(index + 1).copied())));
            }
        }
        Ok(None)
    }

    /// A frame's offset from which on all events from this seq on are found.
    fn frame_before(&self, segment: &SegmentFile, seq: Seq) -> Result<u64, EvidenceError> {
        let record = self.record(segment.first_seq(), Pick::Before(seq))?;
        Ok(record.map_or(SegmentFile::frames_start(), |record| record.frame))
    }

    fn record(&self, segment: Seq, pick: Pick) -> Result<Option<RecordEntry>, EvidenceError> {
        if let Some(open) = self.live.lock().open().filter(|open| open.segment == segment) {
            return Ok(pick.of_memory(open));
        }
        match pick.of_sealed(&self.sealed(segment, Who::Reader)?) {
            Ok(record) => Ok(record),
            Err(why) => {
                let record = pick.of_sealed(&self.make_anew(segment, &why, Who::Reader)?);
                record.map_err(|why| EvidenceError::Sidecar { segment, why: why.to_string() })
            }
        }
    }
}

impl Pick {
    fn of_sealed(self, sealed: &Sealed) -> Result<Option<RecordEntry>, Unusable> {
        match (sealed, self) {
            (Sealed::Gone, _) => Ok(None),
            (Sealed::Memory(index), _) => Ok(self.of_memory(index)),
            (Sealed::Sidecar(sidecar), Pick::First) => sidecar.first_record(),
            (Sealed::Sidecar(sidecar), Pick::Before(seq)) => sidecar.record_before(seq),
        }
    }

    fn of_memory(self, index: &MemoryIndex) -> Option<RecordEntry> {
        match self {
            Pick::First => index.records().first().copied(),
            Pick::Before(seq) => index.record_before(seq),
        }
    }
}

/// Shows a frame's events behind `after` up to `to`, of one tenant or of all; answers with the one that it was stopped at.
fn visit_frame(
    segment: &SegmentFile,
    head: &FrameHead,
    (tenant, after, to): (Option<&str>, Seq, Seq),
    room: &mut Room,
    visit: Visit<'_>,
) -> Result<Option<Seq>, EvidenceError> {
    let refuse = |source| EvidenceError::record(segment.first_seq(), head.at.offset, source);
    let payload = segment.payload(head, &mut room.stored, &mut room.unpacked)?;
    for record in events_at(payload) {
        let record = record.map_err(refuse)?;
        let first = head.first_seq.plus(record.first);
        let end = first.plus(u64::from(record.events.count));
        if end <= after.next() || first > to || tenant.is_some_and(|tenant| tenant != record.events.tenant) {
            continue;
        }
        let events = record.events.slices();
        let header = Header::new(record.events);
        for (seq, bytes) in (first.0..).map(Seq).zip(events) {
            let bytes = bytes.map_err(refuse)?;
            if seq <= after || seq > to {
                continue;
            }
            let event = EventRecord::read(bytes).ok_or(refuse(RecordError::Malformed(record.offset)))?;
            if visit(&header.show(seq, event)).is_break() {
                return Ok(Some(seq));
            }
        }
    }
    Ok(None)
}
