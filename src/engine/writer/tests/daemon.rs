//! An engine on a disk and a store in memory: every call is decided, made durable and answered at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::engine::batch::{NewEvent, NewFeed};
use crate::engine::caps::{AlertsQuery, CapsChange, ListedAlert, Reserve, Verdict};
use crate::engine::hash::TableHasher;
use crate::engine::outbox::Done;
use crate::engine::recovery::{self, Entropy, Parts, Running};
use crate::engine::state::State;
use crate::engine::state::tests::caps::{assert_consistent, digest};
use crate::engine::view::View;
use crate::engine::writer::{Answer, CustomerSettings, Lookup, Operation};
use crate::engine::{Options, Verified, VerifyError, record, verify, verify_from};
use crate::env::{Clock, Disk, ManualClock, SimDisk};
use crate::journal::{self, Compression, Start};
use crate::meter::{Aggregation, Amount, Cap, CapPeriod, Definition, Late, OnHardCap, PlanCap, Value};
use crate::model::{Duration, Fingerprint, MeterId, Outcome, Quantity, Seq, TenantId, Timestamp};
use crate::store::{MemStore, Store};

pub const TOKENS: MeterId = MeterId(0);
pub const CALLS: MeterId = MeterId(1);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

pub fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub fn tenant() -> TenantId {
    TenantId::new("default")
}

pub fn units(units: i64) -> Quantity {
    Quantity::from_integer(units)
}

/// A cap on billing periods, with soft thresholds.
pub fn cap(hard: i64, soft: &[&str]) -> Cap {
    let soft = soft.iter().map(|amount| amount.parse().unwrap()).collect();
    let (id, period, grace) = ("default".to_owned(), CapPeriod::Billing, Amount::NOTHING);
    let on_hard_cap = OnHardCap::Allow;
    let mut cap = Cap { id, period, hard: Some(units(hard)), soft, on_hard_cap, grace, enforce: true };
    cap.check().unwrap();
    cap.on_hard_cap = OnHardCap::Reject;
    cap
}

pub fn allow(cap: Cap) -> Cap {
    Cap { on_hard_cap: OnHardCap::Allow, ..cap }
}

pub fn window_cap(hard: i64) -> Cap {
    Cap { id: "hourly".into(), period: CapPeriod::Window, ..cap(hard, &[]) }
}

fn definition(slug: &str, aggregation: Aggregation) -> Definition {
    Definition {
        slug: slug.into(),
        event_type: slug.into(),
        aggregation,
        value: None,
        dimensions: if slug == "tokens" { vec![("model".into(), "$.model".parse().unwrap())] } else { vec![] },
        window: "1h".parse().unwrap(),
        time_zone: "UTC".into(),
        grace: HOUR,
        late: Late::Adjust,
        allow_negative: true,
        unique_members_max: 1_000,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    }
}

/// One event of one meter.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: String,
    pub customer: String,
    pub meter: MeterId,
    pub quantity: i64,
    /// None: the time of receipt.
    pub at: Option<Timestamp>,
    pub model: Option<&'static str>,
}

pub struct Daemon {
    disk: SimDisk,
    pub store: Arc<MemStore>,
    pub clock: Arc<ManualClock>,
    pub options: Options,
    /// None only while it is opened again.
    running: Option<Running<()>>,
    pub view: View,
    ids: u64,
}

impl Daemon {
    /// With caps of the config on the meter of tokens.
    pub fn new(now: &str, caps: Vec<PlanCap>) -> Self {
        let (disk, store) = (SimDisk::new(1), Arc::new(MemStore::new()));
        let clock = Arc::new(ManualClock::new(time(now)));
        let options = Options { caps: BTreeMap::from([("tokens".to_owned(), caps)]), ..Options::default() };
        let (running, view) = open(&disk, &store, &clock, &options);
        let mut daemon = Self { disk, store, clock, options, running: Some(running), view, ids: 0 };
        daemon.pass(Duration::ZERO);
        daemon
    }

    /// With one cap for everyone.
    pub fn capped(now: &str, cap: Cap) -> Self {
        Self::new(now, vec![PlanCap { plan: None, cap }])
    }

    fn running(&mut self) -> &mut Running<()> {
        self.running.as_mut().unwrap()
    }

    /// Ends the process and starts it again, with these options from now on.
    pub fn restart(&mut self) {
        self.running = None;
        self.disk = self.disk.restart();
        let (running, view) = open(&self.disk, &self.store, &self.clock, &self.options);
        (self.running, self.view) = (Some(running), view);
        self.pass(Duration::ZERO);
    }

    /// Makes the open group durable.
    fn settle(&mut self) -> Option<Answer> {
        let running = self.running();
        let group = running.writer.seal(Vec::new());
        if group.count > 0 {
            running.journal.append(group.first, group.count, &group.payload).unwrap();
            running.journal.sync().unwrap();
        }
        group.answers.into_iter().next_back().map(|(_, answer)| answer)
    }

    fn observe(&mut self) -> (Timestamp, Duration) {
        let now = (self.clock.now(), self.clock.monotonic());
        self.running().writer.observe(now.0, now.1);
        now
    }

    /// Lets time pass, and closes what is due.
    pub fn pass(&mut self, span: Duration) {
        self.clock.advance(span);
        self.observe();
        loop {
            let writer = &mut self.running().writer;
            writer.tick();
            writer.close_due();
            self.settle();
            let lag = {
                let writer = &self.running().writer;
                let mut state = writer.state.write();
                let now = writer.believed(&state);
                state.closing_lag(now)
            };
            if lag == Duration::ZERO {
                return;
            }
        }
    }

    /// Brings the store up to date; what is final leaves memory.
    pub fn commit(&mut self) {
        let monotonic = self.clock.monotonic();
        self.running.as_mut().unwrap().commit_to(&*self.store, monotonic);
    }

    pub fn state(&self) -> Arc<RwLock<State>> {
        self.running.as_ref().unwrap().writer.state().clone()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn fresh_id(&mut self) -> String {
        self.ids += 1;
        format!("e-{}", self.ids)
    }

    pub fn event(&mut self, customer: &str, quantity: i64) -> Sent {
        let (id, customer) = (self.fresh_id(), customer.to_owned());
        Sent { id, customer, meter: TOKENS, quantity, at: None, model: None }
    }

    /// Uses so many tokens now.
    pub fn use_up(&mut self, customer: &str, quantity: i64) -> Outcome {
        let event = self.event(customer, quantity);
        self.send(&[event]).outcomes.remove(0)
    }

    pub fn send(&mut self, events: &[Sent]) -> Answer {
        self.send_as(events, None)
    }

    pub fn commit_reservation(&mut self, id: &str, event: Sent) -> Answer {
        self.send_as(&[event], Some(id))
    }

    fn send_as(&mut self, events: &[Sent], commits: Option<&str>) -> Answer {
        let (now, _) = self.observe();
        let running = self.running();
        let mut builder = running.batches.start(&tenant(), now);
        for sent in events {
            let (value, dimensions) = (Value::Quantity(units(sent.quantity)), [sent.model.map(Into::into)]);
            let dimensions = if sent.meter == TOKENS { &dimensions[..] } else { &[] };
            builder.push(&NewEvent {
                usage_event_id: &sent.id,
                source: "",
                customer: &sent.customer,
                timestamp: sent.at,
                fingerprint: Fingerprint(sent.quantity as u32),
                raw: b"{}",
                feeds: &[NewFeed { meter: sent.meter, value, dimensions }],
            });
        }
        commits.into_iter().for_each(|id| builder.commits(id));
        let batch = builder.finish().unwrap();
        running.writer.take(batch, ()).unwrap();
        self.settle().unwrap()
    }

    /// Asks the index for an id.
    pub fn look_up(&mut self, id: &str) -> Lookup {
        self.running().batches.look_up(&tenant(), "", id).unwrap()
    }

    /// Ids after this record are in memory, too.
    pub fn recent_floor(&mut self) -> Seq {
        self.running().writer.recent.floor()
    }

    pub fn operate(&mut self, operation: Operation) -> Done {
        let now = self.observe();
        self.running().writer.operate(operation, now, ()).unwrap();
        self.settle().unwrap().done
    }

    pub fn put_caps(&mut self, customer: &str, caps: Option<Vec<Cap>>) {
        self.put_caps_on(TOKENS, customer, caps);
    }

    pub fn put_caps_on(&mut self, meter: MeterId, customer: &str, caps: Option<Vec<Cap>>) {
        let (tenant, customer) = (tenant(), customer.to_owned());
        self.operate(Operation::PutCaps(CapsChange { tenant, customer, meter, caps }));
    }

    /// Sets the wall clock, and says that it is right.
    pub fn reset_clock(&mut self, now: Timestamp) {
        self.clock.set(now);
        self.operate(Operation::ResetClock { reason: "tested".to_owned() });
    }

    pub fn put_customer(&mut self, customer: &str, settings: CustomerSettings) {
        let (tenant, customer) = (tenant(), customer.to_owned());
        self.operate(Operation::PutCustomer { tenant, customer, settings });
    }

    pub fn reserve(&mut self, id: &str, customer: &str, quantity: i64, expires_in: Duration) -> Done {
        let (tenant, id, customer) = (tenant(), id.to_owned(), customer.to_owned());
        let (meter, quantity) = (TOKENS, units(quantity));
        self.operate(Operation::Reserve(Reserve { tenant, id, customer, meter, quantity, expires_in }))
    }

    pub fn release(&mut self, id: &str) -> Done {
        self.operate(Operation::Release { tenant: tenant(), id: id.to_owned() })
    }

    pub fn verdict(&self, customer: &str, quantity: i64) -> Verdict {
        self.view.check(&tenant(), customer, TOKENS, units(quantity)).unwrap()
    }

    /// Used and held of tokens.
    pub fn used(&self, customer: &str) -> (i64, i64) {
        let verdict = self.verdict(customer, 1);
        let whole = |quantity: Quantity| (quantity.scaled() / Quantity::ONE.scaled()) as i64;
        (whole(verdict.used), whole(verdict.held))
    }

    /// All of a customer's alerts.
    pub fn alerts(&self, customer: &str) -> Vec<ListedAlert> {
        let (customer, limit) = (Some(customer.to_owned()), 1_000);
        let query = AlertsQuery { tenant: tenant(), customer, meter: None, state: None, after: None, limit };
        self.view.alerts(&query).unwrap().alerts
    }

    /// Threshold, generation, whether it has recovered: in the order in which they were raised.
    pub fn fired(&self, customer: &str) -> Vec<(String, u32, bool)> {
        let alerts = self.alerts(customer);
        let shown = alerts
            .iter()
            .map(|listed| (listed.alert.threshold.to_string(), listed.alert.generation, listed.recovered.is_some()));
        shown.collect()
    }

    /// What readers see of these customers.
    pub fn seen(&self, customers: &[&str]) -> Vec<String> {
        let of = |customer: &&str| {
            let (caps, _) = self.view.caps(&tenant(), customer);
            format!("{customer} {caps:?} {:?} {:?}", self.verdict(customer, 1), self.alerts(customer))
        };
        let held = self.view.held(&tenant(), None, 1_000).0;
        customers.iter().map(of).chain([format!("{held:?}")]).collect()
    }

    /// The state is what a restart or a refold would make it.
    pub fn check(&mut self) {
        let writer = &self.running().writer;
        let state = writer.state.clone();
        assert_consistent(&mut state.write());
        let expected = digest(&state.read());
        let store: Arc<dyn Store> = self.store.clone();
        let loaded = State::load(&store, TableHasher::default()).unwrap();
        let refolded = State::new(TableHasher::default(), Arc::new(MemStore::new()));
        for mut state in [loaded, refolded] {
            let position = state.position();
            let start = Start { after: position, floor: Seq::ZERO, store_id: None };
            let read = journal::read::<std::convert::Infallible>(&self.disk, start, &mut |frame| {
                for record in record::records(frame.payload) {
                    let next = state.position().next();
                    state.apply(next, &record.unwrap(), &mut |_, _| {}).unwrap();
                }
                Ok(())
            });
            assert!(read.is_ok());
            assert_consistent(&mut state);
            assert_eq!(digest(&state), expected);
        }
    }

    /// Takes a base checkpoint, and removes the segments that it covers.
    pub fn cut(&mut self) -> Arc<dyn Store> {
        self.commit();
        let name = format!("base-{}", self.store.position());
        let position = self.store.checkpoint(name.as_ref()).unwrap();
        let journal = &mut self.running().journal;
        journal.remove_below(position).unwrap();
        assert!(journal.segments()[0].first_seq > Seq(1), "nothing was removed, so nothing is shown");
        Arc::new(self.store.open_checkpoint(name.as_ref()).unwrap())
    }

    /// Holds the store against what the journal comes to over a base.
    pub fn verify_from(&mut self, base: Option<&Arc<dyn Store>>) -> Result<Verified, VerifyError> {
        self.commit();
        let (disk, store): (Arc<dyn Disk>, Arc<dyn Store>) = (Arc::new(self.disk.clone()), self.store.clone());
        verify_from(&disk, &store, base, &mut |_| {})
    }

    /// The same, and the store's rows are those of a refold.
    pub fn verify(&mut self) {
        self.commit();
        self.check();
        let (disk, store): (Arc<dyn Disk>, Arc<dyn Store>) = (Arc::new(self.disk.clone()), self.store.clone());
        let verified = verify(&disk, &store, &mut |_| {}).unwrap();
        assert_eq!(verified.differences, []);
    }
}

fn open(disk: &SimDisk, store: &Arc<MemStore>, clock: &Arc<ManualClock>, options: &Options) -> (Running<()>, View) {
    let lock = recovery::lock(disk).unwrap();
    let parts = Parts { lock, disk: Arc::new(disk.clone()), clock: clock.clone(), store: store.clone() };
    let definitions = [definition("tokens", Aggregation::Sum), definition("calls", Aggregation::Count)];
    let journal_options = journal::Options { segment_bytes: 64 << 10, compression: Compression::None };
    let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
    let running = recovery::open(&parts, options, journal_options, &definitions, entropy).unwrap().run(options);
    let durable = watch::Sender::new(Seq::ZERO).subscribe();
    let view = View::new(running.writer.state().clone(), running.batches.clone(), durable);
    (running, view)
}

impl Running<()> {
    /// Brings a store up to date; what is final leaves memory.
    pub fn commit_to(&mut self, store: &dyn Store, now: Duration) {
        let Running { writer, index, .. } = self;
        let mut job = writer.hand_over(now, true);
        for _ in 0..100 {
            job = job.or_else(|| writer.drain());
        }
        if let Some(job) = job {
            let position = job.position;
            let commit = job.into_commit();
            store.commit(&commit).unwrap();
            index.add(&commit.ids, position);
            writer.committed(position);
        }
        (0..3).for_each(|_| writer.leave());
    }
}
