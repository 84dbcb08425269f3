//! One run of the engine, driven step by step: what its threads would do, in an order that the schedule picks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use meterd::engine::{
    self, AdjustmentsQuery, Batch, ClockOptions, CommitJob, CustomerSettings, DeliveryOperation, Entropy, Group,
    NewEvent, NewFeed, OpenError, Operation, Options, Parts, PeriodChoice, Running, SinkDefinition, TotalsQuery, View,
    WindowQuery, WindowState, recovery,
};
use meterd::env::{ManualClock, SimDisk};
use meterd::journal::{self, Compression, JournalError};
use meterd::meter::{Aggregation, Cap, Definition, Late, PlanCap, Value};
use meterd::model::{Duration, Fingerprint, RowKinds, Seq, TenantId, Timestamp};
use meterd::store::{Commit, MemStore, Row, Rows, Store, Table};

use super::caps::{self, Limits};
use super::clock::{MAX_STEP_MICROS, SETTLE_MICROS, Seen};
use super::model::{
    ACCEPT_FUTURE_MICROS, Adjusted, CounterName, METERS, PeriodName, PeriodValue, Policy, REJECTS_LATE, Sent,
    WindowValue,
};

/// Identifies a request of the schedule.
pub type Request = u64;

pub struct Node {
    pub running: Running<Request>,
    pub store: Arc<MemStore>,
    pub view: View,
    /// Appended to the journal, not yet synced.
    pub in_flight: Option<Group<Request>>,
    /// On its way to the store.
    pub job: Option<CommitJob>,
    /// The newest horizon that was committed, and with which position.
    horizon: (Seq, Seq),
    clock: Arc<ManualClock>,
    /// Where the log ended before this run added anything.
    pub log_end: Seq,
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

/// How an engine is opened.
#[derive(Clone, Copy)]
pub struct Setup {
    pub policy: Policy,
    pub epoch_ids: usize,
    pub close_slice: usize,
    /// What each of [`SINKS`] gets, if it is configured.
    pub sinks: [Option<RowKinds>; SINKS.len()],
    pub caps: CapsSetup,
}

/// What an engine knows of caps when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapsSetup {
    /// Of [`caps::config`].
    pub config: u64,
    pub reservations_max: usize,
    /// Sabotage: nothing is rejected.
    pub shadow: bool,
}

impl CapsSetup {
    pub const NONE: CapsSetup = CapsSetup { config: 0, reservations_max: 4, shadow: false };

    /// A cap as it is handed to the engine.
    pub fn cap(&self, cap: &Limits) -> Cap {
        let cap = cap.cap();
        if self.shadow { Cap { enforce: false, ..cap } } else { cap }
    }

    fn options(&self) -> BTreeMap<String, Vec<PlanCap>> {
        let mut options: BTreeMap<String, Vec<PlanCap>> = BTreeMap::new();
        for (plan, meter, cap) in caps::config(self.config) {
            let cap = PlanCap { plan: plan.map(str::to_owned), cap: self.cap(&cap) };
            options.entry(METERS[meter].to_owned()).or_default().push(cap);
        }
        options
    }
}

/// The sinks that there can be; the first has everything from the beginning.
pub const SINKS: [&str; 3] = ["all", "late", "third"];

impl Setup {
    pub fn sinks(&self) -> Vec<SinkDefinition> {
        let sinks = SINKS.iter().zip(self.sinks);
        sinks.filter_map(|(name, kinds)| Some(SinkDefinition { name: (*name).to_owned(), kinds: kinds? })).collect()
    }
}

fn options(setup: Setup) -> Options {
    let Setup { policy, epoch_ids, close_slice, .. } = setup;
    Options {
        accept_past: micros(policy.accept_past_micros),
        accept_future: micros(ACCEPT_FUTURE_MICROS),
        dedupe_retention: micros(policy.retention_micros),
        epoch_ids,
        close_slice,
        clock: ClockOptions { max_step: micros(MAX_STEP_MICROS), settle: micros(SETTLE_MICROS) },
        commit_interval: Duration::from_millis(10),
        sinks: setup.sinks(),
        caps: setup.caps.options(),
        reservations_max: setup.caps.reservations_max,
        ..Options::default()
    }
}

pub fn journal_options() -> journal::Options {
    journal::Options { segment_bytes: 8 << 10, compression: Compression::None }
}

pub fn tenant() -> TenantId {
    TenantId::new("default")
}

fn definition(slug: &str, policy: Policy) -> Definition {
    let aggregation = Aggregation::ALL.into_iter().find(|aggregation| aggregation.as_str() == slug);
    Definition {
        slug: slug.to_owned(),
        event_type: slug.to_owned(),
        aggregation: aggregation.expect("meters are named after their aggregation"),
        value: (slug == "unique").then(|| "$.user".parse().expect("a path")),
        dimensions: vec![("model".to_owned(), "$.model".parse().expect("a path"))],
        window: "1h".parse().expect("a length"),
        time_zone: "UTC".to_owned(),
        grace: micros(policy.grace_micros),
        late: if slug == METERS[REJECTS_LATE] { Late::Reject } else { Late::Adjust },
        allow_negative: slug == "sum",
        unique_members_max: 1_000,
        approximate: false,
        billing_period: Default::default(),
        billing_time_zone: None,
        derive_id: None,
    }
}

impl Node {
    pub fn open(
        disk: &SimDisk,
        store: Arc<MemStore>,
        clock: &Arc<ManualClock>,
        setup: Setup,
    ) -> Result<Self, OpenError> {
        let options = options(setup);
        let parts = Parts {
            lock: engine::lock(disk)?,
            disk: Arc::new(disk.clone()),
            clock: clock.clone(),
            store: store.clone(),
        };
        let definitions: Vec<Definition> = METERS.iter().map(|slug| definition(slug, setup.policy)).collect();
        let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
        let opened = recovery::open(&parts, &options, journal_options(), &definitions, entropy)?;
        let log_end = Seq(opened.report.store.0 + opened.report.replayed_records);
        let running = opened.run(&options);
        let (_, durable) = tokio::sync::watch::channel(Seq::ZERO);
        let view = View::new(running.writer.state().clone(), running.batches.clone(), durable);
        Ok(Self {
            running,
            store,
            view,
            in_flight: None,
            job: None,
            horizon: (Seq::ZERO, Seq::ZERO),
            clock: clock.clone(),
            log_end,
        })
    }

    /// Parses a request, that is: encodes its events and looks them up.
    pub fn batch(&self, events: &[Sent], received_at: Timestamp, commits: Option<u8>) -> Batch {
        let mut builder = self.running.batches.start(&tenant(), received_at);
        commits.iter().for_each(|reservation| builder.commits(&reservation_id(*reservation)));
        let meters = self.running.batches.meters();
        for sent in events {
            let model = sent.model.map(|model| Cow::Owned(format!("model-{model}")));
            let dimensions = [model];
            let feeds: Vec<NewFeed<'_>> = sent
                .meters
                .iter()
                .map(|meter| NewFeed {
                    meter: meters.by_slug(METERS[*meter]).expect("a known meter").id,
                    value: match METERS[*meter] {
                        "unique" => builder.member(&sent.quantity.to_string()),
                        _ => Value::Quantity(meterd::model::Quantity::from_integer(sent.quantity)),
                    },
                    dimensions: &dimensions,
                })
                .collect();
            builder.push(&NewEvent {
                usage_event_id: &format!("event-{}", sent.id),
                source: "",
                customer: &format!("customer-{}", sent.customer),
                timestamp: sent.timestamp,
                fingerprint: Fingerprint(sent.payload),
                raw: b"{}",
                feeds: &feeds,
            });
        }
        builder.finish().expect("the store in memory answers")
    }

    /// Seals the open group and appends it; true if there was one and the journal was idle.
    pub fn append(&mut self) -> Result<bool, JournalError> {
        if self.in_flight.is_some() || !self.running.writer.has_group() {
            return Ok(false);
        }
        let group = self.running.writer.seal(Vec::new());
        if group.count > 0 {
            self.running.journal.append(group.first, group.count, &group.payload)?;
        }
        self.in_flight = Some(group);
        self.hand_over();
        Ok(true)
    }

    /// Makes the appended group durable and takes its answers.
    pub fn sync(&mut self) -> Result<Option<Group<Request>>, JournalError> {
        if self.in_flight.as_ref().is_some_and(|group| group.count > 0) {
            self.running.journal.sync()?;
        }
        Ok(self.in_flight.take())
    }

    /// What the writer does between groups.
    pub fn hand_over(&mut self) {
        use meterd::env::Clock;
        if self.job.is_none() && !self.running.writer.has_group() {
            self.job = self.running.writer.hand_over(self.clock.monotonic(), false);
        }
    }

    /// What the store thread does with an epoch that is durable.
    pub fn commit(&mut self, edit: impl FnOnce(&mut meterd::store::Commit)) {
        let Some(job) = self.job.take() else { return };
        let (position, horizon) = (job.position, job.horizon);
        let mut commit = job.into_commit();
        edit(&mut commit);
        self.store.commit(&commit).expect("the store in memory commits");
        self.horizon = (horizon, position);
        self.running.index.add(&commit.ids, position);
        self.running.writer.committed(position);
    }

    /// What the store thread does now and then.
    pub fn persist(&mut self) {
        self.store.persist().expect("the store in memory persists");
        let (horizon, committed_with) = self.horizon;
        if self.store.persisted() >= committed_with {
            self.store.set_horizon(horizon);
            self.running.index.forget_below(horizon);
        }
    }

    /// Both clocks, as the writer is shown them.
    pub fn seen(&self) -> Seen {
        use meterd::env::Clock;
        Seen { wall: self.clock.now().micros(), mono: self.clock.monotonic().micros() }
    }

    /// Shows the writer the clocks.
    pub fn observe(&mut self) {
        use meterd::env::Clock;
        self.running.writer.observe(self.clock.now(), self.clock.monotonic());
    }

    pub fn operate(&mut self, operation: Operation, request: Request) {
        use meterd::env::Clock;
        let now = (self.clock.now(), self.clock.monotonic());
        self.running.writer.operate(operation, now, request).expect("the store in memory answers");
    }

    pub fn reset_clock(&mut self, request: Request) {
        self.operate(Operation::ResetClock { reason: "simulated".to_owned() }, request);
    }

    pub fn put_customer(&mut self, customer: u8, (anchor, plan): (Option<u8>, Option<String>), request: Request) {
        let settings = CustomerSettings { anchor, plan, time_zone: None };
        let customer = format!("customer-{customer}");
        self.operate(Operation::PutCustomer { tenant: tenant(), customer, settings }, request);
    }

    pub fn deliver(&mut self, operation: DeliveryOperation, request: Request) {
        self.operate(Operation::Deliver(operation), request);
    }

    /// Every window as a reader sees it.
    pub fn windows(&self) -> BTreeMap<CounterName, WindowValue> {
        let mut windows = BTreeMap::new();
        let query = WindowQuery { tenant: &tenant(), meter: None, customer: None, from: None, to: None };
        let visited = self.view.windows(&query, &mut |row| {
            let name =
                (tail(row.customer), self.meter(row.meter), row.dimensions[0].map(tail), row.window.start.micros());
            let window = WindowValue {
                event_count: row.event_count,
                value: row.aggregate.value(row.event_count).expect("a window has events"),
                revision: row.revision,
                is_final: row.state == WindowState::Finalized,
            };
            assert!(windows.insert(name, window).is_none(), "one row per window: {name:?}");
        });
        visited.expect("the store in memory answers");
        windows
    }

    pub fn meter(&self, id: meterd::model::MeterId) -> usize {
        let meters = self.running.batches.meters();
        let slug = &meters.get(id).expect("a known meter").definition.slug;
        METERS.iter().position(|known| known == slug).expect("a known meter")
    }

    /// Every row of the billing periods with this name as a reader sees it, page by page.
    pub fn periods(&self, label: &str, limit: usize) -> BTreeMap<PeriodName, PeriodValue> {
        let period = PeriodChoice::Named(label.parse().expect("a period's name"));
        let query = TotalsQuery {
            tenant: tenant(),
            period,
            at: None,
            meter: None,
            customer: None,
            state: None,
            after: None,
            limit,
        };
        let (mut periods, mut after, mut last) = (BTreeMap::new(), None, Vec::new());
        loop {
            let page = self.view.totals(&TotalsQuery { after, ..query.clone() }).expect("the store in memory answers");
            for row in page.rows {
                assert!(row.key > last, "rows are in order");
                last = row.key;
                let model = row.dimensions[0].as_deref().map(tail);
                let label = (row.period, row.bounds.start.micros(), row.bounds.end.micros());
                let value = PeriodValue {
                    event_count: row.event_count,
                    value: row.value.expect("a period has events"),
                    original: row.original,
                    adjustments: row.adjustments,
                    revision: row.revision,
                    is_final: row.state == WindowState::Finalized,
                };
                let name = (tail(&row.customer), self.meter(row.meter), model, label);
                assert!(!page.is_final || value.is_final, "a final period has final rows: {name:?}");
                assert!(periods.insert(name, value).is_none(), "one row per period");
            }
            if !page.more {
                return periods;
            }
            after = Some(last.clone());
        }
    }

    /// Every adjustment as a reader sees it, page by page.
    pub fn adjustments(&self, limit: usize) -> Vec<Adjusted> {
        let (mut adjusted, mut since) = (Vec::new(), None);
        loop {
            let query = AdjustmentsQuery { tenant: tenant(), since, customer: None, meter: None, limit };
            let page = self.view.adjustments(&query).expect("the store in memory answers");
            for row in page.rows {
                assert!(since.is_none_or(|since| since < (row.seq, row.feed)), "rows are in order");
                since = Some((row.seq, row.feed));
                let model = row.dimensions[0].as_deref().map(tail);
                let name = (tail(&row.customer), self.meter(row.meter), model, row.window.start.micros());
                adjusted.push((row.seq, name, row.delta.scaled(), row.revision));
            }
            if !page.more {
                return adjusted;
            }
        }
    }
}

pub fn reservation_id(number: u8) -> String {
    format!("reservation-{number:02}")
}

pub fn tail(text: &str) -> u8 {
    text.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number at the end")
}

/// A store that leaves out a table.
pub fn drop_table(commit: &mut Commit, table: Table) {
    let mut kept = Rows::default();
    commit.rows.iter().filter(|row| row.table != table).for_each(|row| put_row(&mut kept, row));
    for range in commit.rows.ranges().iter().filter(|range| range.table != table) {
        kept.delete_range(range.table, &range.from, &range.to);
    }
    commit.rows = kept;
}

/// A store that leaves out some rows.
pub fn drop_rows(commit: &mut Commit, is_dropped: impl Fn(&Row<'_>) -> bool) {
    let mut kept = Rows::default();
    commit.rows.iter().filter(|row| !is_dropped(row)).for_each(|row| put_row(&mut kept, row));
    commit.rows.ranges().iter().for_each(|range| kept.delete_range(range.table, &range.from, &range.to));
    commit.rows = kept;
}

fn put_row(rows: &mut Rows, row: Row<'_>) {
    match row.value {
        Some(value) => rows.put(row.table, row.key, value),
        None => rows.delete(row.table, row.key),
    }
}
