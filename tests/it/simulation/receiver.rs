//! Whoever is outside: it forgets nothing of what it was sent, however often the daemon dies.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meterd::engine::{Alert, Delivery, DeliveryId, OutboxRow, UsageRow};
use meterd::model::{OutboxPosition, RowKind, Seq};

use super::ledger::Known;
use super::model::{Adjusted, CounterName, METERS, WindowValue};

/// A row's place at a sink.
type Place = (String, RowKind, OutboxPosition);

#[derive(Default)]
pub struct Receiver {
    letters: HashMap<DeliveryId, (String, Vec<OutboxRow>)>,
    places: BTreeMap<Place, (DeliveryId, OutboxRow)>,
}

/// The counter that a row of usage is about.
fn name_of(row: &UsageRow) -> CounterName {
    let tail = |text: &str| -> u8 { text.rsplit('-').next().and_then(|tail| tail.parse().ok()).expect("a number") };
    let meter = METERS.iter().position(|meter| *meter == row.meter).expect("a known meter");
    let [(name, model)] = &row.dimensions[..] else { panic!("one dimension: {row:?}") };
    assert_eq!((name.as_str(), row.tenant.as_str()), ("model", "default"));
    (tail(&row.customer), meter, model.as_deref().map(tail), row.window.start.micros())
}

impl Receiver {
    /// Answers whether it had the delivery before.
    pub fn receive(&mut self, delivery: &Delivery, rows: Vec<OutboxRow>, known: &Known) -> bool {
        let (sink, id) = (delivery.sink.to_string(), delivery.id);
        assert_eq!(rows.len(), delivery.rows as usize, "a delivery has as many rows as it was planned with: {id}");
        let ends = (rows.first().map(|row| row.position), rows.last().map(|row| row.position));
        assert_eq!(ends, (Some(delivery.first), Some(delivery.last)), "{id}");
        assert!(rows.is_sorted_by(|one, next| one.position < next.position), "rows are in order: {id}");
        for row in &rows {
            assert_eq!(row.kind(), delivery.kind, "{id}");
            if let Some(usage) = row.usage() {
                assert_eq!(usage.incarnation, known.incarnation_at(row.position.seq), "{id} {row:?}");
                let is_adjustment = row.kind() == RowKind::Adjustments;
                assert_eq!(usage.change.delta().is_some(), is_adjustment, "{id} {row:?}");
            }
        }
        if let Some((owner, before)) = self.letters.get(&id) {
            assert_eq!((owner, before), (&sink, &rows), "the same id, the same rows: {id}");
            return true;
        }
        for row in &rows {
            let place = (sink.clone(), row.kind(), row.position);
            let before = self.places.insert(place, (id, row.clone()));
            assert!(before.is_none(), "{} is in {id} and in {before:?}", row.position);
        }
        self.letters.insert(id, (sink, rows));
        false
    }

    /// The record of the newest row that ever went out.
    pub fn newest(&self) -> Seq {
        self.places.keys().map(|(_, _, position)| position.seq).max().unwrap_or(Seq::ZERO)
    }

    fn rows_of<'a>(&'a self, sink: &'a str) -> impl Iterator<Item = &'a OutboxRow> {
        self.places.iter().filter(move |((name, ..), _)| name == sink).map(|(_, (_, row))| row)
    }

    fn usage_of<'a>(&'a self, sink: &'a str) -> impl Iterator<Item = (Seq, &'a UsageRow)> {
        self.rows_of(sink).filter_map(|row| Some((row.position.seq, row.usage()?)))
    }

    /// A sink that was there from the first record on has every revision of every final window, once.
    pub fn check_complete(&self, sink: &str, windows: &BTreeMap<CounterName, WindowValue>, adjusted: &[Adjusted]) {
        let mut rows: BTreeMap<CounterName, Vec<&UsageRow>> = BTreeMap::new();
        self.usage_of(sink).for_each(|(_, row)| rows.entry(name_of(row)).or_default().push(row));
        for (name, window) in windows.iter().filter(|(_, window)| window.is_final) {
            let mut rows = rows.remove(name).unwrap_or_default();
            rows.sort_by_key(|row| (row.incarnation, row.revision));
            let revisions: Vec<u32> = rows.iter().map(|row| row.revision).collect();
            assert_eq!(revisions, (1..=window.revision).collect::<Vec<_>>(), "revisions of {name:?} that {sink} got");
            let newest = rows.last().expect("a final window has a revision");
            let told = (newest.value, newest.event_count);
            assert_eq!(told, (Some(window.value), window.event_count), "what {sink} was told of {name:?} last");
        }
        assert!(rows.is_empty(), "{sink} got rows of windows that are not final: {rows:?}");
        let told: Vec<Adjusted> = self
            .usage_of(sink)
            .filter_map(|(seq, row)| Some((seq, name_of(row), row.change.delta()?.scaled(), row.revision)))
            .collect();
        assert_eq!(told, adjusted, "adjustments that {sink} got");
    }

    /// A sink that was there from the first record on has every word on every alert, once and in order.
    pub fn check_alerts(&self, sink: &str, alerts: &[(Seq, Alert)]) {
        let told: Vec<(OutboxPosition, &Alert)> =
            self.rows_of(sink).filter_map(|row| Some((row.position, row.alert()?))).collect();
        let expected = alerts.iter().map(|(seq, alert)| (OutboxPosition::new(*seq, 0), alert));
        assert!(told.iter().copied().eq(expected), "alerts that {sink} got: {told:#?}, not {alerts:#?}");
    }

    /// Since a sink gets a kind it got what `model`, which has everything, got.
    pub fn check_like(&self, sink: &str, kind: RowKind, since: OutboxPosition, model: &str) {
        let places = |name: &str| -> BTreeSet<OutboxPosition> {
            self.rows_of(name)
                .filter(|row| row.kind() == kind)
                .map(|row| row.position)
                .filter(|at| *at >= since)
                .collect()
        };
        assert_eq!(places(sink), places(model), "{} that {sink} got since {since}", kind.as_str());
    }
}
