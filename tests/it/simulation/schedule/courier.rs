//! What delivery's worker and operators do, in an order that the schedule picks.
//!
//! 1. A row is planned once it is committed, and sent once its plan is durable.
//! 2. What is under way when the process dies is gone; what the receiver has of it, it keeps.
//! 3. Every answer of the writer is the ledger's.

use std::path::Path;

use meterd::engine::{
    Attempt, DeliveriesQuery, Delivery, DeliveryId, DeliveryOperation, DeliveryState, Done, PauseCause, Plan,
    ReplayFilter, RequestKey, SinkPause,
};
use meterd::env::{Clock, Disk};
use meterd::journal::JournalError;
use meterd::model::{Duration, Incarnation, RowKind, RowKinds, Seq, Timestamp};
use meterd::store::{Store, Table};

use super::super::ledger::{Ledger, Start};
use super::super::node::SINKS;
use super::super::receiver::Receiver;
use super::{Sabotage, World};

/// What the simulation brings about.
pub const EVERYTHING: RowKinds = RowKinds::ALL;
/// Rounds in which everything must have gone out.
const ROUNDS_MAX: usize = 100;
/// Rounds at the end in which attempts may fail.
const ROUGH_ROUNDS: usize = 3;

#[derive(Default)]
pub struct Courier {
    ledger: Ledger,
    receiver: Receiver,
    /// Sent, and not heard of since.
    under_way: Vec<DeliveryId>,
}

impl Courier {
    /// Only records up to `last` survived.
    pub fn forget_after(&mut self, last: Seq) {
        let newest = self.receiver.newest();
        assert!(newest <= last, "a row of record {newest} went out, but the log ends at {last}");
        self.ledger.forget_after(last);
    }
}

impl World {
    /// The process is gone, and a new one is about to start; answers whether the directory was marked as restored.
    pub(super) fn prepare_courier(&mut self) -> bool {
        self.seen.lost_under_way += self.courier.under_way.len() as u64;
        self.courier.under_way.clear();
        if self.rng.u32(..6) == 0 {
            self.seen.sinks_changed += 1;
            for sink in 1..SINKS.len() {
                let only = |kind| Some(RowKinds::NONE.with(kind));
                let [windows, adjustments, alerts] = RowKind::ALL.map(only);
                let kinds = [None, windows, adjustments, alerts, Some(EVERYTHING)];
                self.setup.sinks[sink] = kinds[self.rng.usize(..kinds.len())];
            }
        }
        let restored = self.rng.u32(..20) == 0;
        if restored {
            self.seen.restored += 1;
            let file = self.disk.create(Path::new("RESTORED")).expect("it was taken away");
            file.write_all_at(0, b"simulated").and_then(|()| file.sync_data()).expect("the disk works");
            self.disk.sync_dir(Path::new("")).expect("the disk works");
        }
        restored
    }

    pub(super) fn start_courier(&mut self, restored: bool) {
        let (log_end, position) = (self.node.log_end, self.node.running.writer.position());
        let (sinks, mut cursors) = (self.setup.sinks(), Vec::new());
        for sink in &sinks {
            let work = self.node.view.sink_work(&sink.name, 0).expect("a configured sink is known");
            let new = self.courier.ledger.known.new_kinds(sink);
            for (kind, cursor) in work.cursors.into_iter().filter(|(kind, _)| new.contains(kind)) {
                assert!(log_end < cursor.seq && cursor.seq <= position, "a new sink gets what comes from then on");
                cursors.push((sink.name.clone(), kind, cursor));
            }
        }
        let restored = restored.then(|| self.node.running.writer.state().read().incarnation());
        self.courier.ledger.start(position, Start { sinks, cursors, restored });
    }

    /// One step of the courier or of an operator.
    pub(super) fn deliver(&mut self) -> Result<(), JournalError> {
        match self.rng.u32(..24) {
            0..=1 => self.bring_about()?,
            2..=5 => {
                let sink = self.any_sink();
                if self.plan(sink) && self.rng.bool() {
                    self.make_durable()?;
                }
            }
            6..=11 => self.send_any(),
            12..=17 => self.hear(),
            18 => self.fail_fast(),
            19..=20 => self.replay_any(),
            21..=22 => self.pause_or_resume(),
            _ => {
                let which = self.rng.usize(..SINKS.len());
                self.forget(which);
            }
        }
        Ok(())
    }

    /// Time goes by, windows become final, and the store gets them.
    fn bring_about(&mut self) -> Result<(), JournalError> {
        self.clock.advance(Duration::from_secs(self.rng.u64(1..30) * 3_600));
        for _ in 0..self.rng.u32(1..8) {
            self.tick()?;
        }
        self.make_durable()?;
        self.clock.advance(Duration::from_secs(1));
        // An epoch may have been on its way already.
        self.commit()?;
        self.commit()
    }

    /// What is under way, and what was decided by now.
    fn make_durable(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        self.append()?;
        self.sync()
    }

    fn any_sink(&mut self) -> &'static str {
        SINKS[self.rng.usize(..SINKS.len() + 2).saturating_sub(2)]
    }

    fn ask(&mut self, operation: DeliveryOperation) -> Done {
        let (before, committed) = (self.node.running.writer.position(), self.node.store.position());
        let (expected, records) = self.courier.ledger.decide(before.next(), committed, &operation);
        self.next_request += 1;
        self.node.deliver(operation.clone(), self.next_request);
        let answer = self.node.running.writer.newest_answer().expect("just decided").clone();
        assert_eq!(answer.done, expected, "{operation:?}");
        // What an operator did is in the trail, too.
        let records = records + u64::from(records > 0 && is_an_operators(&operation));
        assert_eq!(self.node.running.writer.position(), before.plus(records), "records of {operation:?}");
        self.decided.insert(self.next_request, answer.seq);
        self.seen.refused_operations += u64::from(matches!(answer.done, Done::Refused(_)));
        answer.done
    }

    /// Plans what a sink waits for, up to some rows; answers whether there was anything.
    fn plan(&mut self, sink: &str) -> bool {
        let Some(work) = self.node.view.sink_work(sink, 0) else { return false };
        if work.pause.is_some() || !self.courier.ledger.known.is_configured(sink) {
            return false;
        }
        let mut plans = Vec::new();
        for (kind, cursor) in work.cursors {
            let rows = self.node.view.outbox(kind, cursor, self.rng.usize(1..30)).expect("the store in memory answers");
            let mut rest = &rows[..];
            while let Some(first) = rest.first() {
                let stretch;
                (stretch, rest) = rest.split_at(self.rng.usize(1..=rest.len().min(6)));
                let last = stretch.last().unwrap_or(first);
                let (first, last, rows) = (first.position, last.position, stretch.len() as u32);
                plans.push(Plan { kind, first, last, rows });
            }
        }
        if plans.is_empty() {
            return false;
        }
        let operation = DeliveryOperation::Plan { sink: sink.to_owned(), plans, at: self.clock.now() };
        if let Done::Planned(ids) = self.ask(operation.clone()) {
            self.seen.planned += ids.len() as u64;
        }
        if self.rng.u32(..8) == 0 {
            // Someone else has planned the same.
            self.ask(operation);
        }
        true
    }

    fn send_any(&mut self) {
        let (sink, limit) = (self.any_sink(), self.rng.usize(1..8));
        for delivery in self.ready(sink, limit) {
            if self.rng.bool() && self.send(&delivery) {
                self.courier.under_way.push(delivery.id);
            }
        }
    }

    /// Deliveries that may be sent now, or given up.
    fn ready(&self, sink: &str, limit: usize) -> Vec<Delivery> {
        let (durable, courier) = (self.node.running.journal.durable(), &self.courier);
        let Some(mut work) = self.node.view.sink_work(sink, limit) else { return Vec::new() };
        if work.pause.is_some() || !courier.ledger.known.is_configured(sink) {
            return Vec::new();
        }
        let is_durable = |delivery: &Delivery| delivery.id.seq <= durable || self.sabotage == Sabotage::SendBeforeSync;
        work.pending.retain(|delivery| is_durable(delivery) && !courier.under_way.contains(&delivery.id));
        work.pending
    }

    /// Sends a delivery to its receiver, if the store has its rows.
    fn send(&mut self, delivery: &Delivery) -> bool {
        let committed = self.node.store.position();
        let Courier { ledger, receiver, .. } = &mut self.courier;
        let payload = self.node.view.payload(delivery).expect("the rows of a delivery are there");
        let is_there = ledger.known.letters[&delivery.id.seq].needs() <= committed;
        assert_eq!(payload.is_some(), is_there, "rows of {delivery:?}, with a store at {committed}");
        let Some(rows) = payload else {
            self.seen.not_committed_again += 1;
            return false;
        };
        self.seen.sent += 1;
        self.seen.sent_again += u64::from(receiver.receive(delivery, rows, &ledger.known));
        true
    }

    fn attempt(&mut self, error: &str) -> Attempt {
        let (took, answer) = (Duration::from_millis(self.rng.u64(..9_000)), format!("answer {}", self.rng.u8(..)));
        let status = self.rng.bool().then(|| self.rng.u16(200..600));
        Attempt { at: self.clock.now(), took, status, error: error.to_owned(), answer }
    }

    /// Something becomes of a request that is under way.
    fn hear(&mut self) {
        if self.courier.under_way.is_empty() {
            return;
        }
        let which = self.rng.usize(..self.courier.under_way.len());
        let delivery = self.courier.under_way.swap_remove(which);
        let operation = match self.rng.u32(..20) {
            0..=8 => DeliveryOperation::Delivered { delivery, attempt: self.attempt("") },
            9..=12 => self.failure(delivery),
            13..=16 => DeliveryOperation::Dead { delivery, attempt: self.attempt("no") },
            _ => {
                self.seen.lost_answers += 1;
                return;
            }
        };
        self.ask(operation.clone());
        match operation {
            DeliveryOperation::Delivered { .. } => self.seen.delivered += 1,
            DeliveryOperation::Dead { .. } => self.seen.dead += 1,
            _ => self.seen.failed += 1,
        }
        if self.rng.u32(..8) == 0 {
            self.ask(operation);
        }
    }

    fn failure(&mut self, delivery: DeliveryId) -> DeliveryOperation {
        let due = self.clock.now().saturating_add(Duration::from_secs(self.rng.u64(..86_400)));
        DeliveryOperation::Failed { delivery, attempt: self.attempt("not now"), due }
    }

    /// A due attempt while the sink's breaker is open: nothing is sent, nothing was read.
    fn fail_fast(&mut self) {
        let sink = self.any_sink();
        let Some(delivery) = self.ready(sink, 1).pop().map(|delivery| delivery.id) else { return };
        let operation = match self.rng.bool() {
            true => self.failure(delivery),
            false => DeliveryOperation::Dead { delivery, attempt: self.attempt("circuit open") },
        };
        self.seen.failed_fast += u64::from(self.ask(operation) == Done::Done);
    }

    fn any_delivery(&mut self) -> DeliveryId {
        let letters: Vec<DeliveryId> =
            self.courier.ledger.known.letters.values().map(|letter| letter.delivery.id).collect();
        match letters.is_empty() || self.rng.u32(..8) == 0 {
            true => DeliveryId { store: 0, incarnation: Incarnation(1), seq: Seq(self.rng.u64(..50)) },
            false => letters[self.rng.usize(..letters.len())],
        }
    }

    fn replay_any(&mut self) {
        let sink = self.any_sink().to_owned();
        let filter = match self.rng.u32(..4) {
            0 => ReplayFilter::default(),
            1 => ReplayFilter { sink: Some(sink), ..ReplayFilter::default() },
            2 => ReplayFilter { sink: Some(sink), kind: Some(RowKind::ALL[self.rng.usize(..3)]), delivery: None },
            _ => ReplayFilter { delivery: Some(self.any_delivery()), ..ReplayFilter::default() },
        };
        let key = match self.rng.bool() {
            true => Some(RequestKey { key: format!("key-{}", self.rng.u8(..4)), request: self.rng.u64(..8) / 7 }),
            false => None,
        };
        let before = self.node.running.writer.position();
        let done = self.ask(DeliveryOperation::Replay { filter, key: key.clone(), at: self.clock.now() });
        let Done::Replayed(count) = done else { return };
        if self.node.running.writer.position() > before {
            self.seen.replayed += u64::from(count);
        } else {
            self.seen.replayed_by_known_key += u64::from(count > 0 && key.is_some());
        }
    }

    fn pause_or_resume(&mut self) {
        let sink = self.any_sink();
        if self.rng.u32(..4) > 0 {
            self.seen.resumed += 1;
            self.resume(sink);
            return;
        }
        self.seen.paused += 1;
        let cause = [PauseCause::Operator, PauseCause::Gone, PauseCause::Misfit][self.rng.usize(..3)];
        let pause = SinkPause { cause, reason: "simulated".to_owned(), at: self.clock.now() };
        self.ask(DeliveryOperation::Pause { sink: sink.to_owned(), pause });
    }

    fn resume(&mut self, sink: &str) {
        let (sink, at) = (sink.to_owned(), self.clock.now());
        self.ask(DeliveryOperation::Resume { sink, reason: "simulated".to_owned(), at });
    }

    fn forget(&mut self, which: usize) {
        let (sink, at) = (SINKS[which].to_owned(), self.clock.now());
        let done = self.ask(DeliveryOperation::Forget { sink, reason: "simulated".to_owned(), at });
        self.seen.sinks_forgotten += u64::from(done == Done::Done);
    }

    /// Sinks, deliveries and attempts as readers see them.
    pub(super) fn compare_deliveries(&mut self) {
        let (known, view) = (&self.courier.ledger.known, &self.node.view);
        let deliveries: Vec<Delivery> = known.letters.values().map(|letter| letter.delivery.clone()).collect();
        let page = view.deliveries(&DeliveriesQuery { limit: usize::MAX, ..DeliveriesQuery::default() });
        assert_eq!(page.deliveries, deliveries);
        let statuses = view.sinks().0;
        assert!(statuses.iter().map(|status| &*status.name).eq(known.sinks.keys()), "{statuses:?}");
        for status in &statuses {
            let (sink, name) = (&known.sinks[&*status.name], &*status.name);
            let work = view.sink_work(name, usize::MAX).expect("it is listed");
            assert_eq!((status.kinds, &status.pause), (sink.kinds, &work.pause), "{name}");
            assert_eq!(work.pause.map(|pause| pause.cause), sink.pause, "{name}");
            assert!(work.cursors.into_iter().eq(sink.cursors.clone()), "cursors of {name}");
            let own = || deliveries.iter().filter(|delivery| *delivery.sink == *name);
            let mut pending: Vec<(Timestamp, Seq)> = own().filter_map(due).collect();
            pending.sort();
            assert_eq!(work.pending.iter().filter_map(due).collect::<Vec<_>>(), pending, "{name}");
            let dead = own().filter(|delivery| matches!(delivery.state, DeliveryState::Dead { .. })).count();
            assert_eq!((work.pending_total, status.pending), (pending.len(), pending.len() as u64), "{name}");
            assert_eq!(status.dead, dead as u64, "{name}");
        }
        let committed = self.node.store.position();
        for letter in known.letters.values() {
            let stored = letter.attempts.iter().filter(|(seq, _)| *seq <= committed);
            let expected: Vec<Attempt> = stored.map(|(_, attempt)| attempt.clone()).collect();
            let got = view.attempts(letter.delivery.id).expect("the store in memory answers");
            assert_eq!(got, expected, "attempts at {}", letter.delivery.id);
        }
    }

    /// The journal and the store get all that was decided.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            while self.node.append().expect("the disk works") {
                self.sync().expect("the disk works");
            }
            self.clock.advance(Duration::from_secs(1));
            self.node.hand_over();
            self.commit().expect("the store works");
            if self.node.running.writer.is_handed_over() {
                return;
            }
        }
        panic!("what was decided does not come to the store");
    }

    /// Sinks that are not configured are forgotten, the others get everything; then the outbox is empty.
    pub(super) fn deliver_everything(&mut self) {
        for (which, sink) in SINKS.iter().enumerate() {
            if self.courier.ledger.known.is_configured(sink) {
                self.resume(sink);
            } else {
                self.forget(which);
            }
        }
        for round in 0..ROUNDS_MAX {
            self.ask(DeliveryOperation::Replay { filter: ReplayFilter::default(), key: None, at: self.clock.now() });
            self.settle();
            let planned = SINKS.iter().filter(|sink| self.plan(sink)).count();
            while self.node.append().expect("the disk works") {
                self.sync().expect("the disk works");
            }
            let ready: Vec<Delivery> = SINKS.iter().flat_map(|sink| self.ready(sink, usize::MAX)).collect();
            for delivery in &ready {
                assert!(self.send(delivery), "everything is committed");
                let id = delivery.id;
                let operation = match self.rng.u32(..16) {
                    0 if round < ROUGH_ROUNDS => DeliveryOperation::Dead { delivery: id, attempt: self.attempt("no") },
                    1 if round < ROUGH_ROUNDS => self.failure(id),
                    _ => DeliveryOperation::Delivered { delivery: id, attempt: self.attempt("") },
                };
                self.ask(operation);
            }
            if planned == 0 && ready.is_empty() {
                self.check_delivered();
                return;
            }
        }
        panic!("rows are left: {:?}", self.node.view.sinks());
    }

    fn check_delivered(&mut self) {
        self.compare_deliveries();
        for table in [Table::Outbox, Table::DeadLetters] {
            let visit = &mut |key: &[u8], _: &[u8]| panic!("a row of {} was left: {key:?}", table.name());
            self.node.store.scan(table, &[], visit).expect("the store in memory answers");
        }
        let Courier { ledger, receiver, .. } = &self.courier;
        receiver.check_complete(SINKS[0], &self.node.windows(), &self.node.adjustments(10));
        receiver.check_alerts(SINKS[0], &self.desk.book.known.told());
        for (name, sink) in &ledger.known.sinks {
            for (kind, since) in &sink.since {
                receiver.check_like(name, *kind, *since, SINKS[0]);
            }
        }
    }
}

/// When a pending delivery is due.
fn due(delivery: &Delivery) -> Option<(Timestamp, Seq)> {
    match delivery.state {
        DeliveryState::Pending { due } => Some((due, delivery.id.seq)),
        DeliveryState::Delivered { .. } | DeliveryState::Dead { .. } => None,
    }
}

fn is_an_operators(operation: &DeliveryOperation) -> bool {
    match operation {
        DeliveryOperation::Pause { pause, .. } => pause.cause == PauseCause::Operator,
        DeliveryOperation::Replay { .. } | DeliveryOperation::Resume { .. } | DeliveryOperation::Forget { .. } => true,
        _ => false,
    }
}
