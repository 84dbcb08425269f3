//! Windows to rows: merges what belongs together, and keeps one page.
//!
//! 1. Rows come out sorted by (window start, customer, dimensions) and never twice, whatever order windows came in.
//! 2. At most `rows_max + 1` rows and about `MEMBER_BYTES_MAX` of set members are held. When there is more, the greatest
//!    row goes, and from then on everything at or past its key is left out: such a key can only lie on a later page. So
//!    what is kept is always merged from all of its windows.
//! 3. A page that ran out of memory for members is short, but never without a row, and has a next page.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::engine::{WindowRow, WindowState};
use crate::meter::{Aggregate, Refusal};
use crate::model::{Timestamp, Window};

/// Heap bytes of the sets of a page's rows, roughly; one row may exceed it alone.
const MEMBER_BYTES_MAX: usize = 64 << 20;

/// What sets a row apart from others; orders rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    pub window_start: Timestamp,
    /// Given if rows are split by customer.
    pub customer: Option<Box<str>>,
    /// The dimensions by which rows are split.
    pub dimensions: SmallVec<[Option<Box<str>>; 2]>,
}

/// All that one row answers for.
#[derive(Clone, Debug)]
pub struct Total {
    pub window_end: Timestamp,
    pub aggregate: Aggregate,
    pub event_count: u64,
    /// The least final of the merged windows.
    pub state: WindowState,
    /// The sum of the merged windows' revisions.
    pub revision: u64,
}

impl Total {
    pub fn of(row: &WindowRow<'_>, window: Window) -> Self {
        Self {
            window_end: window.end,
            aggregate: row.aggregate.clone(),
            event_count: row.event_count,
            state: row.state,
            revision: row.revision.into(),
        }
    }

    pub fn merge(&mut self, row: &WindowRow<'_>) -> Result<(), Refusal> {
        self.aggregate.merge(row.aggregate)?;
        self.event_count += row.event_count;
        self.state = self.state.min(row.state);
        self.revision += u64::from(row.revision);
        Ok(())
    }
}

/// The rows of one page, while windows are visited.
pub struct Fold {
    rows: BTreeMap<RowKey, Total>,
    rows_max: usize,
    after: Option<RowKey>,
    /// Everything from here on lies on a later page.
    end: Option<RowKey>,
    member_bytes: usize,
    member_bytes_max: usize,
    refused: Option<Refusal>,
}

/// A finished page.
#[derive(Debug)]
pub struct Folded {
    pub rows: Vec<(RowKey, Total)>,
    pub has_more: bool,
}

impl Fold {
    /// Keeps the first `rows_max` rows after the key `after`.
    pub fn new(rows_max: usize, after: Option<RowKey>) -> Self {
        Self {
            rows: BTreeMap::new(),
            rows_max,
            after,
            end: None,
            member_bytes: 0,
            member_bytes_max: MEMBER_BYTES_MAX,
            refused: None,
        }
    }

    /// Takes in one stored window, which counts towards `window` in the answer.
    pub fn add(&mut self, key: RowKey, window: Window, row: &WindowRow<'_>) {
        let is_before = self.after.as_ref().is_some_and(|after| key <= *after);
        let is_behind = self.end.as_ref().is_some_and(|end| key >= *end);
        if is_before || is_behind || self.refused.is_some() {
            return;
        }
        if let Some(total) = self.rows.get_mut(&key) {
            self.member_bytes -= total.aggregate.heap_bytes();
            self.refused = total.merge(row).err();
            self.member_bytes += total.aggregate.heap_bytes();
        } else {
            let total = Total::of(row, window);
            self.member_bytes += total.aggregate.heap_bytes();
            self.rows.insert(key, total);
        }
        while self.rows.len() > self.rows_max || (self.member_bytes > self.member_bytes_max && self.rows.len() > 1) {
            self.drop_last();
        }
    }

    fn drop_last(&mut self) {
        if let Some((key, total)) = self.rows.pop_last() {
            self.member_bytes -= total.aggregate.heap_bytes();
            self.end = Some(key);
        }
    }

    pub fn finish(self) -> Result<Folded, Refusal> {
        match self.refused {
            Some(refusal) => Err(refusal),
            None => Ok(Folded { has_more: self.end.is_some(), rows: self.rows.into_iter().collect() }),
        }
    }
}

#[cfg(test)]
mod tests;
