//! A schedule: operations drawn from a seed, and the checks after each.

mod answers;
mod caps;
mod clocks;
mod courier;
mod faults;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use meterd::engine::{self, Answer, Batch};
use meterd::env::{Clock, Disk, ManualClock, SimDisk};
use meterd::journal::JournalError;
use meterd::meter::{Customer, Zone};
use meterd::model::{Duration, RowKind, RowKinds, Seq, Timestamp};
use meterd::store::{MemStore, Store, Table};

use super::clock::Believed;
use super::model::{CUSTOMERS, HOUR_MICROS, METERS, Model, NARROW, PeriodName, PeriodValue, SUM, Sent, WIDE};
use super::node::{Node, Request, Setup, drop_rows, drop_table};
pub use super::seen::{Sabotage, Seen};
use caps::Desk;
use courier::{Courier, EVERYTHING};

/// Near the end of a month, so that billing periods end.
const START: &str = "2026-11-28T12:00:00Z";

struct World {
    rng: Rng,
    sabotage: Sabotage,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    node: Node,
    model: Model,
    believed: Believed,
    /// The greatest time that was believed.
    latest: i64,
    next_request: Request,
    setup: Setup,
    /// Parsed and looked up, not yet at the writer: slow clients and slow threads.
    parsed: VecDeque<Parsed>,
    courier: Courier,
    /// Much is delivered.
    eager: bool,
    desk: Desk,
    /// Decided, not yet answered: what the model makes of them, for when the answer comes.
    decided: BTreeMap<Request, Seq>,
    seen: Seen,
}

/// A request on its way to the writer.
struct Parsed {
    request: Request,
    events: Vec<Sent>,
    received_at: Timestamp,
    batch: Batch,
    /// The reservation that its one event commits.
    commits: Option<u8>,
}

/// Runs one schedule and panics at the first thing that is not as it ought to be.
pub fn run_schedule(seed: u64, sabotage: Sabotage) -> Seen {
    let mut rng = Rng::with_seed(seed);
    let disk = SimDisk::new(rng.u64(..));
    disk.lie_on_sync_data(sabotage == Sabotage::LyingSync);
    disk.lie_on_sync_dir(sabotage == Sabotage::NoDirectorySync);
    let clock = Arc::new(ManualClock::new(Timestamp::parse_rfc3339(START).expect("a time")));
    let store = Arc::new(MemStore::with_bulk_ids_min(rng.usize(2..12)));
    let policy = if rng.bool() { NARROW } else { WIDE };
    let sinks = [Some(EVERYTHING), Some(RowKinds::NONE.with(RowKind::Adjustments)), None];
    let (epoch_ids, close_slice) = (rng.usize(2..20), rng.usize(1..6));
    let eager = rng.u32(..3) == 0;
    let desk = Desk::draw(&mut rng);
    let setup = Setup { policy, epoch_ids, close_slice, sinks, caps: desk.setup(&mut rng, sabotage) };
    let node = Node::open(&disk, store, &clock, setup).expect("a new directory opens");
    let believed = Believed::new(node.running.writer.effective(), node.seen().mono);
    let mut world = World {
        rng,
        sabotage,
        disk,
        clock,
        node,
        model: Model::new(policy),
        believed,
        latest: i64::MIN,
        next_request: 0,
        setup,
        parsed: VecDeque::new(),
        decided: BTreeMap::new(),
        courier: Courier::default(),
        eager,
        desk,
        seen: Seen::default(),
    };
    world.model.acknowledged = world.node.running.journal.last();
    world.start_courier(false);
    world.start_caps();
    for _ in 0..world.rng.usize(20..160) {
        world.step();
    }
    world.finish();
    world.seen
}

impl World {
    fn step(&mut self) {
        if self.desk.is_open && self.rng.u32(..4) == 0 {
            return self.ask_desk();
        }
        let steps = if self.eager { 180 } else { 110 };
        let stepped = match self.rng.u32(..steps) {
            0..=19 => self.parse(),
            20..=41 => self.decide(),
            42..=54 => self.append(),
            55..=67 => self.sync(),
            68..=77 => self.commit(),
            78..=80 => self.persist(),
            81..=84 => self.pass_time(),
            85..=86 => self.step_clock(),
            87 => self.operate(),
            88 => self.node.running.journal.append_watermark(),
            89 => self.node.running.journal.preparer(0).prepare(),
            90..=94 => self.tick(),
            95 => self.plan_failure(),
            96 => {
                self.crash();
                Ok(())
            }
            97 => {
                self.restart();
                Ok(())
            }
            98..=99 => {
                self.compare();
                Ok(())
            }
            _ => self.deliver(),
        };
        match stepped {
            Ok(()) => {}
            // A failed write or sync is the end of the process, and the machine may go down with it.
            Err(_) if self.rng.bool() => self.crash(),
            Err(_) => self.restart(),
        }
    }

    fn event(&mut self) -> Sent {
        if !self.model.accepted.is_empty() && self.rng.u32(..6) == 0 {
            // A client that retries, however late.
            return self.model.accepted[self.rng.usize(..self.model.accepted.len())].sent.clone();
        }
        if let Some(refused) = self.desk.refused_before(&mut self.rng) {
            return refused;
        }
        let now = self.clock.now();
        let (rng, is_narrow) = (&mut self.rng, self.desk.is_narrow());
        let shift = |hours: i64| Some(Timestamp::from_micros(now.micros() + hours * HOUR_MICROS).expect("in range"));
        let timestamp = match rng.u32(..20) {
            0 => shift(-200),
            1 => shift(200),
            2..=6 => shift(rng.i64(-3..1)),
            7..=9 => shift(rng.i64(-50..1)),
            10..=15 if is_narrow => shift(rng.i64(-20..1)),
            _ => None,
        };
        let mut meters: Vec<usize> = (0..METERS.len()).filter(|_| rng.u32(..4) == 0).collect();
        if meters.is_empty() {
            meters.push(rng.usize(..METERS.len()));
        }
        let is_capped = self.desk.is_open;
        if is_capped && rng.bool() && !meters.contains(&SUM) {
            meters.push(SUM);
            meters.sort_unstable();
        }
        let negative = is_capped && rng.u32(..8) == 0;
        let id = rng.u64(..60);
        Sent {
            id,
            // One in eight events with a known id is another event.
            payload: if rng.u32(..8) == 0 { 1 } else { 0 },
            customer: self.desk.any_customer(rng),
            meters,
            model: rng.bool().then(|| rng.u8(..2)),
            quantity: if negative { rng.i64(-900..0) } else { rng.i64(0..1_000) },
            timestamp,
        }
    }

    fn parse(&mut self) -> Result<(), JournalError> {
        let events: Vec<Sent> = (0..self.rng.usize(1..7)).map(|_| self.event()).collect();
        self.send_in(events, None);
        Ok(())
    }

    /// A request arrives.
    fn send_in(&mut self, events: Vec<Sent>, commits: Option<u8>) {
        let received_at = self.clock.now();
        let batch = self.node.batch(&events, received_at, commits);
        self.next_request += 1;
        self.parsed.push_back(Parsed { request: self.next_request, events, received_at, batch, commits });
    }

    fn decide(&mut self) -> Result<(), JournalError> {
        if self.parsed.is_empty() {
            return Ok(());
        }
        let which = self.rng.usize(..self.parsed.len());
        let parsed = self.parsed.remove(which).expect("within bounds");
        let Parsed { request, events, received_at, batch, commits } = parsed;
        let now = self.observe();
        self.node.running.writer.take(batch, request).expect("the store in memory answers");
        let answer = self.node.running.writer.newest_answer().expect("just decided").clone();
        self.note_time();
        match commits {
            Some(reservation) => self.check_commit(reservation, &events[0], received_at, now, &answer),
            None => self.check_answer(&events, received_at, now, &answer),
        }
        self.keep_caps();
        self.decided.insert(request, answer.seq);
        Ok(())
    }

    /// Shows writer and model the clocks; answers with what is believed to be the time.
    fn observe(&mut self) -> i64 {
        self.node.observe();
        let effective = self.node.running.writer.effective().micros();
        let believed = self.believed.observe(self.node.seen());
        let paused = self.node.running.writer.clock_status(self.clock.now()).paused.is_some();
        assert_eq!(paused, believed.is_none(), "the clock is believed when it ought to be");
        self.seen.clock_jumps += u64::from(paused);
        self.latest = believed.map_or(self.latest, |believed| believed.max(self.latest));
        self.latest.max(effective)
    }

    fn append(&mut self) -> Result<(), JournalError> {
        self.node.append()?;
        if self.sabotage == Sabotage::AcknowledgeBeforeSync {
            let answers = self.node.in_flight.as_mut().map(|group| std::mem::take(&mut group.answers));
            answers.into_iter().flatten().for_each(|(request, _)| self.acknowledge(request));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        if let Some(group) = self.node.sync()? {
            group.answers.into_iter().for_each(|(request, _)| self.acknowledge(request));
        }
        Ok(())
    }

    /// The client has its answer: all that it rests on must survive from now on.
    fn acknowledge(&mut self, request: Request) {
        let seq = self.decided.remove(&request).expect("decided once, answered once");
        self.model.acknowledged = self.model.acknowledged.max(seq);
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        self.node.hand_over();
        let durable = self.node.running.journal.durable();
        let Some(job) = &self.node.job else { return Ok(()) };
        if job.position > durable && self.sabotage != Sabotage::StoreAheadOfJournal {
            return Ok(());
        }
        self.seen.commits += 1;
        let sabotage = self.sabotage;
        self.node.commit(|commit| match sabotage {
            Sabotage::IdsWithoutCounters => commit.rows.clear(),
            Sabotage::CountersWithoutIds => commit.ids.clear(),
            Sabotage::WindowsNotStored => drop_table(commit, Table::Windows),
            Sabotage::PeriodsNotStored => drop_table(commit, Table::Periods),
            Sabotage::AdjustmentsNotStored => drop_table(commit, Table::Adjustments),
            Sabotage::OutboxNotStored => drop_table(commit, Table::Outbox),
            Sabotage::DeliveriesNotStored => drop_table(commit, Table::Deliveries),
            Sabotage::DeadLettersNotStored => drop_table(commit, Table::DeadLetters),
            Sabotage::AlertsNotStored => drop_table(commit, Table::Alerts),
            Sabotage::ThresholdsNotStored => drop_table(commit, Table::Thresholds),
            Sabotage::ReservationsNotStored => drop_table(commit, Table::Reservations),
            Sabotage::CapsNotStored => drop_rows(commit, |row| row.key.starts_with(b"customer_caps/")),
            _ => {}
        });
        Ok(())
    }

    fn persist(&mut self) -> Result<(), JournalError> {
        self.seen.persists += 1;
        self.node.persist();
        Ok(())
    }

    fn tick(&mut self) -> Result<(), JournalError> {
        let before = self.node.running.writer.effective();
        let now = self.observe();
        if self.rng.u32(..4) > 0 {
            self.node.running.writer.tick();
        }
        self.note_time();
        self.close_due(now);
        self.note_time();
        assert!(self.node.running.writer.effective() >= before, "effective time went back");
        if self.rng.bool() {
            self.node.running.writer.leave();
        }
        Ok(())
    }

    fn close_due(&mut self, now: i64) {
        let before = self.node.running.writer.position();
        self.node.running.writer.close_due();
        if self.node.running.writer.position() > before {
            self.note_closed(now);
        }
    }

    /// What became final just now was open before, and its time had come.
    fn note_closed(&mut self, now: i64) {
        let seq = self.node.running.writer.position();
        let grace = self.model.policy.grace_micros;
        let (before, after) = (self.model.windows(), self.node.windows());
        for (name, window) in after.iter().filter(|(_, window)| window.is_final) {
            if before.get(name).is_some_and(|known| !known.is_final) {
                assert!(name.3 + HOUR_MICROS + grace <= now, "window {name:?} was closed too early");
                assert_eq!(window.revision, 1, "closing is the first revision");
                self.model.closed.insert(*name, seq);
                self.seen.closed += 1;
            }
        }
        let before = self.model.periods();
        for (name, period) in self.periods().into_iter().filter(|(_, period)| period.is_final) {
            if before.get(&name).is_some_and(|known| !known.is_final) {
                assert_eq!(period.revision, 1, "closing is the first revision");
                self.model.closed_periods.insert(name, (seq, true));
                self.seen.closed_periods += 1;
            }
        }
    }

    /// Every period row that a reader sees under the names that the model has.
    fn periods(&mut self) -> BTreeMap<PeriodName, PeriodValue> {
        let labels: BTreeSet<String> = self.model.periods().into_keys().map(|name| name.3.0).collect();
        let limit = self.rng.usize(1..8);
        labels.iter().flat_map(|label| self.node.periods(label, limit)).collect()
    }

    fn operate(&mut self) -> Result<(), JournalError> {
        if self.rng.u32(..3) == 0 {
            let now = self.observe();
            self.next_request += 1;
            self.seen.clock_resets += 1;
            self.node.reset_clock(self.next_request);
            self.believed.reset(self.node.seen());
            self.latest = self.clock.now().micros();
            self.model.reset_clock(now, self.clock.now().micros());
            self.note_reset();
            self.note_decided();
        } else {
            self.seen.anchors += 1;
            let (customer, anchor) = (self.rng.u8(..CUSTOMERS), Some(self.rng.u8(1..32)));
            let plan = self.model.settings(customer).plan;
            self.put_customer(customer, anchor, plan);
        }
        Ok(())
    }

    fn put_customer(&mut self, customer: u8, anchor: Option<u8>, plan: Option<String>) {
        let now = self.observe();
        self.next_request += 1;
        let used = self.model.accepted.iter().any(|event| event.sent.customer == customer)
            || self.desk.book.known.holds_for(customer);
        let before = self.model.settings(customer).schedule;
        let newest = self.node.running.writer.state().read().clock().newest_event();
        let at = Timestamp::from_micros(now).expect("in range").max(newest.unwrap_or(Timestamp::MIN));
        let schedule = before.changed(anchor, None, at, &Zone::utc(), used);
        let caps = self.desk.book.known.all_caps(&self.model);
        self.node.put_customer(customer, (anchor, plan.clone()), self.next_request);
        self.note_time();
        let seq = self.node.running.writer.position();
        self.model.customers.push((seq, customer, Customer { plan, schedule }));
        self.note_caps_changes(&caps, now);
        self.note_decided();
    }

    /// What was just decided will be answered.
    fn note_decided(&mut self) -> Answer {
        let answer = self.node.running.writer.newest_answer().expect("just decided").clone();
        self.decided.insert(self.next_request, answer.seq);
        self.keep_caps();
        answer
    }

    fn compare(&mut self) {
        let (expected, got) = (self.model.windows(), self.node.windows());
        for (name, value) in &expected {
            assert_eq!(got.get(name), Some(value), "window {name:?} of {}", METERS[name.1]);
        }
        assert_eq!(got.len(), expected.len(), "windows that nobody asked for: {got:?}");
        let (expected, got) = (self.model.periods(), self.periods());
        for (name, value) in &expected {
            assert_eq!(got.get(name), Some(value), "period {name:?} of {}", METERS[name.1]);
        }
        assert_eq!(got.len(), expected.len(), "periods that nobody asked for: {got:?}");
        assert_eq!(self.node.adjustments(self.rng.usize(1..8)), self.model.adjustments());
        self.compare_caps();
        self.compare_deliveries();
    }

    /// Days later nothing is left open: no window was skipped.
    fn close_everything(&mut self) {
        self.clock.advance(Duration::from_secs(300 * 86_400));
        for _ in 0..1_000 {
            self.clock.advance(Duration::from_secs(1));
            let now = self.observe();
            self.node.running.writer.tick();
            self.close_due(now);
            self.note_time();
            if self.node.windows().values().all(|window| window.is_final)
                && self.periods().values().all(|period| period.is_final)
            {
                return;
            }
        }
        panic!("windows or periods were never closed: {:?}", self.node.windows());
    }

    /// Lets everything come to rest, and compares the store with the journal by `verify`.
    fn finish(&mut self) {
        self.disk.fail_sync_data_in(0);
        self.disk.fail_write_in(0);
        self.disk.power_off_in(0);
        self.restart();
        while self.node.append().expect("the disk works") {
            self.sync().expect("the disk works");
        }
        self.compare();
        if self.rng.bool() {
            self.close_everything();
            self.compare();
        }
        self.deliver_everything();
        self.node.persist();
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let store: Arc<dyn Store> = self.node.store.clone();
        let verified = engine::verify(&disk, &store, &mut |_| {}).expect("the journal can be read");
        assert_eq!(verified.difference_count, 0, "{:#?}", verified.differences);
    }
}
