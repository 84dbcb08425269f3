//! From a data directory to a running state: the store's rows, then the journal's tail folded over them.
//!
//! 1. The store is the fold of the log up to its position, so the fold goes on from exactly there.
//! 2. A journal that ends before the store's position, or before an id in the index, has lost records: refuse.
//! 3. Nothing is sent and nothing is decided here; replay only folds.
//! 4. A long replay is committed to the store and persisted on the way, so that memory stays bounded and a second crash
//!    repeats less: but only what a later frame calls durable, because the tail may be nowhere but in the page cache.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::engine::batch::{Batches, Context};
use crate::engine::calendars::Calendars;
use crate::engine::dedupe::{Index, Recent};
use crate::engine::hash::{Hasher, TableHasher};
use crate::engine::record::{self, Genesis, SinkRecord};
use crate::engine::state::{FoldError, LoadError, State};
use crate::engine::writer::{CommitJob, Writer};
use crate::engine::{Options, SinkDefinition};
use crate::env::{Clock, Disk, DiskLock};
use crate::journal::{self, Journal, JournalError, ReplayError, Start, StoreId};
use crate::meter::{Definition, FrozenField, Meters, MetersError};
use crate::model::{Duration, Incarnation, MeterId, RowKind, Seq, Timestamp};
use crate::store::{Store, StoreError};

mod caps;
pub(super) mod restored;
mod trail;

pub(super) use caps::record as record_caps;
pub(super) use trail::Trail;

/// Held while a process has the data directory open.
const LOCK_FILE: &str = "lock";
/// A replay commits this many epochs as one: nobody waits for the store, and a counter that changed often is written once.
const REPLAY_EPOCHS: usize = 4;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What the engine stands on.
#[derive(Clone)]
pub struct Parts {
    /// Taken with [`lock`] before anything else of the directory is touched.
    pub lock: Arc<dyn DiskLock>,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
}

/// Random values for the Genesis of a new data directory.
#[derive(Clone, Copy)]
pub struct Entropy {
    pub store_id: u128,
    pub dedupe_key: [u8; 16],
}

/// Why a data directory cannot be opened. What the operator can do depends on which it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory is in use by another process")]
    InUse,
    #[error("cannot lock the data directory: {0}")]
    Lock(std::io::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the journal cannot be folded at segment {segment}, byte {offset}: {source}")]
    Fold { segment: Seq, offset: u64, source: FoldError },
    #[error("the store is at record {store}, but there is no journal: it was removed, or this is not its directory")]
    JournalMissing { store: Seq },
    #[error(
        "the journal ends at record {journal}, the store has record {store}: the journal has lost acknowledged records"
    )]
    JournalBehind { journal: Seq, store: Seq },
    #[error("the log begins without a Genesis record")]
    NoGenesis,
    #[error("meter {slug:?} was made with another {}; make a new slug, and replay to fill it", fields(.frozen))]
    MeterChanged { slug: String, frozen: Vec<FrozenField> },
    #[error(transparent)]
    Meters(#[from] MetersError),
    #[error("cannot read or remove the data directory's file {file}: {source}")]
    Mark { file: &'static str, source: std::io::Error },
}

fn fields(frozen: &[FrozenField]) -> String {
    frozen.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ")
}

/// What recovery did, for the log and the curious.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Where the store was.
    pub store: Seq,
    /// Where the log ends.
    pub last: Seq,
    pub replayed_records: u64,
    /// Bytes of a torn tail that were cut off: never acknowledged.
    pub cut_bytes: u64,
    pub cut_at: Option<(String, u64)>,
}

/// A recovered directory.
pub struct Opened {
    journal: Journal,
    state: State,
    recent: Recent,
    index: Arc<Index>,
    meters: Meters,
    table_hasher: TableHasher,
    clock: Arc<dyn Clock>,
    pub report: Report,
}

/// Everything that a running engine consists of, for whoever drives it: its threads, or a simulation step by step.
pub struct Running<R> {
    pub writer: Writer<R>,
    pub journal: Journal,
    pub index: Arc<Index>,
    pub batches: Batches,
}

impl Opened {
    pub fn run<R>(self, options: &Options) -> Running<R> {
        let genesis = self.state.genesis().expect("recovery wrote or read it");
        let context = Context {
            meters: Arc::new(self.meters),
            hasher: Hasher::new(&genesis.dedupe_key),
            table_hasher: self.table_hasher,
            index: self.index.clone(),
            calendars: Calendars::of(self.state.customers()),
        };
        let (state, batches) = (Arc::new(RwLock::new(self.state)), Batches(Arc::new(context)));
        let writer = Writer::new(options.clone(), state, batches.clone(), self.recent, self.clock.monotonic());
        Running { writer, journal: self.journal, index: self.index, batches }
    }
}

/// Keeps every other process out of the data directory until it is dropped.
pub fn lock(disk: &dyn Disk) -> Result<Arc<dyn DiskLock>, OpenError> {
    disk.lock(LOCK_FILE.as_ref()).map(Arc::from).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::Lock(error),
    })
}

/// Opens a data directory, or makes a new one.
pub fn open(
    parts: &Parts,
    options: &Options,
    journal_options: journal::Options,
    definitions: &[Definition],
    entropy: Entropy,
) -> Result<Opened, OpenError> {
    let table_hasher = TableHasher::default();
    let (index, highest_id) = Index::load(parts.store.clone())?;
    let index = Arc::new(index);
    let state = State::load(&parts.store, table_hasher.clone())?;
    parts.store.set_horizon(state.clock().horizon());
    let known = parts.store.position().max(highest_id);
    let mut replay = Replay::new(parts, options, state, index.clone());
    let (mut journal, mut report) = replay.journal(parts, journal_options, entropy, known)?;
    if journal.last() < known {
        return Err(OpenError::JournalBehind { journal: journal.last(), store: known });
    }
    let Replay { mut state, recent, .. } = replay;
    let meters = record_config(parts, options, &mut state, &mut journal, definitions, entropy)?;
    report.last = state.position();
    let clock = parts.clock.clone();
    Ok(Opened { journal, state, recent, index, meters, table_hasher, clock, report })
}

/// The fold over the journal's tail.
struct Replay {
    state: State,
    recent: Recent,
    index: Arc<Index>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    epoch_ids: usize,
    reported: Duration,
    records: u64,
}

impl Replay {
    fn new(parts: &Parts, options: &Options, state: State, index: Arc<Index>) -> Self {
        let recent = Recent::new(state.position());
        let (store, clock) = (parts.store.clone(), parts.clock.clone());
        let reported = clock.monotonic();
        Self { state, recent, index, store, clock, epoch_ids: options.epoch_ids, reported, records: 0 }
    }

    /// Folds the journal's tail, every record up to `known` being one that was durable once; or makes a new journal for an empty store.
    fn journal(
        &mut self,
        parts: &Parts,
        options: journal::Options,
        entropy: Entropy,
        known: Seq,
    ) -> Result<(Journal, Report), OpenError> {
        let position = self.state.position();
        let store_id = self.store.store_id()?.map(StoreId);
        let report = Report { store: position, ..Report::default() };
        if !Journal::exists(&*parts.disk)? {
            if position > Seq::ZERO || store_id.is_some() {
                return Err(OpenError::JournalMissing { store: position });
            }
            let journal = Journal::create(parts.disk.clone(), options, StoreId(entropy.store_id), Seq(1))?;
            return Ok((journal, report));
        }
        let start = Start { after: position, floor: known, store_id };
        let folded = Journal::recover(parts.disk.clone(), options, start, &mut |frame| self.frame(&frame));
        let (journal, recovered) = folded.map_err(|error| match error {
            ReplayError::Journal(error) => OpenError::Journal(error),
            ReplayError::Visit(error) => error,
        })?;
        let cut_at = recovered.cut.as_ref().map(|cut| (cut.file.clone(), cut.offset));
        let cut_bytes = recovered.cut.map_or(0, |cut| cut.bytes);
        Ok((journal, Report { replayed_records: self.records, cut_bytes, cut_at, ..report }))
    }

    fn frame(&mut self, frame: &journal::FrameView<'_>) -> Result<(), OpenError> {
        let refuse = |source| OpenError::Fold { segment: frame.at.segment, offset: frame.at.offset, source };
        let expected = frame.first_seq.plus(u64::from(frame.count));
        if self.recent.open_ids() >= self.epoch_ids * REPLAY_EPOCHS && frame.durable >= self.state.position() {
            self.commit()?;
        }
        for record in record::records(frame.payload) {
            let record = record.map_err(|error| refuse(error.into()))?;
            let next = self.state.position().next();
            let recent = &mut self.recent;
            self.state.apply(next, &record, &mut |key, entry| recent.insert(key, entry)).map_err(refuse)?;
        }
        if self.state.position().next() != expected {
            return Err(refuse(FoldError::OutOfPlace(frame.first_seq)));
        }
        self.records += u64::from(frame.count);
        self.report_progress();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let position = self.state.position();
        self.state.close_epoch();
        while !self.state.drain_epoch(usize::MAX) {}
        let generation = self.recent.close(position);
        let (horizon, rows) = (self.state.clock().horizon(), self.state.take_epoch());
        let commit = CommitJob { position, horizon, generation, rows }.into_commit();
        self.store.commit(&commit)?;
        // Or a daemon that is killed soon after every start would replay an ever longer tail.
        self.store.persist()?;
        self.index.add(&commit.ids, position);
        self.recent.published(position);
        self.state.committed(position);
        self.state.leave(usize::MAX);
        Ok(())
    }

    fn report_progress(&mut self) {
        let now = self.clock.monotonic();
        if now >= self.reported.saturating_add(PROGRESS_EVERY) {
            self.reported = now;
            tracing::info!(records = self.records, position = self.state.position().0, "replaying the journal");
        }
    }
}

/// Writes Genesis into a new log, and a `MeterVersion` for every meter that is new or has changed.
fn record_config(
    parts: &Parts,
    options: &Options,
    state: &mut State,
    journal: &mut Journal,
    definitions: &[Definition],
    entropy: Entropy,
) -> Result<Meters, OpenError> {
    let first = state.position().next();
    let mut payload = Vec::new();
    let (is_new, now) = (state.genesis().is_none(), parts.clock.now());
    let trail = trail::Trail::new(is_new, now);
    if is_new {
        if state.position() > Seq::ZERO {
            return Err(OpenError::NoGenesis);
        }
        let genesis = Genesis {
            store_id: journal.store_id().0,
            dedupe_key: entropy.dedupe_key,
            incarnation: Incarnation(1),
            created_at: now,
        };
        record::put_genesis(&mut payload, &genesis);
    }
    for (meter, definition) in changed_meters(state.definitions(), definitions)? {
        record::put_meter_version(&mut payload, meter, definition);
        trail.meter(&mut payload, state.definitions().get(usize::from(meter.0)), definition);
    }
    for sink in changed_sinks(state, &options.sinks) {
        record::put_sink(&mut payload, &SinkRecord::Defined { name: &sink.name, kinds: sink.kinds });
        trail.sink(&mut payload, sink);
    }
    let restored = restored::read(&*parts.disk)?;
    if let Some(reason) = &restored {
        record::put_incarnation(&mut payload, next_incarnation(state.incarnation(), now), reason);
        trail.restored(&mut payload, reason);
    }
    for record in record::records(&payload) {
        let record = record.expect("just encoded");
        state.apply(state.position().next(), &record, &mut |_, _| {}).expect("numbers follow each other");
    }
    append(journal, first, &payload, state)?;
    caps::record(state, journal, &options.caps, (now, &trail))?;
    if let Some(reason) = &restored {
        restored::remove(&*parts.disk)?;
        let incarnation = state.incarnation().0;
        tracing::warn!(incarnation, reason, "the directory was restored: every sink is paused until it is resumed");
    }
    let mut meters = Meters::new();
    for (number, definition) in state.definitions().iter().enumerate() {
        meters.put(MeterId(number as u16), definition.clone())?;
    }
    let configured = |slug: &str| definitions.iter().any(|definition| definition.slug == slug);
    meters.retire(|definition| !configured(&definition.slug));
    Ok(meters)
}

/// Makes the records from `first` on durable, which the state has folded in.
fn append(journal: &mut Journal, first: Seq, payload: &[u8], state: &State) -> Result<(), JournalError> {
    if !payload.is_empty() {
        let count = state.position().next().0 - first.0;
        journal.append(first, u32::try_from(count).expect("a frame holds far fewer records"), payload)?;
        journal.sync()?;
    }
    Ok(())
}

/// Greater than the last one, and than any that the same log had when it was restored before: so it goes by the clock.
fn next_incarnation(last: Incarnation, now: Timestamp) -> Incarnation {
    let seconds = u32::try_from(now.micros() / 1_000_000).unwrap_or_default();
    Incarnation(seconds.max(last.0.saturating_add(1)).max(2))
}

/// The configured sinks that the log does not have in this form.
fn changed_sinks<'a>(state: &State, configured: &'a [SinkDefinition]) -> Vec<&'a SinkDefinition> {
    for (name, _) in state.outbox().sinks() {
        if !configured.iter().any(|sink| *sink.name == **name) {
            let name = &**name;
            tracing::warn!(sink = name, "a sink is not configured any more: its rows are kept until it is forgotten");
        }
    }
    for sink in configured {
        let before = state.outbox().sink(&sink.name).map(|known| known.kinds);
        let dropped = before.iter().flat_map(|kinds| kinds.iter()).filter(|kind| !sink.kinds.contains(*kind));
        for kind in dropped.map(RowKind::as_str) {
            let sink = sink.name.as_str();
            tracing::warn!(
                sink,
                kind,
                "the sink does not get this kind of rows any more: those that waited are dropped"
            );
        }
    }
    let known = |sink: &SinkDefinition| state.outbox().sink(&sink.name).is_some_and(|known| known.kinds == sink.kinds);
    configured.iter().filter(|sink| !known(sink)).collect()
}

/// The configured definitions that the log does not have in this form, with their numbers.
pub(super) fn changed_meters<'a>(
    recorded: &[Definition],
    configured: &'a [Definition],
) -> Result<Vec<(MeterId, &'a Definition)>, OpenError> {
    let mut next = recorded.len();
    let mut changed = Vec::new();
    for definition in configured {
        match recorded.iter().position(|known| known.slug == definition.slug) {
            Some(number) if recorded[number] == *definition => {}
            Some(number) => {
                let frozen = recorded[number].frozen_difference(definition);
                if !frozen.is_empty() {
                    return Err(OpenError::MeterChanged { slug: definition.slug.clone(), frozen });
                }
                changed.push((MeterId(number as u16), definition));
            }
            None => {
                let number = u16::try_from(next).map_err(|_| MetersError::TooMany)?;
                changed.push((MeterId(number), definition));
                next += 1;
            }
        }
    }
    Ok(changed)
}
