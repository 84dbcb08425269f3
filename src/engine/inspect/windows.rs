//! The rows of one window and of the billing period it lies in, decoded.

use std::sync::Arc;

use super::{InspectError, dimensions};
use crate::engine::key;
use crate::engine::state::{
    Counter, IN_TOTAL, LoadError, State, decode_counter, decode_period, decode_window, load_members, period_key,
    window_written,
};
use crate::meter::Definition;
use crate::model::{Incarnation, Quantity, Seq, Timestamp, Window};
use crate::store::{Snapshot, Store, Table};

/// A row: of an open counter, of a final window, or of a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowLine {
    /// counters, windows, or periods.
    pub table: &'static str,
    pub dimensions: Vec<(String, Option<String>)>,
    pub bounds: Window,
    /// The billing period's name.
    pub period: Option<String>,
    /// open, grace or finalized.
    pub state: &'static str,
    /// Of a period: its final windows and adjustments, without what is open.
    pub value: Option<Quantity>,
    pub approximate: bool,
    pub event_count: u64,
    /// Of a period: how many of them were late.
    pub late_count: Option<u64>,
    pub revision: u32,
    /// What it was made final with.
    pub written: Option<(Incarnation, [u8; 32])>,
}

/// Every row of a customer's meter for the window that begins at `start`, one for each set of dimensions, each
/// followed by that of its period. With the record that the store stands at.
pub fn windows(
    store: &Arc<dyn Store>,
    (tenant, customer, meter): (&str, &str, &str),
    start: Timestamp,
) -> Result<(Seq, Vec<WindowLine>), InspectError> {
    let head = State::load_head(store)?;
    let snapshot = store.snapshot();
    let prefix = key::account_name(tenant, customer, meter);
    let Some(definition) = head.definitions().iter().find(|definition| definition.slug == meter) else {
        return Ok((head.position(), Vec::new()));
    };
    let reader = Reader { head: &head, snapshot: &*snapshot, definition };
    let mut lines = Vec::new();
    for table in [Table::Counters, Table::Windows] {
        let mut cursor = snapshot.cursor(table)?;
        cursor.seek(&prefix)?;
        while let Some((row, value)) = cursor.row().filter(|(row, _)| row.starts_with(&prefix)) {
            if key::split_start(row).is_some_and(|(_, found)| found == start) {
                reader.read(table, row, value, &mut lines)?;
            }
            cursor.advance()?;
        }
    }
    Ok((head.position(), lines))
}

struct Reader<'a> {
    head: &'a State,
    snapshot: &'a dyn Snapshot,
    definition: &'a Definition,
}

impl Reader<'_> {
    fn read(&self, table: Table, row: &[u8], value: &[u8], lines: &mut Vec<WindowLine>) -> Result<(), InspectError> {
        let damaged = || LoadError::Damaged { table, key: row.to_vec() };
        let (series, start) = key::split_start(row).ok_or_else(damaged)?;
        let (name, _) = key::read_series(series).ok_or_else(damaged)?;
        let decoded = match table {
            Table::Counters => decode_counter(start, value, self.definition),
            _ => decode_window(start, value, self.definition),
        };
        let (mut counter, members) = decoded.ok_or_else(damaged)?;
        load_members(self.snapshot, Table::Members, row, (&mut counter.aggregate, members.into()))?;
        let period = self.head.periods().iter().find(|(id, _)| *id == counter.period).map(|(_, info)| &info.period);
        let dimensions = dimensions(self.head, &name);
        lines.push(WindowLine {
            table: table.name(),
            dimensions: dimensions.clone(),
            bounds: counter.window,
            period: period.map(|period| period.label.to_string()),
            state: self.state(&counter),
            value: counter.aggregate.value(counter.event_count),
            approximate: counter.aggregate.is_approximate(),
            event_count: counter.event_count,
            late_count: None,
            revision: counter.revision,
            written: window_written(value).filter(|_| counter.is_final),
        });
        let Some(period) = period else { return Ok(()) };
        let mut key = Vec::new();
        period_key(&mut key, series, &period.label.to_string(), period.bounds);
        if let Some(value) = self.snapshot.get(Table::Periods, &key)? {
            lines.push(self.period(&key, &value, period.bounds, dimensions, period.label.to_string())?);
        }
        Ok(())
    }

    fn period(
        &self,
        key: &[u8],
        value: &[u8],
        bounds: Window,
        dimensions: Vec<(String, Option<String>)>,
        label: String,
    ) -> Result<WindowLine, InspectError> {
        let damaged = || LoadError::Damaged { table: Table::Periods, key: key.to_vec() };
        let mut row = decode_period(bounds.start, value, self.definition).ok_or_else(damaged)?;
        let mut line = WindowLine {
            table: Table::Periods.name(),
            dimensions,
            bounds: row.bounds,
            period: Some(label),
            state: if row.counter.is_final { "finalized" } else { "open" },
            value: None,
            approximate: false,
            event_count: 0,
            late_count: Some(0),
            revision: row.counter.revision,
            written: row.written,
        };
        if let Some(base) = &mut row.counter.base {
            let set = (&mut base.aggregate, row.members[0].into());
            load_members(self.snapshot, Table::PeriodMembers, &[key, &[IN_TOTAL]].concat(), set)?;
            (line.event_count, line.late_count) = (base.event_count, Some(base.late_count));
            (line.value, line.approximate) = (base.aggregate.value(base.event_count), base.aggregate.is_approximate());
        }
        Ok(line)
    }

    fn state(&self, counter: &Counter) -> &'static str {
        match (counter.is_final, counter.window.end <= self.head.clock().effective()) {
            (true, _) => "finalized",
            (false, true) => "grace",
            (false, false) => "open",
        }
    }
}
