//! One run of the engine, driven step by step: what its threads would do, in an order that the schedule picks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use meterd::engine::{
    self, Batch, CommitJob, Entropy, Group, NewEvent, NewFeed, OpenError, Options, Parts, Running, View, WindowQuery,
    recovery,
};
use meterd::env::{ManualClock, SimDisk};
use meterd::journal::{self, Compression, JournalError};
use meterd::meter::{Aggregation, Definition, Late, Value};
use meterd::model::{Duration, Fingerprint, Seq, TenantId, Timestamp};
use meterd::store::{MemStore, Store};

use super::model::{ACCEPT_FUTURE_MICROS, CounterName, CounterValue, METERS, Policy, Sent};

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
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

fn options(policy: Policy, epoch_ids: usize) -> Options {
    Options {
        accept_past: micros(policy.accept_past_micros),
        accept_future: micros(ACCEPT_FUTURE_MICROS),
        dedupe_retention: micros(policy.retention_micros),
        epoch_ids,
        commit_interval: Duration::from_millis(10),
        ..Options::default()
    }
}

pub fn journal_options() -> journal::Options {
    journal::Options { segment_bytes: 8 << 10, compression: Compression::None }
}

pub fn tenant() -> TenantId {
    TenantId::new("default")
}

fn definition(slug: &str) -> Definition {
    let aggregation = Aggregation::ALL.into_iter().find(|aggregation| aggregation.as_str() == slug);
    Definition {
        slug: slug.to_owned(),
        event_type: slug.to_owned(),
        aggregation: aggregation.expect("meters are named after their aggregation"),
        value: (slug == "unique").then(|| "$.user".parse().expect("a path")),
        dimensions: vec![("model".to_owned(), "$.model".parse().expect("a path"))],
        window: "1h".parse().expect("a length"),
        time_zone: "UTC".to_owned(),
        grace: Duration::ZERO,
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: 1_000,
        approximate: false,
    }
}

impl Node {
    pub fn open(
        disk: &SimDisk,
        store: Arc<MemStore>,
        clock: &Arc<ManualClock>,
        policy: Policy,
        epoch_ids: usize,
    ) -> Result<Self, OpenError> {
        let options = options(policy, epoch_ids);
        let parts = Parts {
            lock: engine::lock(disk)?,
            disk: Arc::new(disk.clone()),
            clock: clock.clone(),
            store: store.clone(),
        };
        let definitions: Vec<Definition> = METERS.iter().map(|slug| definition(slug)).collect();
        let entropy = Entropy { store_id: 7, dedupe_key: [9; 16] };
        let running = recovery::open(&parts, &options, journal_options(), &definitions, entropy)?.run(&options);
        let (_, durable) = tokio::sync::watch::channel(Seq::ZERO);
        let view = View::new(running.writer.state().clone(), durable);
        Ok(Self {
            running,
            store,
            view,
            in_flight: None,
            job: None,
            horizon: (Seq::ZERO, Seq::ZERO),
            clock: clock.clone(),
        })
    }

    /// Parses a request, that is: encodes its events and looks them up.
    pub fn batch(&self, events: &[Sent], received_at: Timestamp) -> Batch {
        let mut builder = self.running.batches.start(&tenant(), received_at);
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

    /// Every counter as a reader sees it.
    pub fn counters(&self) -> BTreeMap<CounterName, CounterValue> {
        let mut counters = BTreeMap::new();
        let meters = self.running.batches.meters();
        let query = WindowQuery { tenant: &tenant(), meter: None, customer: None, from: None, to: None };
        self.view.windows(&query, &mut |row| {
            let slug = &meters.get(row.meter).expect("a known meter").definition.slug;
            let meter = METERS.iter().position(|known| known == slug).expect("a known meter");
            let tail = |text: &str| text.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a number at the end");
            let model = row.dimensions[0].map(tail);
            let value = row.aggregate.value(row.event_count).expect("a counter has events");
            let name = (tail(row.customer), meter, model, row.window.start.micros());
            assert!(counters.insert(name, (row.event_count, value)).is_none(), "one row per counter");
        });
        counters
    }
}
