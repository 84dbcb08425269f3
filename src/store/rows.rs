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
}

impl Table {
    /// Every table, each at the place of its discriminant.
    pub const ALL: [Table; 7] = [
        Table::Meta,
        Table::Counters,
        Table::Members,
        Table::Windows,
        Table::Periods,
        Table::PeriodMembers,
        Table::Adjustments,
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

/// Changes to rows, in order, keys and values in one allocation. Of two changes to one key the later one counts.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    spans: Vec<Span>,
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

    /// Takes later changes in.
    pub fn append(&mut self, later: &Rows) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&later.bytes);
        self.spans.extend(later.spans.iter().map(|span| Span { start: span.start + offset, ..*span }));
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        self.spans.iter().map(|span| {
            let (key, rest) = self.bytes[span.start..].split_at(span.key_len as usize);
            Row { table: span.table, key, value: span.value_len.map(|len| &rest[..len as usize]) }
        })
    }

    /// Puts the changes in order of table and key; changes to one key stay in their order.
    pub fn sort(&mut self) {
        let Self { bytes, spans } = self;
        let key = |span: &Span| (span.table, &bytes[span.start..span.start + span.key_len as usize]);
        spans.sort_by(|one, other| key(one).cmp(&key(other)));
    }

    /// Changes.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Memory that the changes take: the measure for bounding queues.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.spans.len() * size_of::<Span>()
    }

    /// Empties the arena and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
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
}
