//! A day of events, in the order in which they would have come: a minute of every ten, and what they must come to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use fastrand::Rng;

use crate::cli::bench::Args;
use crate::cli::bench::evidence::fold::Fold;
use crate::cli::client::Target;
use crate::cli::generate::{Kind, MeterSpec, Times, Workload};
use crate::cli::load::{Load, Mix, Report, Source, Until};
use crate::cli::totals::MeterInfo;
use crate::model::{Quantity, Timestamp};

/// Minutes of a day that events are spread over: one of ten.
const SLICES: u64 = 144;
const SLICE_SECONDS: u64 = 600;
const MINUTE_MICROS: i64 = 60_000_000;
pub const HOUR_MICROS: i64 = 60 * MINUTE_MICROS;

/// What was sent.
pub struct Sent {
    pub seed: u64,
    workload: Workload,
    slices: Vec<Slice>,
    pub report: Report,
}

/// The events of one minute.
struct Slice {
    /// The hour that it lies in.
    window: Timestamp,
    numbers: Range<u64>,
}

/// A window of one customer and meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub customer: u64,
    /// Index into the meters.
    pub meter: usize,
    pub start: Timestamp,
}

/// What was sent for whoever is looked at.
#[derive(Debug, Default)]
pub struct Tally {
    pub windows: BTreeMap<Key, Fold>,
    /// Events by customer.
    pub days: BTreeMap<u64, u64>,
}

/// The whole minute that has begun.
pub fn minute(at: Timestamp) -> Timestamp {
    floor(at, MINUTE_MICROS)
}

fn floor(at: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(at.micros() - at.micros().rem_euclid(micros)).unwrap_or(at)
}

impl Sent {
    /// Sends `events` that happened in the day before `until`, which is a whole minute. All must be accepted.
    pub fn ingest(
        args: &Args,
        target: &Target,
        meters: &[MeterInfo],
        (customers, events): (u64, u64),
        until: Timestamp,
    ) -> anyhow::Result<Self> {
        // Totals are folded elsewhere: the kind does not matter.
        let spec = |meter: &MeterInfo| {
            let dimensions = meter.dimensions.keys().cloned().collect();
            MeterSpec { slug: meter.slug.clone(), kind: Kind::Sum, dimensions }
        };
        let specs: Vec<MeterSpec> = meters.iter().map(spec).collect();
        let seed = args.seed.unwrap_or_else(|| until.micros().unsigned_abs());
        let workload = |end| Workload::new(seed, specs.clone(), customers, args.event_bytes, Times::Before(end));
        let (next, answered, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let timeout = Duration::from_secs(args.timeout);
        let (mut slices, mut report) = (Vec::new(), Report::default());
        for slice in 0..SLICES {
            let age = crate::model::Duration::from_secs((SLICES - 1 - slice) * SLICE_SECONDS);
            let end = until.saturating_sub(age);
            let (first, share) = (next.load(Ordering::Relaxed), events * (slice + 1) / SLICES);
            let run = Load {
                target,
                workload: &workload(end),
                source: Source::Fresh(Mix::default()),
                until: Until::Events(share - first.min(share)),
                batch: args.batch,
                connections: args.connections.max(1),
                pause: Duration::ZERO,
                per_second: None,
                timeout,
                give_up_after: timeout,
                next: &next,
                answered: &answered,
                stop: &stop,
                seed: seed ^ slice,
            };
            let run = run.run().context("while sending a day's events")?;
            let elapsed = report.elapsed + run.elapsed;
            report.merge(run);
            report.elapsed = elapsed;
            let start = Timestamp::from_micros(end.micros() - MINUTE_MICROS)?;
            slices.push(Slice { window: floor(start, HOUR_MICROS), numbers: first..next.load(Ordering::Relaxed) });
        }
        let (mismatches, counts) = (&report.mismatches, &report.counts);
        ensure!(report.mismatch_count == 0, "a batch was not answered as it must be: {mismatches:?}");
        ensure!(counts.accepted + counts.duplicate == events, "of {events} events not all were accepted: {counts:?}");
        Ok(Self { seed, workload: workload(until), slices, report })
    }

    /// Windows that have usage, drawn by it: fewer if there are not so many.
    pub fn draw_windows(&self, rng: &mut Rng, count: usize) -> BTreeSet<Key> {
        let (mut drawn, end) = (BTreeSet::new(), self.slices.last().map_or(0, |slice| slice.numbers.end));
        for _ in 0..2 * count {
            if drawn.len() < count && end > 0 {
                let number = rng.u64(0..end);
                let slice = &self.slices[self.slices.partition_point(|slice| slice.numbers.end <= number)];
                drawn.insert(self.key(slice, number).0);
            }
        }
        drawn
    }

    /// What must be found of these.
    pub fn tally(&self, windows: BTreeSet<Key>, customers: BTreeSet<u64>) -> anyhow::Result<Tally> {
        let mut tally = Tally {
            windows: windows.into_iter().map(|key| (key, Fold::default())).collect(),
            days: customers.into_iter().map(|customer| (customer, 0)).collect(),
        };
        for slice in &self.slices {
            for number in slice.numbers.clone() {
                let (key, value) = self.key(slice, number);
                if let Some(fold) = tally.windows.get_mut(&key) {
                    fold.add(value)?;
                }
                if let Some(events) = tally.days.get_mut(&key.customer) {
                    *events += 1;
                }
            }
        }
        Ok(tally)
    }

    fn key(&self, slice: &Slice, number: u64) -> (Key, Quantity) {
        let event = self.workload.event(number);
        let value = Quantity::from_scaled(i128::from(event.cents) * (Quantity::ONE.scaled() / 100));
        (Key { customer: event.customer, meter: event.meter, start: slice.window }, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(numbers: &[Range<u64>]) -> Sent {
        let meter = |slug: &str| MeterSpec { slug: slug.into(), kind: Kind::Sum, dimensions: vec![] };
        let workload = Workload::new(7, vec![meter("a"), meter("b")], 3, 0, Times::AtReceipt);
        let window = |hour: usize| Timestamp::from_micros(hour as i64 * HOUR_MICROS).unwrap();
        let slice = |(hour, numbers): (usize, &Range<u64>)| Slice { window: window(hour), numbers: numbers.clone() };
        Sent { seed: 7, workload, slices: numbers.iter().enumerate().map(slice).collect(), report: Report::default() }
    }

    #[test]
    fn every_event_is_in_the_tally_once() {
        let sent = sent(&[0..500, 500..500, 500..800]);
        let windows = sent.draw_windows(&mut Rng::with_seed(1), 100);
        // Three customers, two meters, and two hours that have events.
        assert_eq!(windows.len(), 12);
        let tally = sent.tally(windows, (0..3).collect()).unwrap();
        assert_eq!(tally.days.values().sum::<u64>(), 800);
        let events = |hour: i64| {
            let of_hour = tally.windows.iter().filter(|(key, _)| key.start.micros() == hour * HOUR_MICROS);
            of_hour.map(|(_, fold)| fold.events).sum::<u64>()
        };
        assert_eq!([events(0), events(1), events(2)], [500, 0, 300]);
    }

    #[test]
    fn as_many_windows_are_drawn_as_wanted_and_none_of_nothing() {
        let rng = &mut Rng::with_seed(1);
        assert_eq!(sent(&[0..800, 800..1_600]).draw_windows(rng, 5).len(), 5);
        assert!(sent(&[0..0, 0..0]).draw_windows(rng, 5).is_empty());
    }

    #[test]
    fn a_minute_before_a_whole_one_lies_within_one_hour() {
        let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        assert_eq!(minute(at("2026-11-22T10:00:59.9Z")), at("2026-11-22T10:00:00Z"));
        assert_eq!(floor(at("2026-11-22T09:59:00Z"), HOUR_MICROS), at("2026-11-22T09:00:00Z"));
        assert_eq!(floor(at("1969-12-31T23:30:00Z"), HOUR_MICROS), at("1969-12-31T23:00:00Z"));
    }
}
