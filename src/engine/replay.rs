//! Replay: the journal of one directory translated, record by record, into the journal and the store of another.
//!
//! | record of the source | in the replay |
//! | --- | --- |
//! | Genesis | another store id; the dedupe key stays, so that ids and members mean the same |
//! | – | right after it: the meters that are new, and the sinks that everything is sent to again |
//! | Events | the same decisions; each new meter that wants the event is fed from its text, see `events` |
//! | Tick | the same; new meters' windows that are due by it are closed behind it |
//! | sinks and deliveries | left out: nothing was sent from there |
//! | any other | the same, with the seqs and meters' numbers that it has here |
//! | – | at the end: what the new config changes of the meters that were there, and caps |
//!
//! 1. It only reads the source, and has no side effect: no listener, no delivery, no network.
//! 2. What was decided stays decided. Only what is new is decided here, by the time of the log.
//! 3. What was taken back never feeds a new meter: its windows begin with what was left in the end.
//! 4. The new directory is marked as restored from its first moment: whoever runs it gets a new incarnation, with every sink
//!    paused. See `docs/decisions/0024`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::SinkDefinition;
use crate::engine::hash::{Hasher, TableHasher};
use crate::engine::record::records;
use crate::engine::recovery::{self, OpenError, restored};
use crate::env::Disk;
use crate::journal;
use crate::meter::{Definition, Meters, PlanCap, Value};
use crate::model::{MeterId, Seq, Timestamp};
use crate::store::Store;

mod compare;
mod events;
mod reduce;
mod seqs;
mod survey;
mod target;
#[cfg(test)]
mod tests;
mod translate;

pub use compare::{Compared, Differing, OnlyIn, Side, compare};
pub(super) use survey::read_all;
pub use survey::{RowCounts, Survey, survey};

use target::Target;
use translate::{Stopped, Translation};

/// A directory: its files, and its store.
#[derive(Clone)]
pub struct Source {
    pub disk: Arc<dyn Disk>,
    pub store: Arc<dyn Store>,
}

/// Windows that start in [from, to).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

impl Range {
    /// All of time.
    pub fn is_all(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    pub fn contains(&self, start: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= start) && self.to.is_none_or(|to| start < to)
    }
}

/// What is to be made of the source.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The meters of the new config.
    pub definitions: Vec<Definition>,
    /// Its caps, by meter's slug.
    pub caps: BTreeMap<String, Vec<PlanCap>>,
    pub range: Range,
    /// Sinks that get everything again.
    pub reissue: Vec<SinkDefinition>,
    /// Random.
    pub store_id: u128,
    pub journal: journal::Options,
    /// Ids after which state is handed to the store.
    pub epoch_ids: usize,
}

/// What an event that was accepted long ago adds to a meter that is new, or why that cannot be told.
#[derive(Clone, Debug)]
pub struct Reading {
    pub meter: MeterId,
    pub feed: Result<(Value, Vec<Option<String>>), String>,
}

/// Reads an event's text again, for new meters.
pub type Reread = Box<dyn FnMut(&str) -> Vec<Reading>>;
/// Makes a reader for these meters, of a directory with this hasher.
pub type MakeReread<'a> = &'a dyn Fn(Arc<Meters>, Hasher) -> Reread;

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The source's newest record, and the replay's.
    pub source: Seq,
    pub replay: Seq,
    pub events: u64,
    /// Events whose windows all lie outside the range.
    pub left_out: u64,
    pub meters: Vec<NewMeter>,
}

/// What became of a meter that the source did not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMeter {
    pub slug: String,
    /// Events that it counts.
    pub fed: u64,
    /// Of them: adjustments.
    pub late: u64,
    /// Events that came too late for a meter with `late = "reject"`.
    pub too_late: u64,
    /// Events of its type that it cannot count; and why the first of them cannot be counted.
    pub unfit: u64,
    pub first_unfit: Option<(Seq, String)>,
}

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailed {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "the journal begins with record {0}: journal.retention has removed what came before, and only a whole history can be \
         replayed or audited"
    )]
    NoBeginning(Seq),
}

/// Fills a new directory. Its disk and store must be empty; `progress` hears of every frame of the source.
pub fn replay(
    (source, survey): (&Source, &Survey),
    (disk, store): (Arc<dyn Disk>, Arc<dyn Store>),
    request: &Request,
    make: MakeReread<'_>,
    progress: &mut dyn FnMut(Seq),
) -> Result<Replayed, ReplayFailed> {
    let added: Vec<&Definition> =
        request.definitions.iter().filter(|definition| !survey.slugs.contains(&definition.slug)).collect();
    let mut meters = Meters::new();
    for definition in &added {
        let id = meters.next_id().map_err(OpenError::from)?;
        meters.put(id, (*definition).clone()).map_err(OpenError::from)?;
    }
    let meters = Arc::new(meters);
    let reread = make(meters.clone(), Hasher::new(&survey.genesis.dedupe_key));
    restored::write(&*disk, "made by meterd replay: nothing is sent before an operator resumes a sink")?;
    let hasher = TableHasher::default();
    let (journal, keeping) = ((request.journal, request.store_id), (hasher.clone(), request.epoch_ids));
    let target = Target::create(disk, store, journal, keeping)?;
    let mut translation = Translation::new(survey, request, (meters, reread, hasher), target);
    survey::read(source, &mut |frame| {
        let refuse = |source| OpenError::Fold { segment: frame.at.segment, offset: frame.at.offset, source };
        let mut seq = frame.first_seq;
        for record in records(frame.payload) {
            let record = record.map_err(|error| refuse(error.into()))?;
            translation.take(seq, &record).map_err(|stopped| match stopped {
                Stopped::Fold(source) => refuse(source),
                Stopped::Open(error) => error,
            })?;
            translation.target.breathe()?;
            seq = seq.plus(record.seqs());
        }
        progress(frame.first_seq);
        Ok(())
    })?;
    finish(translation, survey, request)
}

/// What a start by the new config would record, and everything on disk.
fn finish(mut translation: Translation<'_>, survey: &Survey, request: &Request) -> Result<Replayed, ReplayFailed> {
    let target = &mut translation.target;
    let known = target.state.definitions().to_vec();
    for (meter, definition) in recovery::changed_meters(&known, &request.definitions)? {
        let refused = |source| OpenError::Fold { segment: Seq::ZERO, offset: 0, source };
        target
            .put(&crate::engine::record::Record::MeterVersion(meter, Box::new(definition.clone())))
            .map_err(refused)?;
    }
    target.flush()?;
    if request.range.is_all() {
        let at = target.state.clock().effective();
        let trail = recovery::Trail::new(false, at);
        recovery::record_caps(&mut target.state, &mut target.journal, &request.caps, (at, &trail))
            .map_err(OpenError::from)?;
        target.caught_up();
    }
    target.finish()?;
    let replay = target.state.position();
    Ok(Replayed { source: survey.last, replay, ..translation.done })
}
