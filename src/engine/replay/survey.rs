//! What must be known of the source before its first record is translated.
//!
//! 1. The whole journal is read, and decoded; nothing is folded.
//! 2. It must begin with record 1: what retention has removed cannot be replayed.

use std::collections::{BTreeSet, HashSet};

use super::{ReplayFailed, Source};
use crate::engine::corrections::Cause;
use crate::engine::record::{CapsRecord, ClosedKind, CorrectionRecord, Genesis, Record, records};
use crate::engine::recovery::OpenError;
use crate::engine::state::FoldError;
use crate::journal::{self, FrameView, ReplayError, Start, StoreId, look};
use crate::model::Seq;

/// What a journal holds.
#[derive(Clone, Debug)]
pub struct Survey {
    pub genesis: Genesis,
    /// Its newest record.
    pub last: Seq,
    /// Rows that a sink would get which is there from the beginning.
    pub rows: RowCounts,
    /// Every meter that it ever defined.
    pub(super) slugs: BTreeSet<String>,
    /// Events that were taken back one by one.
    pub(super) voided: HashSet<Seq>,
    /// Backfills that were taken back, or are being.
    pub(super) reverted: HashSet<u32>,
}

impl Survey {
    /// Whether the journal ever defined this meter.
    pub fn has_meter(&self, slug: &str) -> bool {
        self.slugs.contains(slug)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    pub windows: u64,
    pub adjustments: u64,
    pub alerts: u64,
}

/// Reads the source's journal from its first record to its last.
pub fn survey(source: &Source, progress: &mut dyn FnMut(Seq)) -> Result<Survey, ReplayFailed> {
    let mut found = Found::default();
    let last = read(source, &mut |frame| {
        let refuse = |source| OpenError::Fold { segment: frame.at.segment, offset: frame.at.offset, source };
        let mut seq = frame.first_seq;
        for record in records(frame.payload) {
            let record = record.map_err(|error| refuse(error.into()))?;
            found.take(seq, &record).map_err(refuse)?;
            seq = seq.plus(record.seqs());
        }
        progress(frame.first_seq);
        Ok(())
    })?;
    let Found { genesis, rows, slugs, voided, reverted } = found;
    let genesis = genesis.ok_or(OpenError::NoGenesis)?;
    Ok(Survey { genesis, last, rows, slugs, voided, reverted })
}

/// Shows every frame of a journal that has its beginning; answers with its newest record.
pub(super) fn read(
    source: &Source,
    visit: &mut dyn FnMut(&FrameView<'_>) -> Result<(), ReplayFailed>,
) -> Result<Seq, ReplayFailed> {
    let (floor, store_id) = (source.store.position(), source.store.store_id().map_err(OpenError::from)?.map(StoreId));
    let oldest = look::segments(&*source.disk).map_err(OpenError::from)?.first().map(|oldest| oldest.first_seq);
    if let Some(first) = oldest.filter(|first| *first > Seq(1)) {
        return Err(ReplayFailed::NoBeginning(first));
    }
    let start = Start { after: Seq::ZERO, floor, store_id };
    let read = journal::read(&*source.disk, start, &mut |frame| visit(&frame));
    let read = read.map_err(|error| match error {
        ReplayError::Journal(error) => OpenError::from(error).into(),
        ReplayError::Visit(error) => error,
    })?;
    if read.last < floor {
        return Err(OpenError::JournalBehind { journal: read.last, store: floor }.into());
    }
    Ok(read.last)
}

/// Shows every record of a journal that has its beginning, with its frame; answers with the newest record's number.
pub fn read_all(
    source: &Source,
    visit: &mut dyn FnMut(&FrameView<'_>, &Record<'_>) -> Result<(), ReplayFailed>,
) -> Result<Seq, ReplayFailed> {
    read(source, &mut |frame| {
        let refuse = |source| OpenError::Fold { segment: frame.at.segment, offset: frame.at.offset, source };
        for record in records(frame.payload) {
            visit(frame, &record.map_err(|error| refuse(error.into()))?)?;
        }
        Ok(())
    })
}

#[derive(Default)]
struct Found {
    genesis: Option<Genesis>,
    rows: RowCounts,
    slugs: BTreeSet<String>,
    voided: HashSet<Seq>,
    reverted: HashSet<u32>,
}

impl Found {
    fn take(&mut self, seq: Seq, record: &Record<'_>) -> Result<(), FoldError> {
        match record {
            Record::Genesis(genesis) => self.genesis = Some(*genesis),
            Record::MeterVersion(_, definition) => {
                self.slugs.insert(definition.slug.clone());
            }
            Record::Events(events) => {
                for event in events.iter() {
                    self.rows.adjustments += event?.feeds.iter().filter(|feed| feed.late).count() as u64;
                }
            }
            Record::Closed(closed) if closed.kind == ClosedKind::Windows => {
                self.rows.windows += closed.series.len() as u64;
            }
            Record::Caps(CapsRecord::Alert(_)) => self.rows.alerts += 1,
            Record::Correction(CorrectionRecord::Retracted { retraction, .. }) => {
                let windows = retraction.changes.iter().flat_map(|change| &change.windows);
                self.rows.adjustments += windows.filter(|window| window.is_final).count() as u64;
                match &retraction.cause {
                    Cause::Void(void) => drop(self.voided.insert(void.event)),
                    Cause::Revert { .. } => {}
                }
            }
            Record::Correction(CorrectionRecord::BackfillReverting { number, .. }) => {
                self.reverted.insert(*number);
            }
            _ => {}
        }
        debug_assert!(seq > Seq::ZERO, "records have numbers from 1");
        Ok(())
    }
}
