//! By question: what is listed, what damage does, what a removal leaves, and whether a whole engine's events add up.

mod damage;
mod engine;
mod listing;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::watch;

use super::{Evidence, EvidenceError, EvidenceEvent, EvidenceQuery};
use crate::engine::record::{EventEncoder, EventsWriter, put_tick};
use crate::env::{Disk, SimDisk};
use crate::journal::{self, Compression, Journal, Options, Start, StoreId, sidecar_paths};
use crate::meter::{BillingPeriod, Value};
use crate::model::{EventKey, Fingerprint, MeterId, Quantity, Seq, Timestamp, Window};

const STORE_ID: StoreId = StoreId(7);
const HOUR: i64 = 3_600_000_000;

/// What is known of an accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    seq: u64,
    tenant: String,
    customer: String,
    counted: i64,
    received: i64,
    meters: Vec<u16>,
    raw: Vec<u8>,
    periods: usize,
}

impl Known {
    fn of(event: &EvidenceEvent<'_>) -> Self {
        Self {
            seq: event.seq.0,
            tenant: event.tenant.to_owned(),
            customer: event.event.customer.to_owned(),
            counted: event.counted_at.micros(),
            received: event.received_at.micros(),
            meters: event.event.feeds.iter().map(|feed| feed.meter.0).collect(),
            raw: event.event.raw.to_vec(),
            periods: event.periods.len(),
        }
    }
}

/// A journal of random events, and a plain list of them.
struct Log {
    disk: SimDisk,
    options: Options,
    journal: Option<Journal>,
    durable: watch::Sender<Seq>,
    evidence: Evidence,
    known: Vec<Known>,
    rng: Rng,
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn options(compression: Compression) -> Options {
    Options { segment_bytes: 4_096, compression }
}

fn open(disk: &SimDisk, durable: &watch::Sender<Seq>) -> Evidence {
    Evidence::open(Arc::new(disk.clone()), STORE_ID, durable.subscribe())
}

impl Log {
    fn new(seed: u64, compression: Compression) -> Self {
        let (disk, options) = (SimDisk::new(seed), options(compression));
        let journal = Journal::create(Arc::new(disk.clone()), options, STORE_ID, Seq(1)).unwrap();
        let durable = watch::Sender::new(Seq::ZERO);
        let evidence = open(&disk, &durable);
        let (known, rng) = (Vec::new(), Rng::with_seed(seed));
        Self { disk, options, journal: Some(journal), durable, evidence, known, rng }
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    /// Makes some frames durable.
    fn grow(&mut self, frames: usize) {
        for _ in 0..frames {
            let first = self.journal().last().next();
            let (mut payload, mut next) = (Vec::new(), first.0);
            for _ in 0..self.rng.usize(1..4) {
                if self.rng.bool() {
                    put_tick(&mut payload, at(1), Seq(1));
                    next += 1;
                } else {
                    next = self.put_events(&mut payload, next);
                }
            }
            self.journal().append(first, (next - first.0) as u32, &payload).unwrap();
            let durable = self.journal().sync().unwrap();
            if self.rng.u8(..4) == 0 {
                self.journal().append_watermark().unwrap();
            }
            self.durable.send_replace(durable);
        }
    }

    fn put_events(&mut self, payload: &mut Vec<u8>, mut next: u64) -> u64 {
        let (tenant, received) = (["acme", "umbrella"][self.rng.usize(..2)], self.rng.i64(0..1_000));
        let period = Window { start: at(0), end: at(744 * HOUR) };
        let periods = vec![BillingPeriod { label: "1970-01".parse().unwrap(), bounds: period }; self.rng.usize(1..3)];
        let mut writer = EventsWriter::start(payload, (tenant, None), at(received), &periods);
        for _ in 0..self.rng.usize(1..6) {
            let customer = format!("c-{}", self.rng.u8(..5));
            let (timestamp, window) = (self.rng.i64(-HOUR..9 * HOUR), self.rng.i64(0..8));
            let window = Window { start: at(window * HOUR), end: at((window + 1) * HOUR) };
            let raw = vec![b'r'; self.rng.usize(1..60)];
            let meters: Vec<u16> = (0..self.rng.usize(1..3)).map(|_| [0, 1, 65][self.rng.usize(..3)]).collect();
            let mut event = Vec::new();
            let name = (EventKey(u128::from(next)), Fingerprint(1));
            let mut encoder = EventEncoder::start(&mut event, name, at(timestamp), &customer, &raw);
            for meter in &meters {
                let value = Value::Quantity(Quantity::from_integer(1));
                encoder.feed(MeterId(*meter), (window, 0), value, [Some("a")].into_iter());
            }
            encoder.finish();
            writer.push(payload, &event, std::iter::empty());
            let counted = timestamp.clamp(window.start.micros(), window.end.micros() - 1);
            let (tenant, periods) = (tenant.to_owned(), periods.len());
            self.known.push(Known { seq: next, tenant, customer, counted, received, meters, raw, periods });
            next += 1;
        }
        writer.finish(payload);
        next
    }

    /// Another process on the same directory.
    fn reopen(&mut self) {
        self.journal = None;
        self.disk = self.disk.restart();
        self.recover();
    }

    fn recover(&mut self) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let mut visit = |_: journal::FrameView<'_>| Ok::<_, ()>(());
        let Ok((journal, _)) = Journal::recover(disk, self.options, Start::default(), &mut visit) else {
            panic!("what is durable is recovered");
        };
        self.durable = watch::Sender::new(journal.last());
        (self.journal, self.evidence) = (Some(journal), open(&self.disk, &self.durable));
    }

    /// First seqs of the sealed segments.
    fn sealed(&mut self) -> Vec<Seq> {
        let mut segments = self.journal().segments();
        segments.pop();
        segments.iter().map(|segment| segment.first_seq).collect()
    }

    fn sidecars(&mut self) -> Vec<PathBuf> {
        self.sealed().into_iter().map(|first| sidecar_paths(first).0).collect()
    }

    fn random_query(&mut self) -> Query {
        let time = |rng: &mut Rng| (rng.u8(..2) == 0).then(|| at(rng.i64(-HOUR..9 * HOUR)));
        Query {
            tenant: ["acme", "umbrella", "nobody"][self.rng.usize(..3)],
            customer: format!("c-{}", self.rng.u8(..6)),
            meter: [None, Some(MeterId(0)), Some(MeterId(1)), Some(MeterId(65))][self.rng.usize(..4)],
            from: time(&mut self.rng),
            to: time(&mut self.rng),
        }
    }

    /// What a plain filter and sort say.
    fn expected(&self, query: &Query) -> Vec<Known> {
        let wanted = |known: &&Known| {
            known.tenant == query.tenant
                && known.customer == query.customer
                && query.meter.is_none_or(|meter| known.meters.contains(&meter.0))
                && query.from.is_none_or(|from| known.counted >= from.micros())
                && query.to.is_none_or(|to| known.counted < to.micros())
        };
        let mut expected: Vec<Known> = self.known.iter().filter(wanted).cloned().collect();
        expected.sort_by_key(|known| (known.counted, known.seq));
        expected
    }

    fn assert_lists(&mut self, queries: usize) {
        for _ in 0..queries {
            let query = self.random_query();
            assert_eq!(query.all(&self.evidence).unwrap(), self.expected(&query), "{query:?}");
        }
    }
}

#[derive(Clone, Debug)]
struct Query {
    tenant: &'static str,
    customer: String,
    meter: Option<MeterId>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Query {
    fn everything(customer: &str) -> Self {
        Self { tenant: "acme", customer: customer.to_owned(), meter: None, from: None, to: None }
    }

    fn page(
        &self,
        evidence: &Evidence,
        after: Option<(Timestamp, Seq)>,
        limit: usize,
    ) -> Result<Vec<Known>, EvidenceError> {
        let Query { tenant, customer, meter, from, to } = self;
        let query = EvidenceQuery { tenant, customer, meter: *meter, from: *from, to: *to, after };
        let mut page = Vec::new();
        evidence.events(&query, &mut |event| {
            page.push(Known::of(event));
            if page.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(page)
    }

    fn all(&self, evidence: &Evidence) -> Result<Vec<Known>, EvidenceError> {
        self.page(evidence, None, usize::MAX)
    }
}
