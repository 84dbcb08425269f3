//! Holds a daemon's books against what was sent. Pure: each check answers in words what is wrong.
//!
//! 1. A window's value and event count are those of the accepted events whose timestamps lie in it, no more, no less.
//! 2. A window's adjustments have consecutive revisions up to its own; without their deltas it is what was finalized.
//! 3. A period's total is the sum of its windows, and what it was without adjustments is told apart.

use std::collections::{BTreeMap, HashSet};

use crate::windows::billing::{Adjustment, Books, Cell, Row, Sum, Total, model, month, scaled};

pub type Expected = BTreeMap<Cell, Sum>;

/// All checks of this module.
pub fn all(expected: &Expected, books: &Books) -> Result<(), String> {
    windows(expected, &books.windows)?;
    adjustments(books)?;
    totals(books)
}

/// Every window is there, and none that nobody used.
pub fn windows(expected: &Expected, found: &BTreeMap<Cell, Row>) -> Result<(), String> {
    let missing = expected.keys().filter(|cell| !found.contains_key(cell)).map(|cell| format!("{cell:?} is missing"));
    let differing = found.iter().filter_map(|(cell, row)| {
        let due = expected.get(cell).copied().unwrap_or_default();
        (due != row.sum).then(|| format!("{cell:?} has {:?} where {due:?} was sent", row.sum))
    });
    none(missing.chain(differing))
}

/// Every adjustment is one event of a window that is final, and what they leave is what was finalized.
fn adjustments(books: &Books) -> Result<(), String> {
    let ids = books.adjustments.iter().map(|adjustment| &adjustment.id).collect::<HashSet<_>>();
    if ids.len() != books.adjustments.len() {
        return Err(format!("{} adjustments share {} ids", books.adjustments.len(), ids.len()));
    }
    let by_cell = by_cell(&books.adjustments);
    let strangers = by_cell.keys().filter(|cell| !books.windows.contains_key(cell));
    let strangers = strangers.map(|cell| format!("{cell:?} was adjusted and is not listed"));
    let wrong = books.windows.iter().filter_map(|(cell, row)| {
        let adjustments = by_cell.get(cell).map(Vec::as_slice).unwrap_or_default();
        let wrong = window_and_adjustments(row, adjustments).err()?;
        Some(format!("{cell:?} {row:?}: {wrong}: {adjustments:?}"))
    });
    none(strangers.chain(wrong))
}

fn window_and_adjustments(row: &Row, adjustments: &[&Adjustment]) -> Result<(), String> {
    let deltas = adjustments.iter().map(|adjustment| scaled(Some(&adjustment.delta))).collect::<Vec<_>>();
    let original = row.sum.scaled - deltas.iter().sum::<i128>();
    let Some(original_events) = row.sum.events.checked_sub(adjustments.len() as u64) else {
        return Err("more adjustments than events".into());
    };
    if original < 0 || (original_events == 0 && original != 0) {
        return Err(format!("{original_events} events were finalized with {original}"));
    }
    // A window that nobody had used starts with its first adjustment, at revision 1.
    let finalized = u64::from(original_events > 0);
    let mut value = original;
    for (n, (adjustment, delta)) in adjustments.iter().zip(deltas).enumerate() {
        value += delta;
        if adjustment.revision != finalized + n as u64 + 1 {
            return Err(format!("revision {} where {} was due", adjustment.revision, finalized + n as u64 + 1));
        }
        if scaled(adjustment.value.as_deref()) != value || adjustment.event_count != original_events + n as u64 + 1 {
            return Err(format!("{} leaves {:?}, not {value}", adjustment.id, adjustment.value));
        }
        if month(adjustment.cell().start_ms) != adjustment.period {
            return Err(format!("{} is of another period", adjustment.id));
        }
    }
    let (due, is_final) = (finalized + adjustments.len() as u64, row.state == "finalized");
    match row.revision {
        revision if is_final && revision == due => Ok(()),
        0 if !is_final && adjustments.is_empty() => Ok(()),
        revision => Err(format!("revision {revision} of a window that is {}, not {due}", row.state)),
    }
}

/// A period's total is that of its windows; its adjustments are theirs.
fn totals(books: &Books) -> Result<(), String> {
    type Key = (String, String, Option<String>, String);
    let mut due = BTreeMap::<Key, (Sum, Sum)>::new();
    let key = |cell: &Cell| (cell.customer.clone(), cell.meter.clone(), cell.model.clone(), month(cell.start_ms));
    for (cell, row) in &books.windows {
        due.entry(key(cell)).or_default().0.add(row.sum.scaled, row.sum.events);
    }
    for adjustment in &books.adjustments {
        due.entry(key(&adjustment.cell())).or_default().1.add(scaled(Some(&adjustment.delta)), 1);
    }
    let mut wrong = Vec::new();
    for total in &books.totals {
        let key = (total.customer.clone(), total.meter.clone(), model(&total.dimensions), total.period.clone());
        match due.remove(&key) {
            None => wrong.push(format!("{total:?} is of no window, or there twice")),
            Some((all, late)) => {
                wrong.extend(period_total(total, all, late).map(|wrong| format!("{total:?}: {wrong}")))
            }
        }
    }
    none(wrong.into_iter().chain(due.into_iter().map(|(key, sums)| format!("no total for {key:?}: {sums:?}"))))
}

fn period_total(total: &Total, all: Sum, late: Sum) -> Option<String> {
    let found = Sum { scaled: scaled(total.value.as_deref()), events: total.event_count };
    let adjusted = Sum { scaled: scaled(total.adjustment.as_deref()), events: total.adjustments };
    let original = scaled(total.original_value.as_deref());
    if found != all {
        return Some(format!("{found:?}, but its windows have {all:?}"));
    }
    if adjusted != late || original + late.scaled != all.scaled {
        return Some(format!("original {original} and {adjusted:?}, but its adjustments are {late:?}"));
    }
    let start = format!("{}-01T00:00:00Z", total.period);
    let is_hash = total.hash.len() == 64 && total.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match () {
        () if total.period_start != start => Some(format!("it starts at {start}")),
        () if !is_hash => Some("its hash is none".into()),
        () => None,
    }
}

/// Each window's adjustments, in order.
pub fn by_cell(adjustments: &[Adjustment]) -> BTreeMap<Cell, Vec<&Adjustment>> {
    let mut by_cell = BTreeMap::<_, Vec<_>>::new();
    for adjustment in adjustments {
        by_cell.entry(adjustment.cell()).or_default().push(adjustment);
    }
    by_cell
}

impl Sum {
    pub fn add(&mut self, scaled: i128, events: u64) {
        self.scaled += scaled;
        self.events += events;
    }
}

/// The first few of what is wrong.
fn none(wrong: impl Iterator<Item = String>) -> Result<(), String> {
    let wrong = wrong.collect::<Vec<_>>();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("{} are wrong: {}", wrong.len(), wrong[..wrong.len().min(3)].join("; "))),
    }
}

/// Two windows of one customer: two events in time and one late, and a late one for a window that nobody had used.
fn books() -> (Expected, Books) {
    let cell = |start_ms| Cell { meter: "m".into(), customer: "c".into(), model: None, start_ms };
    let row = |scaled, events, revision| Row { sum: Sum { scaled, events }, state: "finalized".into(), revision };
    let windows =
        BTreeMap::from([(cell(0), row(6_000_000_000_000, 3, 2)), (cell(2_000), row(4_000_000_000_000, 1, 1))]);
    let adjustment = |id: &str, window_start: &str, delta: &str, value: &str, event_count, revision| Adjustment {
        id: id.into(),
        customer: "c".into(),
        meter: "m".into(),
        dimensions: BTreeMap::from([("model".into(), None)]),
        window_start: window_start.into(),
        window_end: window_start.into(),
        period: "1970-01".into(),
        delta: delta.into(),
        value: Some(value.into()),
        event_count,
        revision,
        timestamp: window_start.into(),
        recorded_at: window_start.into(),
    };
    let adjustments = vec![
        adjustment("1.5.0", "1970-01-01T00:00:00Z", "1", "6", 3, 2),
        adjustment("1.6.0", "1970-01-01T00:00:02Z", "4", "4", 1, 1),
    ];
    let total = Total {
        customer: "c".into(),
        meter: "m".into(),
        dimensions: BTreeMap::from([("model".into(), None)]),
        period: "1970-01".into(),
        period_start: "1970-01-01T00:00:00Z".into(),
        period_end: "1970-02-01T00:00:00Z".into(),
        value: Some("10".into()),
        original_value: Some("5".into()),
        adjustment: Some("5".into()),
        event_count: 4,
        adjustments: 2,
        state: "open".into(),
        revision: 0,
        incarnation: 1,
        hash: "0f".repeat(32),
    };
    let expected = windows.iter().map(|(cell, row)| (cell.clone(), row.sum)).collect();
    (expected, Books { windows, adjustments, totals: vec![total] })
}

#[test]
fn right_books_are_right_and_every_change_to_them_is_noticed() {
    let (expected, books) = books();
    assert_eq!(all(&expected, &books), Ok(()));
    type Change = (&'static str, fn(&mut Books));
    let changes: [Change; 16] = [
        ("a window lost", |books| drop(books.windows.pop_first())),
        ("a value", |books| books.windows.values_mut().for_each(|row| row.sum.scaled += 1)),
        ("an event count", |books| books.windows.values_mut().for_each(|row| row.sum.events += 1)),
        ("a revision", |books| books.windows.values_mut().for_each(|row| row.revision += 1)),
        ("a state", |books| books.windows.values_mut().for_each(|row| row.state = "grace".into())),
        ("an adjustment lost", |books| drop(books.adjustments.pop())),
        ("an adjustment twice", |books| books.adjustments.extend(books.adjustments.first().cloned())),
        ("its revision", |books| books.adjustments[0].revision += 1),
        ("its delta", |books| books.adjustments[0].delta = "2".into()),
        ("its value", |books| books.adjustments[0].value = None),
        ("its event count", |books| books.adjustments[0].event_count -= 1),
        ("its period", |books| books.adjustments[0].period = "1970-02".into()),
        ("a total lost", |books| drop(books.totals.pop())),
        ("a total twice", |books| books.totals.extend(books.totals.first().cloned())),
        ("what it was without", |books| books.totals[0].original_value = Some("6".into())),
        ("how often it was adjusted", |books| books.totals[0].adjustments = 1),
    ];
    for (what, change) in changes {
        let mut changed = books.clone();
        change(&mut changed);
        assert!(all(&expected, &changed).is_err(), "{what} is not noticed");
    }
    let mut stranger = expected.clone();
    stranger
        .entry(Cell { meter: "m".into(), customer: "c".into(), model: None, start_ms: 4_000 })
        .or_default()
        .events = 1;
    assert!(all(&stranger, &books).is_err(), "a window that is not listed");
}
