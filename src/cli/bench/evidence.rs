//! From what is billed back to its events: whether they fold to it exactly, and how long listing them takes.
//!
//! | file | does |
//! | --- | --- |
//! | `sent` | a day of events, and what they must come to |
//! | `fold` | listed events to a window's value |
//! | `sidecars` | waits for the files beside the journal |
//! | `traced` | what it came to, as text and as JSON |
//!
//! 1. A day's events are sent in the order of their time. Its first window is final by then, or its first two: what counts
//!    there is late.
//! 2. Then the sidecars of all sealed segments are waited for.
//! 3. Random customers' days are listed, each for the first time. A listing must have as many events as were sent, in
//!    their order.
//! 4. Random windows that have usage are asked for, and their events: what is stored, what the listed events fold to and
//!    what was sent must be equal, in value and count.
//! 5. A latency counts from a request to the end of its answer; reading that as JSON is left out. Of several pages: the sum.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fastrand::Rng;
use serde::Deserialize;

use crate::cli::bench::Args;
use crate::cli::client::{Client, percent_encode};
use crate::cli::daemon::{Daemon, TemporaryDirectory};
use crate::cli::generate::Workload;
use crate::cli::process;
use crate::cli::totals::{self, MeterInfo};
use crate::env::{Clock, SystemClock};
use crate::model::{Quantity, Timestamp};

mod fold;
mod sent;
mod sidecars;
mod traced;

use fold::{Fold, Listed};
use sent::{HOUR_MICROS, Key, Sent};
use sidecars::Sidecars;
use traced::Traced;

pub const NAME: &str = "evidence";
const CONFIG: &str = include_str!("../../../benches/evidence.toml");
const ANY_PORT: &str = "127.0.0.1:0";
const CUSTOMERS: u64 = 5_000;
const WINDOWS: usize = 1_000;
const DAYS: usize = 100;
const DAY: crate::model::Duration = crate::model::Duration::from_secs(86_400);

/// All pages of a listing.
pub struct Listing {
    events: Vec<Listed>,
    first_page: Duration,
    whole: Duration,
}

/// What the daemon says of a window.
#[derive(Debug, Deserialize)]
struct Stored {
    window_start: String,
    value: Option<String>,
    event_count: u64,
}

/// A daemon that has been sent a day's events.
struct Tracer {
    client: Client,
    meters: Vec<MeterInfo>,
    traced: Traced,
}

pub fn run(args: &Args, directory: &TemporaryDirectory) -> anyhow::Result<Traced> {
    let place = directory.place(NAME, CONFIG)?;
    let daemon = Daemon::start(&place, ANY_PORT)?;
    let target = daemon.target()?;
    let mut client = Client::new(&target, Duration::from_secs(args.timeout.max(60)))?;
    let meters = totals::meters(&mut client)?;
    let events = if args.preload > 0 { args.preload } else { args.events };
    let until = sent::minute(SystemClock::new().now());
    let sent = Sent::ingest(args, &target, &meters, (CUSTOMERS, events), until)?;
    let sidecars = Sidecars::wait(&place.data_dir.join("journal"))?;
    let traced = Traced::new(events, sent.report.elapsed, sidecars);
    let mut rng = Rng::with_seed(sent.seed);
    let customers = draw_customers(&mut rng);
    let tally = sent.tally(sent.draw_windows(&mut rng, WINDOWS), customers)?;
    let mut tracer = Tracer { client, meters, traced };
    for (customer, events) in tally.days {
        tracer.day(&Workload::customer_name(customer), until, events)?;
    }
    for (key, sent) in &tally.windows {
        tracer.window(key, sent)?;
    }
    let mut traced = tracer.traced;
    traced.peak_resident_bytes = process::peak_resident_bytes(daemon.pid());
    daemon.stop()?;
    fs::remove_dir_all(&place.data_dir)?;
    Ok(traced)
}

fn draw_customers(rng: &mut Rng) -> BTreeSet<u64> {
    let mut drawn = BTreeSet::new();
    while drawn.len() < DAYS {
        drawn.insert(rng.u64(0..CUSTOMERS));
    }
    drawn
}

impl Tracer {
    /// Lists a customer's day, in which so many events were sent.
    fn day(&mut self, customer: &str, until: Timestamp, sent: u64) -> anyhow::Result<()> {
        let from = until.saturating_sub(DAY);
        let listing = list(&mut self.client, &format!("/v1/events?customer={customer}&from={from}&to={until}"))?;
        let (found, traced) = (listing.events.len() as u64, &mut self.traced);
        traced.days.note(&listing);
        traced.day_events.push(found);
        if found != sent {
            traced.note_wrong(format!("the day of {customer}: {found} events are listed, {sent} were sent"));
        }
        traced.check_listing(&listing.events, customer)
    }

    /// Holds a window against its events, as listed and as sent.
    fn window(&mut self, key: &Key, sent: &Fold) -> anyhow::Result<()> {
        let end = Timestamp::from_micros(key.start.micros() + HOUR_MICROS)?;
        let MeterInfo { slug, aggregation, .. } = &self.meters[key.meter];
        let (customer, meter) = (Workload::customer_name(key.customer), percent_encode(slug));
        let span = format!("customer={customer}&from={}&to={end}", key.start);
        let stored = stored(&mut self.client, &format!("/v1/meters/{meter}/usage?{span}"), key.start)?;
        let listing = list(&mut self.client, &format!("/v1/events?{span}&meter={meter}"))?;
        let mut listed = Fold::default();
        listing.events.iter().try_for_each(|event| listed.add_listed(event, slug, key.start))?;
        let traced = &mut self.traced;
        traced.windows.note(&listing);
        traced.window_events += listed.events;
        let said =
            [("stored", stored), ("listed", come_to(&listed, aggregation)?), ("sent", come_to(sent, aggregation)?)];
        if let Some(text) = difference(&said) {
            traced.note_wrong(format!("{aggregation} {slug} of {customer} from {}: {text}", key.start));
        }
        traced.check_listing(&listing.events, &customer)
    }
}

/// A window's value and the number of its events.
type Total = (Option<Quantity>, u64);

fn come_to(fold: &Fold, aggregation: &str) -> anyhow::Result<Total> {
    Ok((fold.value(aggregation)?, fold.events))
}

/// What is said of one window, unless all say the same.
fn difference(said: &[(&str, Total)]) -> Option<String> {
    let (_, first) = said.first()?;
    let text = |(who, (value, events)): &(&str, Total)| {
        let value = value.map_or("nothing".into(), |value| value.to_string());
        format!("{who} {value} of {events} events")
    };
    let differs = said.iter().any(|(_, total)| total != first);
    differs.then(|| said.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn stored(client: &mut Client, path: &str, start: Timestamp) -> anyhow::Result<Total> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Stored>,
    }
    let page: Page = client.get_json(path)?;
    let Some(row) = page.data.first() else { return Ok((None, 0)) };
    ensure!(page.data.len() == 1, "{path}: one window has several rows: {:?}", page.data);
    ensure!(fold::time(&row.window_start)? == start, "{path}: the row is of another window: {row:?}");
    let value = row.value.as_deref().map(Quantity::parse).transpose();
    Ok((value.with_context(|| format!("{path}: {row:?}"))?, row.event_count))
}

/// Reads all pages.
fn list(client: &mut Client, path: &str) -> anyhow::Result<Listing> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Listed>,
        next_cursor: Option<String>,
    }
    let mut listing = Listing { events: Vec::new(), first_page: Duration::ZERO, whole: Duration::ZERO };
    let mut cursor = None::<String>;
    loop {
        let page =
            cursor.as_ref().map_or(path.to_owned(), |cursor| format!("{path}&cursor={}", percent_encode(cursor)));
        let began = Instant::now();
        let reply = client.get(&page)?;
        let took = began.elapsed();
        ensure!(reply.status == 200, "GET {page} was answered {}: {}", reply.status, reply.problem());
        if cursor.is_none() {
            listing.first_page = took;
        }
        listing.whole += took;
        let page: Page = serde_json::from_slice(&reply.body).with_context(|| format!("GET {page}"))?;
        listing.events.extend(page.data);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(listing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_value_or_count_is_named() {
        let total = |value: &str, events| (Quantity::parse(value).ok(), events);
        let same = [("stored", total("1.50", 2)), ("listed", total("1.5", 2))];
        assert_eq!(difference(&same), None);
        for other in [total("1.500000000001", 2), total("1.5", 3), (None, 2)] {
            let text = difference(&[same[0], same[1], ("sent", other)]).unwrap();
            assert!(text.starts_with("stored 1.5 of 2 events, listed 1.5 of 2 events, sent "), "{text}");
        }
    }

    #[test]
    fn customers_are_drawn_once_each() {
        assert_eq!(draw_customers(&mut Rng::with_seed(3)).len(), DAYS);
    }
}
