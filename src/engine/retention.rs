//! Old segments of the journal go, as `[journal] retention` says; before the first of them goes, the store is kept as a
//! base checkpoint, so that everything can be rebuilt from there.
//!
//! ```text
//!            keeper (a thread)                              journal (its thread)
//! segments ◀────────────────────────── desk ◀────────────── a segment was sealed
//! the rule says: up to record N may go
//! base at P ≥ N: checkpoint, rename, sync
//! up to N may go ────────────────────▶ desk ──────────────▶ removes them, one between two groups
//! ```
//!
//! 1. A segment goes only if its last record ≤ the newest base's position, and that is a persisted one: what is
//!    in no segment is in the base and in the store, on disk.
//! 2. The base comes first, whole and synced. A crash at any point leaves a directory that opens and verifies; the next
//!    run removes what is half done, and goes on.
//! 3. Only the journal's thread removes segments, and only the keeper makes bases.
//! 4. A journal without its beginning and without a base (it was removed by hand) gets a base at once: from then on it
//!    can be verified again.
//! 5. A segment's age is told by the first record of effective time behind it: that is in the log, so it survives
//!    restarts and copies, and an unbelieved jump of the clock makes nothing older.
//!
//! Why not more often: a base keeps the store's files of its time. It stays the base of everything behind it until a
//! segment is to go that it does not cover.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use parking_lot::{Condvar, Mutex};

use crate::engine::record::{self, Record};
use crate::env::{Clock, Disk};
use crate::journal::look::{self, Frame};
use crate::journal::{JournalError, ReplayError, SegmentInfo};
use crate::metrics::BASE_POSITION;
use crate::model::{Duration, Seq, Timestamp};
use crate::store::{Bases, Store, StoreError};

mod rule;

pub use rule::Rule;

/// How often the keeper looks when no segment is sealed.
const LOOK_EVERY: StdDuration = StdDuration::from_secs(60);

/// What is kept, and where bases go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub rule: Rule,
    /// The data directory, in which the store keeps bases. None: there is no place for them, so everything is kept.
    pub directory: Option<PathBuf>,
}

/// Where the journal's thread and the keeper meet.
#[derive(Default)]
pub struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeskState {
    /// Oldest first, the last one being appended to.
    segments: Vec<SegmentInfo>,
    is_news: bool,
    removable: Seq,
    ended: bool,
}

impl Desk {
    /// The journal's segments have changed.
    pub fn publish(&self, segments: Vec<SegmentInfo>) {
        let mut state = self.state.lock();
        (state.segments, state.is_news) = (segments, true);
        self.changed.notify_all();
    }

    /// Segments that end here or before may be removed.
    pub fn removable(&self) -> Seq {
        self.state.lock().removable
    }

    fn allow(&self, removable: Seq) {
        let mut state = self.state.lock();
        state.removable = state.removable.max(removable);
    }

    /// The journal is closed: the keeper ends too.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// The segments, once they have changed or it is time to look again; None once the journal is closed.
    fn wait(&self) -> Option<Vec<SegmentInfo>> {
        let mut state = self.state.lock();
        if !state.is_news && !state.ended {
            self.changed.wait_for(&mut state, LOOK_EVERY);
        }
        state.is_news = false;
        (!state.ended).then(|| state.segments.clone())
    }
}

/// Tells the keeper that the journal's thread has ended, however that came.
pub struct DeskOfJournal(pub Arc<Desk>);

impl Drop for DeskOfJournal {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Decides what goes, and makes bases.
pub struct Keeper {
    pub disk: Arc<dyn Disk>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    rule: Rule,
    bases: Bases,
    /// The newest base's position; None before the first look at the disk.
    base: Option<Option<Seq>>,
    /// When a base was taken in this run.
    taken_at: Option<Duration>,
    /// By a segment's first seq: the first effective time in it, once it is sealed or that is known.
    times: BTreeMap<Seq, Option<Timestamp>>,
}

impl Keeper {
    /// None if there is no place for bases.
    pub fn new(
        retention: &Retention,
        disk: Arc<dyn Disk>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Option<Self> {
        let bases = Bases::new(retention.directory.as_ref()?);
        let (rule, times) = (retention.rule, BTreeMap::new());
        Some(Self { disk, store, clock, rule, bases, base: None, taken_at: None, times })
    }

    /// Looks whenever a segment was sealed, and now and then. `now` is the time that is believed.
    pub fn run(mut self, desk: &Desk, now: &dyn Fn() -> Option<Timestamp>) {
        while let Some(segments) = desk.wait() {
            match self.look(&segments, now()) {
                Ok(removable) => desk.allow(removable),
                Err(error) => {
                    tracing::warn!("old journal segments cannot be removed now, it will be tried again: {error}");
                }
            }
        }
    }

    /// What may be removed: segments that end at this record or before.
    pub fn look(&mut self, segments: &[SegmentInfo], now: Option<Timestamp>) -> Result<Seq, KeeperError> {
        let Some((newest, sealed)) = segments.split_last() else { return Ok(Seq::ZERO) };
        let first = sealed.first().unwrap_or(newest).first_seq;
        let base = match self.base {
            Some(base) => base,
            None => self.bases.tidy()?.map(|base| base.position),
        };
        self.note_base(base);
        let expendable = self.expendable(segments, now)?;
        let wanted = sealed[..expendable].last().map_or(Seq::ZERO, |segment| segment.last_seq);
        let ago = self
            .taken_at
            .map(|at| Duration::from_micros((self.clock.monotonic().micros() - at.micros()).unsigned_abs()));
        let is_cut_off = first > Seq(1) && base.is_none_or(|base| base.next() < first);
        let due = rule::is_base_due(&sealed[..expendable], base, ago);
        // A store that is behind is asked again once it is not.
        if is_cut_off || due && self.store.position() >= wanted {
            self.take_base(first, wanted)?;
        }
        let base = self.base.flatten().unwrap_or(Seq::ZERO);
        Ok(sealed[..expendable]
            .iter()
            .rev()
            .map(|segment| segment.last_seq)
            .find(|last| *last <= base)
            .unwrap_or(Seq::ZERO))
    }

    fn take_base(&mut self, first: Seq, wanted: Seq) -> Result<(), KeeperError> {
        let base = self.bases.take(&*self.store)?;
        self.taken_at = Some(self.clock.monotonic());
        let (position, first, wanted) = (base.position.0, first.0, wanted.0);
        tracing::info!(position, first, up_to = wanted, "base checkpoint taken, so that old journal segments may go");
        self.note_base(Some(base.position));
        Ok(())
    }

    fn note_base(&mut self, base: Option<Seq>) {
        self.base = Some(base);
        metrics::gauge!(BASE_POSITION).set(base.unwrap_or_default().0 as f64);
    }

    fn expendable(&mut self, segments: &[SegmentInfo], now: Option<Timestamp>) -> Result<usize, JournalError> {
        let sealed = &segments[..segments.len() - 1];
        self.times = segments.first().map_or(BTreeMap::new(), |oldest| self.times.split_off(&oldest.first_seq));
        let (rule, mut failed) = (self.rule, None);
        let count = rule.expendable(sealed, now, |index| {
            let ended = self.first_time(&segments[index + 1..]);
            ended.unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        });
        failed.map_or(Ok(count), Err)
    }

    /// The first effective time in these segments.
    fn first_time(&mut self, segments: &[SegmentInfo]) -> Result<Option<Timestamp>, JournalError> {
        for (index, segment) in segments.iter().enumerate() {
            let time = match self.times.get(&segment.first_seq) {
                Some(time) => *time,
                None => {
                    let time = read_first_time(&*self.disk, segment.first_seq)?;
                    // What the newest segment does not have yet it may still get.
                    if time.is_some() || index + 1 < segments.len() {
                        self.times.insert(segment.first_seq, time);
                    }
                    time
                }
            };
            if time.is_some() {
                return Ok(time);
            }
        }
        Ok(None)
    }
}

/// The first effective time that a segment tells. While events arrive there is one a second.
fn read_first_time(disk: &dyn Disk, segment: Seq) -> Result<Option<Timestamp>, JournalError> {
    let told = |frame: Frame<'_>| {
        let times = record::records(frame.payload).map_while(Result::ok).find_map(|record| match record {
            Record::Genesis(genesis) => Some(genesis.created_at),
            Record::Tick { effective, .. } | Record::ClockReset { effective, .. } => Some(effective),
            _ => None,
        });
        times.map_or(Ok(()), Err)
    };
    match look::frames(disk, segment, &mut |frame| told(frame)) {
        Ok(_) => Ok(None),
        Err(ReplayError::Visit(time)) => Ok(Some(time)),
        Err(ReplayError::Journal(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
