//! Rows into messages. Pure.
//!
//! 1. A message is a contiguous stretch of one kind's rows, within both limits; a row that is too large goes alone.
//! 2. While more rows are known to follow, the last message is left unfilled for the next time: it may take some of them.

use crate::delivery::transport::Limits;
use crate::engine::outbox::ROWS_MAX;
use crate::engine::{OutboxRow, Plan};

/// A plan and its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    pub plan: Plan,
    pub rows: Vec<OutboxRow>,
}

/// What fits, within what a delivery may have.
pub fn clamped(limits: Limits) -> Limits {
    Limits { rows: limits.rows.clamp(1, ROWS_MAX), ..limits }
}

/// Rows of one kind, in order; `more`: others follow them.
pub fn fill(rows: Vec<OutboxRow>, more: bool, limits: Limits, row_bytes: impl Fn(&OutboxRow) -> usize) -> Vec<Filled> {
    let mut filled: Vec<Filled> = Vec::new();
    let mut bytes = 0_usize;
    for row in rows {
        let needed = row_bytes(&row);
        let fits = bytes.saturating_add(needed) <= limits.bytes;
        match filled.last_mut().filter(|last| fits && last.rows.len() < limits.rows) {
            Some(last) => {
                bytes = bytes.saturating_add(needed);
                last.push(row);
            }
            None => {
                bytes = needed;
                filled.push(Filled::with(row));
            }
        }
    }
    if more && filled.len() > 1 {
        filled.pop();
    }
    filled
}

impl Filled {
    fn with(row: OutboxRow) -> Self {
        let plan = Plan { kind: row.kind(), first: row.position, last: row.position, rows: 1 };
        Self { plan, rows: vec![row] }
    }

    fn push(&mut self, row: OutboxRow) {
        self.plan = Plan { last: row.position, rows: self.plan.rows + 1, ..self.plan };
        self.rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::sim::row;
    use crate::model::{OutboxPosition, RowKind, Seq};

    fn rows(count: u32) -> Vec<OutboxRow> {
        (0..count).map(|index| row(RowKind::Windows, OutboxPosition::new(Seq(3), index))).collect()
    }

    /// The number of rows of each message, when a row's size is what `bytes` says of its number.
    fn sizes(count: u32, more: bool, limits: (usize, usize), bytes: impl Fn(u32) -> usize) -> Vec<usize> {
        let limits = Limits { rows: limits.0, bytes: limits.1 };
        let filled = fill(rows(count), more, limits, |row| bytes(row.position.index));
        for (filled, rest) in filled.iter().zip(0..) {
            let (first, last) = (&filled.rows[0], filled.rows.last().unwrap());
            assert_eq!((filled.plan.first, filled.plan.last), (first.position, last.position), "message {rest}");
            assert_eq!(filled.plan.rows as usize, filled.rows.len());
        }
        let all = filled.iter().flat_map(|filled| &filled.rows).map(|row| row.position.index);
        assert!(all.eq(0..filled.iter().map(|filled| filled.plan.rows).sum()), "contiguous, from the first row on");
        filled.iter().map(|filled| filled.rows.len()).collect()
    }

    #[test]
    fn fills_messages_up_to_the_rows_and_the_bytes_that_they_may_have() {
        assert_eq!(sizes(10, false, (4, 1_000), |_| 1), [4, 4, 2]);
        assert_eq!(sizes(10, false, (100, 50), |_| 10), [5, 5]);
        assert_eq!(sizes(0, false, (4, 50), |_| 10), [0_usize; 0]);
    }

    #[test]
    fn a_row_that_is_too_large_goes_alone() {
        let bytes = |index| if index == 2 { 999 } else { 10 };
        assert_eq!(sizes(5, false, (100, 50), bytes), [2, 1, 2]);
        assert_eq!(sizes(3, false, (100, 50), |_| usize::MAX), [1, 1, 1]);
    }

    #[test]
    fn the_last_message_waits_for_rows_that_are_known_to_follow_unless_it_is_the_only_one() {
        assert_eq!(sizes(10, true, (4, 1_000), |_| 1), [4, 4]);
        assert_eq!(sizes(3, true, (4, 1_000), |_| 1), [3]);
    }

    #[test]
    fn no_message_has_more_rows_than_a_delivery_may_have_nor_none() {
        assert_eq!(clamped(Limits { rows: usize::MAX, bytes: 7 }), Limits { rows: ROWS_MAX, bytes: 7 });
        assert_eq!(clamped(Limits { rows: 0, bytes: 7 }), Limits { rows: 1, bytes: 7 });
    }
}
