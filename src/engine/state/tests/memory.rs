//! Counters leave memory and are called back, epochs and readers get in between, the process starts again: the fold must
//! be the same as one that keeps everything.

use std::collections::BTreeMap;

use super::super::*;
use super::fixture::*;
use crate::engine::record;
use crate::meter::{Aggregation, PeriodKind, Value};
use crate::model::{Duration, Quantity};
use crate::store::Table;

const TENANTS: [&str; 2] = ["acme", "other"];

fn definitions(days: bool) -> Vec<Definition> {
    let mut all: Vec<Definition> = Aggregation::ALL.iter().map(|kind| definition(kind.as_str(), *kind)).collect();
    let (day, minutes): (Duration, Duration) = (DAY, Duration::from_secs(900));
    all[0].dimensions = vec![("model".into(), "$.model".parse().unwrap())];
    all[1].grace = day;
    all[2] = Definition { window: "1d".parse().unwrap(), grace: Duration::ZERO, ..all[2].clone() };
    all[3] = Definition { billing_period: PeriodKind::Day, grace: minutes, ..all[3].clone() };
    all[4] = Definition { billing_period: PeriodKind::Week, time_zone: "Europe/Berlin".into(), ..all[4].clone() };
    all[5].billing_time_zone = Some("America/New_York".into());
    all[6] = Definition { window: "1d".parse().unwrap(), unique_members_max: 12, ..all[6].clone() };
    let estimate =
        Definition { unique_members_max: 9, approximate: true, ..definition("estimate", Aggregation::Unique) };
    all.extend([estimate, Definition { window: "15m".parse().unwrap(), ..definition("short", Aggregation::Sum) }]);
    all.iter_mut().filter(|_| days).for_each(|definition| definition.billing_period = PeriodKind::Day);
    all
}

struct World {
    log: Log,
    rng: fastrand::Rng,
    pins: Vec<Pin>,
    drained: bool,
    customers: Vec<String>,
    /// What happened how often, so that a run that proves nothing is noticed.
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        // Many customers with short periods: series come and go, and their numbers are used again.
        let days = seed % 2 == 1;
        let mut log = Log::new(&definitions(days), time("2026-10-20T00:00:00Z"));
        for tenant in TENANTS {
            log.put_customer(
                tenant,
                "anchored",
                r#"{"plan":null,"schedule":{"eras":[{"from":null,"anchor":25,"time_zone":"Asia/Tokyo"}]}}"#,
            );
            log.put_customer(
                tenant,
                "shifted",
                r#"{"plan":"p","schedule":{"eras":[{"from":null,"anchor":null,"time_zone":"Asia/Kathmandu"}]}}"#,
            );
        }
        let mut customers = vec!["anchored".to_owned(), "shifted".to_owned()];
        customers.extend((0..if days { 40 } else { 2 }).map(|number| format!("c-{number}")));
        let rng = fastrand::Rng::with_seed(seed);
        Self { log, rng, pins: Vec::new(), drained: false, customers, seen: BTreeMap::new() }
    }

    fn note(&mut self, what: &'static str, count: u64) {
        *self.seen.entry(what).or_default() += count;
    }

    fn step(&mut self) {
        match self.rng.u32(..1_000) {
            0..500 => self.events(),
            500..590 => self.time_passes(),
            590..720 => self.close(),
            720..860 => self.epoch(),
            860..930 => {
                let limit = self.rng.usize(1..60);
                self.log.state.write().leave(limit);
            }
            930..960 => self.readers(),
            960..975 => self.write_something(),
            975..985 => self.redefine(),
            985..992 => self.reset_clock(),
            _ => self.restart(),
        }
    }

    fn value(&mut self, meter: &Definition) -> Value {
        if meter.aggregation == Aggregation::Unique {
            return Value::Member(u128::from(self.rng.u64(..40)) << 64 | 0xFEED);
        }
        Value::Quantity(Quantity::from_scaled(i128::from(self.rng.i64(-5_000_000_000_000..90_000_000_000_000))))
    }

    fn events(&mut self) {
        let tenant = TENANTS[usize::from(self.rng.u32(..4) == 0)];
        for _ in 0..self.rng.usize(1..5) {
            let back = match self.rng.u32(..20) {
                0..9 => self.rng.u64(..7_200),
                9..13 => self.rng.u64(..2 * 86_400),
                13..16 => self.rng.u64(..9 * 86_400),
                16..18 => self.rng.u64(..75 * 86_400),
                _ => 0,
            };
            // Ages are coarse, so that windows meet again.
            let ahead = if back == 0 { Duration::from_secs(self.rng.u64(..3_600)) } else { Duration::ZERO };
            let at = self.log.now.saturating_sub(Duration::from_secs(back / 600 * 600)).saturating_add(ahead);
            let mut meters: Vec<u16> = (0..self.log.meters.len() as u16).collect();
            self.rng.shuffle(&mut meters);
            meters.truncate(self.rng.usize(1..4));
            let feeds = meters.into_iter().map(|number| {
                let definition = self.log.meters.get(MeterId(number)).unwrap().definition.clone();
                let choices = [None, Some("a"), Some("")];
                let dimensions = definition.dimensions.iter().map(|_| choices[self.rng.usize(..3)]).collect();
                NewFeed { meter: MeterId(number), value: self.value(&definition), dimensions }
            });
            let feeds = feeds.collect();
            let customer = self.customers[self.rng.usize(..self.customers.len())].clone();
            match self.log.events(tenant, &[NewEvent { customer, at, feeds }]).remove(0) {
                Ok(late) => {
                    self.note("accepted", 1);
                    self.note("late", late.iter().filter(|late| **late).count() as u64);
                }
                Err(_) => self.note("refused", 1),
            }
        }
    }

    fn time_passes(&mut self) {
        let seconds = match self.rng.u32(..40) {
            0 => self.rng.u64(..25 * 86_400),
            1..10 => self.rng.u64(..86_400),
            _ => self.rng.u64(..3_600),
        };
        self.log.now = self.log.now.saturating_add(Duration::from_secs(seconds));
        if self.rng.bool() {
            self.log.tick(self.log.now);
        }
    }

    fn close(&mut self) {
        for _ in 0..self.rng.usize(1..12) {
            let limit = self.rng.usize(1..8);
            let closed = self.log.close_slice(limit);
            self.note("closed", u64::from(closed));
        }
    }

    fn epoch(&mut self) {
        if self.log.closed_at.is_none() {
            self.log.close_epoch();
        } else if !self.drained {
            let limit = self.rng.usize(1..250);
            self.drained = self.log.state.write().drain_epoch(limit);
        } else {
            self.log.commit_drained();
            self.drained = false;
            self.note("committed", 1);
        }
    }

    fn readers(&mut self) {
        if self.rng.bool() {
            self.pins.push(self.log.state.read().pin());
        } else if !self.pins.is_empty() {
            let place = self.rng.usize(..self.pins.len());
            self.pins.remove(place);
        }
        if self.pins.len() > 4 {
            self.pins.clear();
        }
    }

    fn write_something(&mut self) {
        let tally = Tally { duplicate: self.rng.u64(..5), rejected: 1, ..Tally::default() };
        match self.rng.u32(..3) {
            0 => self.log.write(|out| record::put_tally(out, "acme", &tally)),
            1 => {
                let settings = Customer { plan: Some(self.rng.u32(..).to_string()), ..Customer::default() };
                self.log.write(|out| record::put_customer_changed(out, "other", "c-1", &settings));
            }
            _ => {
                let horizon = Seq(self.rng.u64(..self.log.records.len() as u64));
                let now = self.log.now;
                self.log.write(|out| record::put_tick(out, now, horizon));
            }
        }
    }

    fn redefine(&mut self) {
        let meter = MeterId(self.rng.u16(..self.log.meters.len() as u16));
        let mut definition = self.log.meters.get(meter).unwrap().definition.clone();
        definition.grace = Duration::from_secs(self.rng.u64(..3 * 86_400));
        definition.unique_members_max = self.rng.u32(3..25);
        definition.approximate = self.rng.u32(..4) == 0;
        self.log.define(meter, &definition);
    }

    /// An operator sets the clock: back by up to two days, or ahead.
    fn reset_clock(&mut self) {
        let now = self.log.now.saturating_sub(Duration::from_secs(self.rng.u64(..2 * 86_400)));
        let now = now.saturating_add(Duration::from_secs(self.rng.u64(..86_400)));
        self.log.now = now;
        self.log.write(|out| record::put_clock_reset(out, now, "test"));
        self.note("reset", 1);
    }

    /// The process dies, and folds what the store did not have yet.
    fn restart(&mut self) {
        self.pins.clear();
        (self.log.closed_at, self.drained) = (None, false);
        let store: Arc<dyn Store> = self.log.store.clone();
        let mut state = State::load(&store, self.log.hasher.clone()).unwrap();
        replay(&mut state, &self.log.records);
        *self.log.state.write() = state;
        self.note("restarted", 1);
    }

    /// The store has everything, and everything final has left.
    fn settle(&mut self) {
        self.pins.clear();
        if self.log.closed_at.is_some() {
            self.log.commit();
        }
        self.drained = false;
        self.log.commit();
        self.log.leave();
    }

    fn check(&mut self, seed: u64) {
        self.check_numbers();
        self.settle();
        let state = self.log.state.read();
        let stored = dump(&*self.log.store);
        assert_same(&stored, &written_out(folded(&self.log.records)), seed);
        let store: Arc<dyn Store> = self.log.store.clone();
        let loaded = State::load(&store, TableHasher::default()).unwrap();
        assert_eq!(open(&state), open(&self.log.reference), "seed {seed}");
        assert_eq!(open(&loaded), open(&state), "seed {seed}");
        assert_eq!((loaded.counters, loaded.members), (state.counters, state.members), "seed {seed}");
        assert_eq!(loaded.clock, state.clock);
        assert_eq!(loaded.definitions, state.definitions);
        assert_eq!(loaded.closed_to, state.closed_to);
        assert_eq!(loaded.tenants, state.tenants);
        assert_eq!(loaded.customers, state.customers);
        assert!(loaded.periods.iter().eq(state.periods.iter()));
        assert_eq!(state.counters, stored.keys().filter(|(table, _)| *table == Table::Counters).count() as u64);
        assert_eq!((state.recent_adjustments().count(), state.new_periods().count()), (0, 0));
        let finals = all_series(&state).flat_map(|series| &series.counters).filter(|counter| counter.is_final).count();
        assert_eq!(finals, 0, "everything final has left");
        drop(state);
        self.check_numbers();
    }

    /// The running totals are what a count comes to.
    fn check_numbers(&self) {
        let state = self.log.state.read();
        let counters: usize = all_series(&state).map(|series| series.counters.len()).sum();
        assert_eq!(state.counters, counters as u64);
        let members = all_series(&state).map(|series| {
            let windows: i64 = series.counters.iter().map(|counter| counter.aggregate.exact_members()).sum();
            windows + series.periods.iter().map(PeriodCounter::exact_members).sum::<i64>()
        });
        assert_eq!(state.members, members.sum::<i64>() as u64);
        for (id, info) in state.periods.iter() {
            let is_open = |counter: &&PeriodCounter| counter.period == id && !counter.is_final;
            let open = all_series(&state).flat_map(|series| &series.periods).filter(is_open).count();
            assert_eq!(info.open, open as u64, "{info:?}");
        }
        for series in all_series(&state) {
            assert!(series.counters.is_sorted_by(|one, next| one.window.start < next.window.start));
            assert_eq!(state.find_series(&series.key).map(|found| &found.key), Some(&series.key));
        }
        for (tenant, customer) in
            TENANTS.iter().flat_map(|tenant| self.customers.iter().map(move |name| (tenant, name)))
        {
            let mut prefix = Vec::new();
            key::put_customer(&mut prefix, tenant, customer);
            let mut next = state.newest_series_of(tenant, customer);
            let mut chain = 0;
            while let Some(number) = next {
                assert!(state.series(number).key.starts_with(&prefix), "a customer's chain holds only its own series");
                chain += 1;
                next = state.older_series_of_same_customer(number);
            }
            assert_eq!(chain, all_series(&state).filter(|series| series.key.starts_with(&prefix)).count());
        }
    }
}

fn all_series(state: &State) -> impl Iterator<Item = &Series> {
    (0..state.series_len() as u32).map(|number| state.series(number)).filter(|series| !series.key.is_empty())
}

fn assert_same(found: &Dump, expected: &Dump, seed: u64) {
    if found == expected {
        return;
    }
    let differ = expected.iter().filter(|(key, value)| found.get(*key) != Some(value));
    let differ: Vec<_> = differ.take(3).map(|(key, value)| (key, value, found.get(key))).collect();
    let more: Vec<_> = found.keys().filter(|key| !expected.contains_key(*key)).take(3).collect();
    panic!("seed {seed}: wanted and found: {differ:02x?}; not wanted: {more:02x?}");
}

type Open = BTreeMap<(Vec<u8>, String), String>;

/// Everything in memory that is not final, by series and place; sets in order.
fn open(state: &State) -> Open {
    let mut all = Open::new();
    let members = |aggregate: &crate::meter::Aggregate| {
        let mut members: Vec<u128> = aggregate.members().collect();
        members.sort_unstable();
        let mut bytes = Vec::new();
        aggregate.encode(&mut bytes);
        (bytes, members)
    };
    for series in all_series(state) {
        for counter in series.counters.iter().filter(|counter| !counter.is_final) {
            let value = (counter.event_count, counter.period, counter.revision, members(&counter.aggregate));
            all.insert((series.key.to_vec(), format!("window {:?}", counter.window)), format!("{value:?}"));
        }
        for counter in series.periods.iter().filter(|counter| !counter.is_final) {
            let base = counter.base.as_ref().map(|base| {
                let original = base.original.as_ref().map(members);
                (base.event_count, base.late_count, base.changed_at, members(&base.aggregate), original)
            });
            let value = (counter.revision, base);
            all.insert((series.key.to_vec(), format!("{:?}", counter.period)), format!("{value:?}"));
        }
    }
    all
}

#[test]
fn a_state_whose_final_counters_leave_and_return_is_the_same_as_one_that_keeps_them() {
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..16 {
        let mut world = World::new(seed);
        for step in 1..=2_500 {
            world.step();
            if step % 500 == 0 {
                world.check(seed);
            } else if step % 50 == 0 {
                world.check_numbers();
            }
        }
        let reference = std::mem::replace(&mut world.log.reference, folded(&[]));
        assert_same(&dump(&*world.log.store), &written_out(reference), seed);
        world.seen.iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
    }
    for (what, least) in [
        ("accepted", 10_000),
        ("late", 3_000),
        ("refused", 20),
        ("closed", 3_000),
        ("committed", 500),
        ("restarted", 20),
    ] {
        assert!(seen[what] >= least, "{what}: {seen:?}");
    }
}
