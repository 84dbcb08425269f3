//! What one commit changes: rows in an arena, ids, and the position they bring the store to.

use crate::model::{EventKey, IdEntry, Seq};

/// A table of rows. The dedupe index is none: it has its own methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Position, format version and store id (see `docs/FORMATS.md`), and whatever single rows the engine keeps.
    Meta,
    /// One row per open counter.
    Counters,
    /// One row per member of an open counter's exact `unique` aggregate.
    Members,
    /// One row per finalized window of a counter.
    Windows,
    /// One row per billing period of a counter's series: what its finalized windows come to.
    Periods,
    /// One row per member of a period's exact `unique` aggregate.
    PeriodMembers,
    /// One row per change of a finalized window.
    Adjustments,
    /// What waits to go out: a queue per kind of row, written at its end, deleted from its front.
    Outbox,
    /// One row per delivery that is remembered.
    Deliveries,
    /// One row per attempt at a delivery that is remembered.
    Attempts,
    /// What a dead letter carries: one row per row of it.
    DeadLetters,
    /// One row per alert, one more once it has recovered, and an index of them by customer.
    Alerts,
    /// One row per threshold that was crossed in a period: which of its generations it is in.
    Thresholds,
    /// One row per reservation that is remembered.
    Reservations,
    /// One row per event that was taken back by itself.
    Voids,
    /// One row per id that a backfill has brought.
    BackfillIds,
    /// One row per action of an operator, and per change of the config.
    Trail,
}

impl Table {
    /// Every table, each at the place of its discriminant.
    pub const ALL: [Table; 17] = [
        Table::Meta,
        Table::Counters,
        Table::Members,
        Table::Windows,
        Table::Periods,
        Table::PeriodMembers,
        Table::Adjustments,
        Table::Outbox,
        Table::Deliveries,
        Table::Attempts,
        Table::DeadLetters,
        Table::Alerts,
        Table::Thresholds,
        Table::Reservations,
        Table::Voids,
        Table::BackfillIds,
        Table::Trail,
    ];

    /// The column family's name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Counters => "counters",
            Table::Members => "members",
            Table::Windows => "windows",
            Table::Periods => "periods",
            Table::PeriodMembers => "period_members",
            Table::Adjustments => "adjustments",
            Table::Outbox => "outbox",
            Table::Deliveries => "deliveries",
            Table::Attempts => "attempts",
            Table::DeadLetters => "dead_letters",
            Table::Alerts => "alerts",
            Table::Thresholds => "thresholds",
            Table::Reservations => "reservations",
            Table::Voids => "voids",
            Table::BackfillIds => "backfill_ids",
            Table::Trail => "trail",
        }
    }
}

/// Everything a stretch of the log changes. Applied as one.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The last record this commit holds the effects of.
    pub position: Seq,
    /// Accepted ids, in any order. Of two entries for one key the higher seq counts.
    pub ids: Vec<(EventKey, IdEntry)>,
    pub rows: Rows,
}

impl Commit {
    /// Takes a later stretch of the log in, so that both are committed as one.
    pub fn append(&mut self, later: &Commit) {
        self.position = self.position.max(later.position);
        self.ids.extend_from_slice(&later.ids);
        self.rows.append(&later.rows);
    }

    /// Empties the commit and keeps its memory.
    pub fn clear(&mut self) {
        self.position = Seq::ZERO;
        self.ids.clear();
        self.rows.clear();
    }
}

/// One change: a value, or `None` for a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub table: Table,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// A stretch of a table's keys, `from` included, `to` not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRange {
    pub table: Table,
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

impl RowRange {
    pub fn contains(&self, table: Table, key: &[u8]) -> bool {
        self.table == table && *self.from <= *key && *key < *self.to
    }

    /// Takes in a range that begins within this one or where it ends.
    fn extend(&mut self, table: Table, from: &[u8], to: &[u8]) -> bool {
        let joins = self.table == table && *self.from <= *from && *from <= *self.to;
        if joins && *self.to < *to {
            self.to = to.to_vec();
        }
        joins
    }
}

/// Changes to rows, in order, keys and values in one allocation, and ranges of keys to delete.
///
/// 1. Of two changes to one key the later one counts.
/// 2. Ranges apply after every put and delete, also those of Rows that are appended later. So they suit only tables whose
///    keys are never written again: what a range deleted must not be put once more.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    ranges: Vec<RowRange>,
}

/// A change's place in the arena: the key, then the value.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    key_len: u32,
    /// `None`: a deletion.
    value_len: Option<u32>,
    table: Table,
}

impl Rows {
    /// `key` and `value` must each be shorter than 4 GiB.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.push(table, key, Some(value));
    }

    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.push(table, key, None);
    }

    /// Deletes the rows with `from` ≤ key < `to`, whenever they are put: see [`Rows`]. Nothing if `to` is not beyond `from`.
    pub fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        if from >= to {
            return;
        }
        // A queue's front moves on step by step: one range for all of it.
        let last = self.ranges.iter_mut().rfind(|range| range.table == table);
        if !last.is_some_and(|last| last.extend(table, from, to)) {
            self.ranges.push(RowRange { table, from: from.to_vec(), to: to.to_vec() });
        }
    }

    /// Takes later changes in.
    pub fn append(&mut self, later: &Rows) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&later.bytes);
        self.spans.extend(later.spans.iter().map(|span| Span { start: span.start + offset, ..*span }));
        later.ranges.iter().for_each(|range| self.delete_range(range.table, &range.from, &range.to));
    }

    /// Puts and deletions of single keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        self.spans.iter().map(|span| {
            let (key, rest) = self.bytes[span.start..].split_at(span.key_len as usize);
            Row { table: span.table, key, value: span.value_len.map(|len| &rest[..len as usize]) }
        })
    }

    /// What is deleted after all of [`Rows::iter`].
    pub fn ranges(&self) -> &[RowRange] {
        &self.ranges
    }

    /// Puts the changes in order of table and key; changes to one key stay in their order. Ranges that meet become one.
    pub fn sort(&mut self) {
        let Self { bytes, spans, ranges } = self;
        let key = |span: &Span| (span.table, &bytes[span.start..span.start + span.key_len as usize]);
        spans.sort_by(|one, other| key(one).cmp(&key(other)));
        ranges.sort_by(|one, other| (one.table, &one.from).cmp(&(other.table, &other.from)));
        ranges.dedup_by(|next, range| range.extend(next.table, &next.from, &next.to));
    }

    /// Changes, a range being one.
    pub fn len(&self) -> usize {
        self.spans.len() + self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.ranges.is_empty()
    }

    /// Memory that the changes take: the measure for bounding queues.
    pub fn bytes(&self) -> usize {
        let ranges: usize = self.ranges.iter().map(|range| range.from.len() + range.to.len()).sum();
        self.bytes.len() + self.spans.len() * size_of::<Span>() + ranges + self.ranges.len() * size_of::<RowRange>()
    }

    /// Empties the arena and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.ranges.clear();
    }

    fn push(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a row is shorter than 4 GiB");
        self.spans.push(Span { start: self.bytes.len(), key_len: len(key), value_len: value.map(len), table });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_stands_at_its_place_under_a_name_of_its_own() {
        assert!(Table::ALL.iter().enumerate().all(|(place, table)| *table as usize == place));
        let names: std::collections::BTreeSet<_> = Table::ALL.iter().map(|table| table.name()).collect();
        assert_eq!(names.len(), Table::ALL.len());
    }

    #[test]
    fn gives_changes_back_in_order_also_after_an_append_and_a_clear() {
        let mut later = Rows::default();
        later.put(Table::Members, b"", b"");
        later.delete(Table::Counters, b"k");
        let mut rows = Rows::default();
        rows.put(Table::Counters, b"k", b"value");
        rows.append(&later);
        let row = |table, key, value| Row { table, key, value };
        let expected: [Row<'_>; 3] = [
            row(Table::Counters, b"k", Some(b"value")),
            row(Table::Members, b"", Some(b"")),
            row(Table::Counters, b"k", None),
        ];
        assert_eq!(rows.iter().collect::<Vec<_>>(), expected);
        assert_eq!((rows.len(), rows.is_empty()), (3, false));
        assert!(rows.bytes() > 7);
        rows.sort();
        let sorted: Vec<_> = rows.iter().map(|row| (row.table, row.value.is_some())).collect();
        let counters = [(Table::Counters, true), (Table::Counters, false)];
        assert_eq!(
            sorted,
            [counters[0], counters[1], (Table::Members, true)],
            "by key, changes to one key in their order"
        );
        rows.clear();
        assert_eq!((rows.len(), rows.bytes(), rows.iter().count()), (0, 0, 0));
    }
    fn ranges(rows: &Rows) -> Vec<(Table, &str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        rows.ranges().iter().map(|range| (range.table, text(&range.from), text(&range.to))).collect()
    }

    #[test]
    fn ranges_are_changes_of_their_own_and_stay_through_append_sort_and_clone() {
        let mut rows = Rows::default();
        rows.delete_range(Table::Outbox, b"b", b"c");
        assert_eq!((rows.len(), rows.is_empty(), rows.iter().len()), (1, false, 0));
        assert!(rows.bytes() > 2);
        let mut later = Rows::default();
        later.put(Table::Outbox, b"b1", b"");
        later.delete_range(Table::Attempts, b"x", b"y");
        later.delete_range(Table::Outbox, b"e", b"f");
        rows.append(&later);
        rows.sort();
        let expected = [(Table::Outbox, "b", "c"), (Table::Outbox, "e", "f"), (Table::Attempts, "x", "y")];
        assert_eq!(ranges(&rows), expected);
        assert_eq!((rows.len(), ranges(&rows.clone())), (4, expected.to_vec()));
        let mut commit = Commit { position: Seq(1), ..Commit::default() };
        commit.append(&Commit { position: Seq(2), rows, ..Commit::default() });
        assert_eq!(ranges(&commit.rows), expected);
        commit.clear();
        assert_eq!((commit.rows.len(), commit.rows.is_empty(), commit.rows.bytes()), (0, true, 0));
    }

    #[test]
    fn ranges_that_meet_become_one_and_empty_ones_are_none() {
        let mut rows = Rows::default();
        rows.delete_range(Table::Outbox, b"b", b"b");
        rows.delete_range(Table::Outbox, b"c", b"b");
        assert!(rows.is_empty());
        rows.delete_range(Table::Outbox, b"b", b"d");
        rows.delete_range(Table::DeadLetters, b"b", b"c");
        rows.delete_range(Table::Outbox, b"d", b"f");
        rows.delete_range(Table::Outbox, b"c", b"e");
        assert_eq!(ranges(&rows), [(Table::Outbox, "b", "f"), (Table::DeadLetters, "b", "c")]);
        rows.delete_range(Table::Outbox, b"h", b"k");
        rows.delete_range(Table::Outbox, b"a", b"b");
        rows.delete_range(Table::DeadLetters, b"c1", b"d");
        assert_eq!(rows.len(), 5);
        rows.sort();
        let outbox = [(Table::Outbox, "a", "f"), (Table::Outbox, "h", "k")];
        let dead = [(Table::DeadLetters, "b", "c"), (Table::DeadLetters, "c1", "d")];
        assert_eq!(ranges(&rows), [outbox, dead].concat());
    }

    #[test]
    fn a_range_holds_its_first_key_and_not_its_last() {
        let range = RowRange { table: Table::Outbox, from: b"b".to_vec(), to: b"d".to_vec() };
        let held = [&b"a"[..], b"b", b"c", b"c\xff", b"d"].map(|key| range.contains(Table::Outbox, key));
        assert_eq!(held, [false, true, true, true, false]);
        assert!(!range.contains(Table::Attempts, b"c"));
    }
}
