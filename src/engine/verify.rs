//! The journal refolded, and compared with what the store holds.
//!
//! | the journal begins with | the fold begins with |
//! | --- | --- |
//! | record 1 | an empty state, whether there is a base or not |
//! | a later one, and a base holds all before it | the base's state |
//! | a later one otherwise | nothing: this cannot be verified |
//!
//! 1. The fold is the same `apply` as everywhere; store and base are only read. What the fold changed is then written out
//!    as rows, laid over the base's, and these are compared with the store's, byte by byte, in every table.
//! 2. The comparison is made at the store's position: what the journal holds beyond it will be replayed at the next start.
//! 3. Ids are compared as multisets (count and a sum of hashes), which needs no memory however many there are.
//! 4. Ids below the horizon are forgotten. Ids may run ahead of the store's position; those, and the older entries of the
//!    same ids that they replaced, are left out.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::engine::corrections::BackfillState;
use crate::engine::hash::{Hasher, TableHasher};
use crate::engine::key;
use crate::engine::overlay::Changes;
use crate::engine::record::{self, Record};
use crate::engine::state::{FoldError, LoadError, State};
use crate::env::Disk;
use crate::journal::{self, JournalError, ReplayError, Start, StoreId, look};
use crate::model::{EventKey, IdEntry, Seq, hex};
use crate::store::{Cursor, META_OWN, MemStore, Rows, Snapshot, Store, StoreError, Table};

/// Differences that are listed; all are counted.
const LISTED_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the journal cannot be folded at segment {segment}, byte {offset}: {source}")]
    Fold { segment: Seq, offset: u64, source: FoldError },
    #[error("the journal ends at record {journal}, the store has record {store}")]
    JournalBehind { journal: Seq, store: Seq },
    #[error(
        "the journal begins with record {first}, and there is no base checkpoint of what came before: it cannot be \
         verified. The daemon makes one when it runs next"
    )]
    NoBase { first: Seq },
    #[error(
        "the journal begins with record {first}, the base checkpoint ends at record {base}: what is between is lost"
    )]
    BaseTooOld { first: Seq, base: Seq },
    #[error("the base checkpoint belongs to another store than the one beside it")]
    OtherBase,
    #[error("the base checkpoint is at record {base}, the store at record {store}: it must not be ahead")]
    BaseAhead { base: Seq, store: Seq },
}

/// Something that journal and store do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs: `windows acme/c-1/tokens["gpt"] 2026-11-01T00:00:00Z`, `ids`, `meta clock`, ….
    pub what: String,
    pub journal: String,
    pub store: String,
}

/// What was compared, and what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The record both were compared at.
    pub position: Seq,
    /// Where the journal ends.
    pub journal_end: Seq,
    /// The first record that was folded: what lies before it is taken from the base.
    pub rebuildable_from: Seq,
    /// The base's position, if the fold began there.
    pub base: Option<Seq>,
    /// Rows of open counters and final windows.
    pub counters: u64,
    /// Rows of every table.
    pub rows: u64,
    pub ids: u64,
    pub difference_count: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

impl Verified {
    fn differ(&mut self, what: String, journal: &dyn std::fmt::Debug, store: &dyn std::fmt::Debug) {
        self.difference_count += 1;
        if self.differences.len() < LISTED_MAX {
            self.differences.push(Difference { what, journal: format!("{journal:?}"), store: format!("{store:?}") });
        }
    }
}

/// Refolds the journal from its first record and compares. The data directory must not be in use. `progress` hears the
/// last record now and then.
pub fn verify(
    disk: &Arc<dyn Disk>,
    store: &Arc<dyn Store>,
    progress: &mut dyn FnMut(Seq),
) -> Result<Verified, VerifyError> {
    verify_from(disk, store, None, progress)
}

/// The same, from `base` if the journal does not begin with the first record.
pub fn verify_from(
    disk: &Arc<dyn Disk>,
    store: &Arc<dyn Store>,
    base: Option<&Arc<dyn Store>>,
    progress: &mut dyn FnMut(Seq),
) -> Result<Verified, VerifyError> {
    let stored = State::load(store, TableHasher::default())?;
    let (position, horizon) = (stored.position(), stored.clock().horizon());
    let base = needed_base(&**disk, &**store, base)?;
    let (stored_ids, ahead, newest_id) = scan_ids(&**store, &stored)?;
    drop(stored);
    let mut fold = Fold::start(base, position, Accepted { sums: BTreeMap::new(), horizon, ahead })?;
    let after = fold.state.position();
    let start = Start { after, floor: position.max(newest_id), store_id: store.store_id()?.map(StoreId) };
    let read = journal::read(&**disk, start, &mut |frame| {
        fold.frame(&frame)?;
        progress(frame.first_seq);
        Ok(())
    });
    let read = read.map_err(|error| match error {
        ReplayError::Journal(error) => VerifyError::Journal(error),
        ReplayError::Visit(error) => error,
    })?;
    if read.last < position {
        return Err(VerifyError::JournalBehind { journal: read.last, store: position });
    }
    let Fold { state, ids, .. } = fold;
    let ids = ids.still_taken(&state);
    let (rebuildable_from, base_position) = (after.next(), base.map(|base| base.position()));
    let mut verified = Verified { position, journal_end: read.last, ids: ids.count, ..Verified::default() };
    (verified.rebuildable_from, verified.base) = (rebuildable_from, base_position);
    if state.position() != position {
        verified.differ("position (the store ends within a frame)".into(), &state.position(), &position);
    }
    compare_rows(&mut verified, state, base, &**store)?;
    if ids != stored_ids {
        verified.differ("ids".into(), &ids, &stored_ids);
    }
    Ok(verified)
}

/// The base, if the journal begins after the first record; then there must be one that fits.
fn needed_base<'a>(
    disk: &dyn Disk,
    store: &dyn Store,
    base: Option<&'a Arc<dyn Store>>,
) -> Result<Option<&'a Arc<dyn Store>>, VerifyError> {
    let segments = look::segments(disk)?;
    let Some(first) = segments.first().map(|oldest| oldest.first_seq).filter(|first| *first > Seq(1)) else {
        return Ok(None);
    };
    let base = base.ok_or(VerifyError::NoBase { first })?;
    if base.position().next() < first {
        return Err(VerifyError::BaseTooOld { first, base: base.position() });
    }
    if base.position() > store.position() {
        return Err(VerifyError::BaseAhead { base: base.position(), store: store.position() });
    }
    if base.store_id()? != store.store_id()? {
        return Err(VerifyError::OtherBase);
    }
    Ok(Some(base))
}

/// The fold up to the store's position, and the ids that it accepted.
struct Fold {
    state: State,
    position: Seq,
    ids: Accepted,
}

/// The ids that the store should have.
struct Accepted {
    /// By backfill; 0: of none. Once a backfill is reverted its ids are free, and may be taken again.
    sums: BTreeMap<u32, IdSum>,
    horizon: Seq,
    /// Those that the store has from beyond its position.
    ahead: HashSet<EventKey>,
}

impl Accepted {
    fn add(&mut self, backfill: Option<u32>, key: EventKey, entry: IdEntry) {
        if entry.seq >= self.horizon && !self.ahead.contains(&key) {
            self.sums.entry(backfill.unwrap_or_default()).or_default().add(key, entry);
        }
    }

    /// All but those that went with their backfills.
    fn still_taken(&self, state: &State) -> IdSum {
        let is_reverted = |number: u32| {
            state.corrections().backfill(number).is_some_and(|backfill| backfill.state == BackfillState::Reverted)
        };
        let sums = self.sums.iter().filter(|(number, _)| !is_reverted(**number)).map(|(_, sum)| sum);
        sums.fold(IdSum::default(), |all, sum| IdSum {
            count: all.count + sum.count,
            sum: all.sum.wrapping_add(sum.sum),
        })
    }
}

impl Fold {
    /// Nothing of the fold leaves its memory, so it finds again only what is in the base.
    fn start(base: Option<&Arc<dyn Store>>, position: Seq, mut ids: Accepted) -> Result<Self, VerifyError> {
        let Some(base) = base else {
            let state = State::new(TableHasher::default(), Arc::new(MemStore::new()));
            return Ok(Self { state, position, ids });
        };
        let (last, state) = (base.position(), State::load(base, TableHasher::default())?);
        base.scan_ids(&mut |key, entry| {
            if entry.seq <= last {
                let backfill = state.corrections().backfill_of(entry.seq).map(|backfill| backfill.number);
                ids.add(backfill, key, entry);
            }
        })?;
        Ok(Self { state, position, ids })
    }

    fn frame(&mut self, frame: &journal::FrameView<'_>) -> Result<(), VerifyError> {
        let refuse = |source| VerifyError::Fold { segment: frame.at.segment, offset: frame.at.offset, source };
        let Self { state, position, ids } = self;
        if state.position() < *position && state.position().next() != frame.first_seq {
            return Err(refuse(FoldError::OutOfPlace(frame.first_seq)));
        }
        for record in record::records(frame.payload) {
            let record = record.map_err(|error| refuse(error.into()))?;
            if state.position() >= *position {
                break;
            }
            let next = state.position().next();
            let backfill = if let Record::Events(events) = &record { events.backfill } else { None };
            state.apply(next, &record, &mut |key, entry| ids.add(backfill, key, entry)).map_err(refuse)?;
        }
        Ok(())
    }
}

/// The fold's rows over the base's, and the store's, table by table, side by side in key order.
fn compare_rows(
    verified: &mut Verified,
    mut folded: State,
    base: Option<&Arc<dyn Store>>,
    store: &dyn Store,
) -> Result<(), StoreError> {
    folded.close_epoch();
    while !folded.drain_epoch(usize::MAX) {}
    let mut rows: Rows = folded.take_epoch();
    drop(folded);
    let below = base.map(|base| base.snapshot());
    let (ours, theirs) = (Changes::of(&mut rows).over(below.as_deref()), store.snapshot());
    for table in Table::ALL {
        compare_table(verified, table, &mut *rows_of(&ours, table)?, &mut *rows_of(&*theirs, table)?)?;
    }
    Ok(())
}

fn rows_of(snapshot: &dyn Snapshot, table: Table) -> Result<Box<dyn Cursor + '_>, StoreError> {
    let mut cursor = snapshot.cursor(table)?;
    cursor.seek(&[])?;
    Ok(cursor)
}

fn compare_table(
    verified: &mut Verified,
    table: Table,
    ours: &mut dyn Cursor,
    theirs: &mut dyn Cursor,
) -> Result<(), StoreError> {
    loop {
        if table == Table::Meta {
            skip_own(ours)?;
            skip_own(theirs)?;
        }
        let Some(order) = order(ours.row(), theirs.row()) else { return Ok(()) };
        let key = if order == Ordering::Greater { theirs.row() } else { ours.row() };
        let key = || name(table, key.map_or(&[], |(key, _)| key));
        let (left, right) = (ours.row().map(|row| row.1), theirs.row().map(|row| row.1));
        match order {
            Ordering::Less => verified.differ(key(), &left.map(hex::encode), &None::<String>),
            Ordering::Greater => verified.differ(key(), &None::<String>, &right.map(hex::encode)),
            Ordering::Equal if left != right => {
                verified.differ(key(), &left.map(hex::encode), &right.map(hex::encode));
            }
            Ordering::Equal => {}
        }
        if order != Ordering::Greater {
            verified.rows += 1;
            verified.counters += u64::from(matches!(table, Table::Counters | Table::Windows));
            ours.advance()?;
        }
        if order != Ordering::Less {
            theirs.advance()?;
        }
    }
}

/// On from the rows that a store writes by itself.
fn skip_own(rows: &mut dyn Cursor) -> Result<(), StoreError> {
    while rows.row().is_some_and(|(key, _)| META_OWN.contains(&key)) {
        rows.advance()?;
    }
    Ok(())
}

/// None once both have ended.
fn order(ours: Option<(&[u8], &[u8])>, theirs: Option<(&[u8], &[u8])>) -> Option<Ordering> {
    match (ours, theirs) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some((ours, _)), Some((theirs, _))) => Some(ours.cmp(theirs)),
    }
}

/// A row's name for people.
fn name(table: Table, row: &[u8]) -> String {
    let named = |name: &[u8]| {
        let (series, start) = key::split_start(name)?;
        let (series, _) = key::read_series(series)?;
        let dimensions = series.dimensions.as_slice();
        Some(format!("{:?}/{:?}/{}{dimensions:?} {start}", series.tenant, series.customer, series.meter))
    };
    let period = |name: &[u8]| {
        let (series, bounds) = key::split_bounds(name)?;
        let mut window = series.to_vec();
        key::put_start(&mut window, bounds.start);
        named(&window)
    };
    let text = match table {
        Table::Meta => Some(row.escape_ascii().to_string()),
        Table::Counters | Table::Windows => named(row),
        Table::Periods => key::without_second_text(row).and_then(|name| period(&name)),
        Table::Members | Table::PeriodMembers | Table::Adjustments => None,
        Table::Outbox | Table::Deliveries | Table::Attempts | Table::DeadLetters => None,
        Table::Alerts | Table::Thresholds | Table::Reservations => None,
        Table::Voids | Table::BackfillIds | Table::Trail => None,
    };
    format!("{} {}", table.name(), text.unwrap_or_else(|| hex::encode(row)))
}

/// The digest of the ids up to the state's position, the ids beyond it, and the newest record that any of them names.
fn scan_ids(store: &dyn Store, state: &State) -> Result<(IdSum, HashSet<EventKey>, Seq), StoreError> {
    let (mut sum, mut ahead, mut newest) = (IdSum::default(), HashSet::new(), Seq::ZERO);
    let (horizon, position) = (state.clock().horizon(), state.position());
    store.scan_ids(&mut |key, entry| {
        newest = newest.max(entry.seq);
        if entry.seq > position {
            ahead.insert(key);
        } else if entry.seq >= horizon && !state.corrections().is_reverted(entry.seq) {
            sum.add(key, entry);
        }
    })?;
    Ok((sum, ahead, newest))
}

/// An order-independent digest of ids: how many, and the sum of a hash of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct IdSum {
    count: u64,
    sum: u128,
}

impl IdSum {
    fn add(&mut self, key: EventKey, entry: IdEntry) {
        let mut bytes = [0; 28];
        bytes[..16].copy_from_slice(&key.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&entry.seq.0.to_le_bytes());
        bytes[24..].copy_from_slice(&entry.fingerprint.0.to_le_bytes());
        self.count += 1;
        self.sum = self.sum.wrapping_add(Hasher::new(&[0; 16]).hash128(&bytes));
    }
}
