//! Reads of what has left memory: final windows, in key order.

use std::collections::HashSet;

use super::{WindowQuery, WindowRow, WindowState};
use crate::engine::key::{self, SeriesName};
use crate::engine::state::{LoadError, decode_window, load_members};
use crate::engine::view::ReadError;
use crate::meter::Meters;
use crate::model::Timestamp;
use crate::store::{Cursor, Snapshot, StoreError, Table};

/// Rows that are stepped over before a jump is tried, which costs about a hundred steps.
const STEPS: usize = 64;
/// Sorts after whatever may follow the beginning of a name: no text is this long, no time this late.
const AFTER_ALL: [u8; 9] = [u8::MAX; 9];

/// Visits the final windows that are asked for and were not seen yet.
pub fn windows(
    snapshot: &dyn Snapshot,
    meters: &Meters,
    query: &WindowQuery<'_>,
    seen: &HashSet<Vec<u8>>,
    visit: &mut dyn FnMut(WindowRow<'_>),
) -> Result<(), ReadError> {
    let mut prefix = Vec::with_capacity(64);
    match query.customer {
        Some(customer) => key::put_customer(&mut prefix, query.tenant.as_str(), customer),
        None => key::put_text(&mut prefix, query.tenant.as_str()),
    }
    let mut cursor = snapshot.cursor(Table::Windows)?;
    cursor.seek(&prefix)?;
    let reader = Reader { snapshot, meters, query, seen };
    loop {
        let Some(row) = cursor.row().filter(|(key, _)| key.starts_with(&prefix)) else { return Ok(()) };
        match reader.read(row, visit)? {
            Some(target) => skip_to(&mut *cursor, &target)?,
            None => cursor.advance()?,
        }
    }
}

struct Reader<'a> {
    snapshot: &'a dyn Snapshot,
    meters: &'a Meters,
    query: &'a WindowQuery<'a>,
    seen: &'a HashSet<Vec<u8>>,
}

impl Reader<'_> {
    /// Visits a row if it is wanted; answers with where to go on if that is not the next one.
    fn read(
        &self,
        (row, value): (&[u8], &[u8]),
        visit: &mut dyn FnMut(WindowRow<'_>),
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let damaged = || LoadError::Damaged { table: Table::Windows, key: row.to_vec() };
        let (series, start) = key::split_start(row).ok_or_else(damaged)?;
        let (name, _) = key::read_series(series).ok_or_else(damaged)?;
        if let Some(target) = elsewhere(&name, (series, start), self.meters, self.query) {
            return Ok(Some(target));
        }
        if self.seen.contains(row) {
            return Ok(None);
        }
        let meter = self.meters.by_slug(name.meter).ok_or_else(damaged)?;
        let (mut counter, members) = decode_window(start, value, &meter.definition).ok_or_else(damaged)?;
        load_members(self.snapshot, Table::Members, row, (&mut counter.aggregate, members.into()))?;
        visit(WindowRow {
            meter: meter.id,
            customer: name.customer,
            dimensions: &name.dimensions,
            window: counter.window,
            aggregate: &counter.aggregate,
            event_count: counter.event_count,
            state: WindowState::Finalized,
            revision: counter.revision,
        });
        Ok(None)
    }
}

/// Where to go on from a row that is not wanted; None if it is.
fn elsewhere(
    name: &SeriesName<'_>,
    (series, start): (&[u8], Timestamp),
    meters: &Meters,
    query: &WindowQuery<'_>,
) -> Option<Vec<u8>> {
    let known = |meter| meters.get(meter).expect("the caller took the number from these very meters");
    if let Some(wanted) = query.meter.map(|meter| known(meter).definition.slug.as_str())
        && wanted != name.meter
    {
        let mut target = Vec::with_capacity(series.len());
        key::put_customer(&mut target, name.tenant, name.customer);
        let before = (name.meter.len(), name.meter) < (wanted.len(), wanted);
        if before {
            key::put_text(&mut target, wanted)
        } else {
            target.extend(AFTER_ALL)
        }
        return Some(target);
    }
    let mut target = series.to_vec();
    match (query.from, query.to) {
        (Some(from), _) if start < from => key::put_start(&mut target, from),
        (_, Some(to)) if start >= to => target.extend(AFTER_ALL),
        _ => return None,
    }
    Some(target)
}

/// To the first row at or after `target`, which lies ahead.
fn skip_to(cursor: &mut dyn Cursor, target: &[u8]) -> Result<(), StoreError> {
    for _ in 0..STEPS {
        if cursor.row().is_none_or(|(row, _)| row >= target) {
            return Ok(());
        }
        cursor.advance()?;
    }
    cursor.seek(target)
}
