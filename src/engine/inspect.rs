//! What is on disk, for people who want to see it: segments, frames, one id, one window. Nothing is changed.
//!
//! 1. Journal and store may be in use: the journal is read as far as its frames go, the store as it was last persisted.
//! 2. The dedupe key is used and never shown.

use std::sync::Arc;

use crate::engine::hash::Hasher;
use crate::engine::key;
use crate::engine::record::{self, Events, Record};
use crate::engine::state::{LoadError, State};
use crate::env::Disk;
use crate::journal::look::{self, Frame, SegmentEnd};
use crate::journal::{self, Compression, JournalError, ReplayError, Start};
use crate::model::{EventKey, Fingerprint, Seq};
use crate::store::{Store, StoreError};

mod windows;

pub use windows::{WindowLine, windows};

/// Characters of a record that are shown.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the store has no Genesis record: nothing was folded into it yet")]
    NoGenesis,
}

/// A segment of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentLine {
    pub first_seq: Seq,
    /// One before `first_seq` if it holds no record yet.
    pub last_seq: Seq,
    /// Header and frames, without zeros written ahead. The file's length if the frames were not read.
    pub bytes: u64,
    /// None: they were not read.
    pub frames: Option<u64>,
    pub sealed: bool,
    /// It has an index of its events.
    pub sidecar: bool,
    /// Where its good frames end, and what is wrong there; in the newest it may be a frame that is being written.
    pub damage: Option<(u64, &'static str)>,
}

impl SegmentLine {
    pub fn records(&self) -> u64 {
        self.last_seq.next().0 - self.first_seq.0
    }
}

/// The segments, oldest first. `count`: read their frames, too.
pub fn segments(disk: &dyn Disk, count: bool) -> Result<Vec<SegmentLine>, InspectError> {
    let files = look::segments(disk)?;
    if files.is_empty() {
        return Err(JournalError::NoJournal.into());
    }
    let names = disk.list(journal::DIRECTORY.as_ref()).unwrap_or_default();
    files
        .iter()
        .map(|file| {
            let sidecar = format!("{:020}.idx", file.first_seq.0);
            let sealed = file.last_seq.is_some();
            let mut line = SegmentLine {
                first_seq: file.first_seq,
                last_seq: file.last_seq.unwrap_or(Seq(file.first_seq.0 - 1)),
                bytes: file.bytes,
                frames: None,
                sealed,
                sidecar: names.contains(&sidecar),
                damage: None,
            };
            // Only its frames tell where the newest ends.
            if count || !sealed {
                let mut frames = 0;
                let end = walk(disk, file.first_seq, &mut |_| frames += 1)?;
                (line.frames, line.bytes) = (Some(frames), end.offset);
                line.damage = end.reason.map(|reason| (end.offset, reason));
                let last_seq = Seq(end.next.0 - 1);
                if sealed && line.damage.is_none() && last_seq != line.last_seq {
                    line.damage = Some((end.offset, "its frames end before the next segment begins"));
                }
                line.last_seq = if sealed { line.last_seq } else { last_seq };
            }
            Ok(line)
        })
        .collect()
}

/// A frame of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameLine {
    pub offset: u64,
    pub first_seq: Seq,
    /// 0: it only says what was durable.
    pub count: u32,
    /// Header, payload as stored, and padding.
    pub bytes: u64,
    pub payload_bytes: u64,
    pub compression: Compression,
    pub durable: Seq,
    /// If they were asked for.
    pub records: Vec<RecordLine>,
}

/// A record, or an event of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordLine {
    pub seq: Seq,
    pub kind: String,
    pub text: String,
}

/// The frames of the segment that begins with this record.
pub fn frames(
    disk: &dyn Disk,
    segment: Seq,
    with_records: bool,
    visit: &mut dyn FnMut(FrameLine),
) -> Result<SegmentEnd, InspectError> {
    walk(disk, segment, &mut |frame| visit(frame_line(&frame, with_records)))
}

fn frame_line(frame: &Frame<'_>, with_records: bool) -> FrameLine {
    FrameLine {
        offset: frame.at.offset,
        first_seq: frame.first_seq,
        count: frame.count,
        bytes: frame.at.bytes,
        payload_bytes: frame.payload.len() as u64,
        compression: frame.compression,
        durable: frame.durable,
        records: if with_records { lines(frame.first_seq, frame.payload) } else { Vec::new() },
    }
}

fn walk(disk: &dyn Disk, segment: Seq, visit: &mut dyn FnMut(Frame<'_>)) -> Result<SegmentEnd, InspectError> {
    let walked = look::frames(disk, segment, &mut |frame| {
        visit(frame);
        Ok::<_, std::convert::Infallible>(())
    });
    walked.map_err(|error| match error {
        ReplayError::Journal(error) => error.into(),
        ReplayError::Visit(never) => match never {},
    })
}

/// One line for each seq of a payload.
fn lines(first: Seq, payload: &[u8]) -> Vec<RecordLine> {
    let (mut seq, mut lines) = (first, Vec::new());
    for record in record::records(payload) {
        match &record {
            Ok(Record::Events(events)) => {
                lines.extend(event_lines(seq, events));
                seq = seq.plus(u64::from(events.count));
            }
            Ok(record) => {
                let (kind, text) = described(record);
                lines.push(RecordLine { seq, kind, text });
                seq = seq.plus(record.seqs());
            }
            Err(error) => lines.push(RecordLine { seq, kind: "undecodable".into(), text: error.to_string() }),
        }
    }
    lines
}

fn event_lines<'a>(first: Seq, events: &'a Events<'a>) -> impl Iterator<Item = RecordLine> + 'a {
    events.iter().enumerate().map(move |(place, event)| {
        let text = match event {
            Ok(event) => format!(
                "{} {} {} feeds {} {}",
                events.tenant,
                event.customer,
                event.timestamp,
                event.feeds.len(),
                String::from_utf8_lossy(event.raw)
            ),
            Err(error) => error.to_string(),
        };
        RecordLine { seq: first.plus(place as u64), kind: "Event".into(), text: shortened(&text) }
    })
}

/// A record's kind, and what it says: `Sink(Defined { .. })` is of the kind `Sink Defined`.
fn described(record: &Record<'_>) -> (String, String) {
    let text = format!("{record:?}");
    let is_name = |c: char| c.is_ascii_alphanumeric();
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (mut kind, mut rest) = (text[..end].to_owned(), &text[end..]);
    if let Some(inner) = rest.strip_prefix('(')
        && let Some(end) = inner.find(|c| !is_name(c)).filter(|end| *end > 0)
        && inner.starts_with(|c: char| c.is_ascii_uppercase())
        && inner[..end] != kind
    {
        kind = format!("{kind} {}", &inner[..end]);
        rest = &inner[end..];
    }
    (kind, shortened(rest.trim()))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is known of a `usage_event_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdLine {
    /// The hash that the index knows it by.
    pub key: EventKey,
    pub entry: Option<EntryLine>,
    /// Ids below it are forgotten.
    pub horizon: Seq,
    /// The store's position; what the journal holds beyond it was looked through too.
    pub position: Seq,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryLine {
    /// The record that accepted it.
    pub seq: Seq,
    pub fingerprint: Fingerprint,
    /// It is forgotten: the same id would be accepted anew.
    pub below_horizon: bool,
    /// The frame that holds the record; None: its segment was removed.
    pub frame: Option<(Seq, FrameLine)>,
    pub event: Option<RecordLine>,
}

/// Looks an id up, in the index and in what the journal holds beyond the store's position.
pub fn id(
    disk: &dyn Disk,
    store: &Arc<dyn Store>,
    (tenant, source, usage_event_id): (&str, &str, &str),
) -> Result<IdLine, InspectError> {
    let head = State::load_head(store)?;
    let genesis = head.genesis().ok_or(InspectError::NoGenesis)?;
    let key = Hasher::new(&genesis.dedupe_key).event_key(&mut Vec::new(), tenant, source, usage_event_id);
    let (position, horizon) = (head.position(), head.clock().horizon());
    let mut found = Vec::new();
    store.lookup(&[key], &mut found)?;
    let indexed = found.pop().flatten().map(|entry| (entry.seq, entry.fingerprint));
    let Some((seq, fingerprint)) = newest_in_tail(disk, position, key)?.or(indexed) else {
        return Ok(IdLine { key, entry: None, horizon, position });
    };
    let frame = frame_of(disk, seq)?;
    let event = frame.as_ref().and_then(|(_, frame)| frame.records.iter().find(|line| line.seq == seq)).cloned();
    let entry = EntryLine { seq, fingerprint, below_horizon: seq < horizon, frame, event };
    Ok(IdLine { key, entry: Some(entry), horizon, position })
}

/// The last acceptance of an id after `position`.
fn newest_in_tail(disk: &dyn Disk, position: Seq, key: EventKey) -> Result<Option<(Seq, Fingerprint)>, InspectError> {
    let mut newest = None;
    let start = Start { after: position, ..Start::default() };
    let read = journal::read(disk, start, &mut |frame| {
        let mut seq = frame.first_seq;
        for record in record::records(frame.payload).map_while(Result::ok) {
            if let Record::Events(events) = &record {
                let taken = events.iter().enumerate().filter_map(|(place, event)| Some((place, event.ok()?)));
                let same = taken.filter(|(_, event)| event.key == key).last();
                newest = same.map(|(place, event)| (seq.plus(place as u64), event.fingerprint)).or(newest);
            }
            seq = seq.plus(record.seqs());
        }
        Ok::<_, std::convert::Infallible>(())
    });
    match read {
        Ok(_) => Ok(newest),
        Err(ReplayError::Journal(error)) => Err(error.into()),
        Err(ReplayError::Visit(never)) => match never {},
    }
}

/// The segment and the frame that hold a record, with its lines.
fn frame_of(disk: &dyn Disk, seq: Seq) -> Result<Option<(Seq, FrameLine)>, InspectError> {
    let segments = look::segments(disk)?;
    let Some(segment) = segments.iter().rfind(|segment| segment.first_seq <= seq) else { return Ok(None) };
    let mut found = None;
    walk(disk, segment.first_seq, &mut |frame| {
        if (frame.first_seq..frame.first_seq.plus(u64::from(frame.count))).contains(&seq) {
            found = Some((segment.first_seq, frame_line(&frame, true)));
        }
    })?;
    Ok(found)
}

/// A series' dimension values with their names.
fn dimensions(state: &State, name: &key::SeriesName<'_>) -> Vec<(String, Option<String>)> {
    let definition = state.definitions().iter().find(|definition| definition.slug == name.meter);
    let names = definition.iter().flat_map(|definition| definition.dimensions.iter().map(|(name, _)| name.clone()));
    names.zip(name.dimensions.iter().map(|value| value.map(str::to_owned))).collect()
}

#[cfg(test)]
mod tests;
