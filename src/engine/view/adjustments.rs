//! Late usage as readers see it: every adjustment, oldest first.

use super::{ReadError, View};
use crate::engine::key;
use crate::engine::state::{AdjustmentRow, LoadError, adjustment_key, decode_adjustment};
use crate::meter::Meters;
use crate::model::{MeterId, Quantity, Seq, TenantId, Timestamp, Window};
use crate::store::{Snapshot, Table};

#[derive(Clone, Debug)]
pub struct AdjustmentsQuery {
    pub tenant: TenantId,
    /// The adjustment after which to begin: its record, and the place of its feed.
    pub since: Option<(Seq, u8)>,
    pub customer: Option<String>,
    pub meter: Option<MeterId>,
    pub limit: usize,
}

#[derive(Debug)]
pub struct AdjustmentsPage {
    pub rows: Vec<Adjustment>,
    pub more: bool,
    /// Nothing may leave before this record is durable.
    pub seq: Seq,
}

/// What a late event did to a final window.
#[derive(Clone, Debug)]
pub struct Adjustment {
    /// The event's record.
    pub seq: Seq,
    /// The place of the feed among the event's: an event may adjust a window of each meter it feeds.
    pub feed: u8,
    pub incarnation: u32,
    pub customer: String,
    pub meter: MeterId,
    pub dimensions: Vec<Option<String>>,
    pub window: Window,
    /// The billing period's name.
    pub period: String,
    /// The change of the window's value; one without a value counts as 0.
    pub delta: Quantity,
    /// The window's value with it.
    pub value: Option<Quantity>,
    pub event_count: u64,
    pub revision: u32,
    /// The event's.
    pub timestamp: Timestamp,
    pub recorded_at: Timestamp,
}

impl View {
    /// A page of adjustments, oldest first.
    pub fn adjustments(&self, query: &AdjustmentsQuery) -> Result<AdjustmentsPage, ReadError> {
        let mut from = Vec::with_capacity(64);
        let mut prefix = Vec::with_capacity(64);
        key::put_text(&mut prefix, query.tenant.as_str());
        let (seq, feed) = query.since.unwrap_or((Seq::ZERO, 0));
        adjustment_key(&mut from, query.tenant.as_str(), seq.0, feed);
        let state = self.state.read();
        let store = state.store().clone();
        let snapshot = store.snapshot();
        let mut customer = prefix.clone();
        query.customer.iter().for_each(|name| key::put_text(&mut customer, name));
        let newer = state
            .recent_adjustments()
            .filter(|(key, row)| key.starts_with(&prefix) && *key > &from[..] && row.series.starts_with(&customer));
        let newer = newer.take(if query.meter.is_none() { query.limit + 1 } else { usize::MAX });
        let newer: Vec<(Vec<u8>, AdjustmentRow)> = newer.map(|(key, row)| (key.to_vec(), row.clone())).collect();
        let position = state.position();
        drop(state);
        let meters = self.batches.meters();
        let show = |key: &[u8], row: &AdjustmentRow| self.show(&meters, query, key, row);
        let mut rows = stored(&*snapshot, (&prefix, &from), query.limit + 1, &show)?;
        let last = rows.last().map(|row| (row.seq, row.feed));
        if rows.len() <= query.limit {
            let shown = newer.iter().map(|(key, row)| show(key, row));
            for row in shown.collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
                if last.is_none_or(|last| (row.seq, row.feed) > last) {
                    rows.push(row);
                }
            }
        }
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        Ok(AdjustmentsPage { rows, more, seq: position })
    }

    /// None if it is not asked for.
    fn show(
        &self,
        meters: &Meters,
        query: &AdjustmentsQuery,
        key: &[u8],
        row: &AdjustmentRow,
    ) -> Result<Option<Adjustment>, ReadError> {
        let damaged = || LoadError::Damaged { table: Table::Adjustments, key: key.to_vec() };
        let (name, _) = key::read_series(&row.series).ok_or_else(damaged)?;
        if query.customer.as_deref().is_some_and(|customer| customer != name.customer) {
            return Ok(None);
        }
        let meter = meters.by_slug(name.meter).ok_or_else(damaged)?.id;
        if query.meter.is_some_and(|wanted| wanted != meter) {
            return Ok(None);
        }
        let (rest, &[feed]) = key.split_last_chunk::<1>().ok_or_else(damaged)?;
        let (_, seq) = rest.split_last_chunk::<8>().ok_or_else(damaged)?;
        let period = self.state.read().periods().get(row.period).period.label;
        Ok(Some(Adjustment {
            seq: Seq(u64::from_be_bytes(*seq)),
            feed,
            incarnation: row.incarnation.0,
            customer: name.customer.to_owned(),
            meter,
            dimensions: name.dimensions.iter().map(|value| value.map(str::to_owned)).collect(),
            window: row.window,
            period: period.to_string(),
            delta: row.delta,
            value: row.value,
            event_count: row.event_count,
            revision: row.revision,
            timestamp: row.timestamp,
            recorded_at: row.received_at,
        }))
    }
}

type Show<'a> = dyn Fn(&[u8], &AdjustmentRow) -> Result<Option<Adjustment>, ReadError> + 'a;

/// The store's rows after `from`, at most so many.
fn stored(
    snapshot: &dyn Snapshot,
    (prefix, from): (&[u8], &[u8]),
    limit: usize,
    show: &Show<'_>,
) -> Result<Vec<Adjustment>, ReadError> {
    let mut rows = Vec::new();
    let mut cursor = snapshot.cursor(Table::Adjustments)?;
    cursor.seek(from)?;
    while let Some((key, value)) = cursor.row().filter(|(key, _)| key.starts_with(prefix) && rows.len() < limit) {
        if key != from {
            let damaged = || LoadError::Damaged { table: Table::Adjustments, key: key.to_vec() };
            let row = decode_adjustment(value).ok_or_else(damaged)?;
            rows.extend(show(key, &row)?);
        }
        cursor.advance()?;
    }
    Ok(rows)
}
