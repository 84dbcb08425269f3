//! What tracing came to, as text and as JSON. Latencies are floats; quantities are not.

use std::time::Duration;

use serde_json::json;

use crate::cli::bench::evidence::fold::{Listed, out_of_order};
use crate::cli::bench::evidence::sidecars::Sidecars;
use crate::cli::bench::evidence::{CUSTOMERS, Listing, NAME};
use crate::cli::bench::report::{grouped, millis, millis_text, per_second, rate_text};
use crate::cli::load::percentile;

/// What listing a customer's day may take.
const GOAL: Duration = Duration::from_millis(200);
const WRONG_KEPT: usize = 5;

/// What all of it came to.
pub struct Traced {
    pub events: u64,
    pub ingest: Duration,
    pub sidecars: Sidecars,
    pub days: Latencies,
    /// Events of each day that was listed.
    pub day_events: Vec<u64>,
    pub windows: Latencies,
    pub window_events: u64,
    pub peak_resident_bytes: Option<u64>,
    pub wrong: Vec<String>,
    pub wrong_count: u64,
}

/// Listings, in microseconds.
#[derive(Default)]
pub struct Latencies {
    first_page: Vec<u32>,
    whole: Vec<u32>,
}

impl Latencies {
    pub fn note(&mut self, listing: &Listing) {
        let micros = |took: Duration| u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.first_page.push(micros(listing.first_page));
        self.whole.push(micros(listing.whole));
    }

    fn json(&self) -> serde_json::Value {
        let latencies = |micros: &[u32]| {
            let [p50, p99, max] = [500, 990, 1_000].map(|permille| millis(percentile(micros.to_vec(), permille)));
            json!({"p50": p50, "p99": p99, "max": max})
        };
        json!({"first_page": latencies(&self.first_page), "whole": latencies(&self.whole)})
    }

    fn worst(&self) -> Duration {
        percentile(self.whole.clone(), 1_000)
    }
}

fn latencies_text(micros: &[u32]) -> String {
    let [p50, p99, max] = [500, 990, 1_000].map(|permille| millis_text(percentile(micros.to_vec(), permille)));
    format!("p50 {p50}, p99 {p99}, max {max}")
}

impl Traced {
    pub fn new(events: u64, ingest: Duration, sidecars: Sidecars) -> Self {
        Self {
            events,
            ingest,
            sidecars,
            days: Latencies::default(),
            day_events: Vec::new(),
            windows: Latencies::default(),
            window_events: 0,
            peak_resident_bytes: None,
            wrong: Vec::new(),
            wrong_count: 0,
        }
    }

    pub fn is_exact(&self) -> bool {
        self.wrong_count == 0
    }

    pub fn note_wrong(&mut self, text: String) {
        self.wrong_count += 1;
        if self.wrong.len() < WRONG_KEPT {
            self.wrong.push(text);
        }
    }

    /// Every event is the customer's, and comes after the one before it.
    pub fn check_listing(&mut self, events: &[Listed], customer: &str) -> anyhow::Result<()> {
        if let Some(event) = events.iter().find(|event| event.customer != customer) {
            self.note_wrong(format!("event {} of {} is listed for {customer}", event.seq, event.customer));
        }
        if let Some(seq) = out_of_order(events)? {
            self.note_wrong(format!("event {seq} of {customer} is listed out of order, or twice"));
        }
        Ok(())
    }

    pub fn json(&self) -> serde_json::Value {
        json!({
            "scenario": NAME,
            "events": self.events,
            "customers": CUSTOMERS,
            "accepted_per_second": per_second(self.events, self.ingest),
            "sidecars": {
                "count": self.sidecars.count,
                "bytes": self.sidecars.bytes,
                "journal_bytes": self.sidecars.journal_bytes,
                "percent": self.sidecars.percent(),
                "seconds_after_ingest": self.sidecars.after.as_secs_f64(),
            },
            "days_listed": self.day_events.len(),
            "day_events": self.day_events,
            "day_ms": self.days.json(),
            "day_goal_ms": millis(GOAL),
            "windows_traced": self.windows.whole.len(),
            "window_events": self.window_events,
            "window_ms": self.windows.json(),
            "daemon_peak_resident_bytes": self.peak_resident_bytes,
            "wrong": self.wrong_count,
            "exact": self.is_exact(),
        })
    }

    /// In sentences.
    pub fn text(&self) -> String {
        let (sidecars, days) = (&self.sidecars, self.day_events.len() as u64);
        let mean = self.day_events.iter().sum::<u64>() / days.max(1);
        let mut lines = vec![format!(
            "evidence of {} events ({}): {} sidecars, {} MiB or {:.1} % of their segments, all written {:.2} s after ingest",
            grouped(self.events),
            rate_text(per_second(self.events, self.ingest)),
            sidecars.count,
            sidecars.bytes >> 20,
            sidecars.percent(),
            sidecars.after.as_secs_f64(),
        )];
        lines.push(format!(
            "a customer's day, {days} times, {} events on average: first page {}; all pages {}; goal {}: {}",
            grouped(mean),
            latencies_text(&self.days.first_page),
            latencies_text(&self.days.whole),
            millis_text(GOAL),
            if self.days.worst() < GOAL { "met" } else { "NOT MET" },
        ));
        lines.push(format!(
            "{} windows traced to {} events, {}: stored, listed and sent {}",
            grouped(self.windows.whole.len() as u64),
            grouped(self.window_events),
            latencies_text(&self.windows.whole),
            if self.is_exact() { "are equal".into() } else { format!("ARE NOT EQUAL: {} wrong", self.wrong_count) },
        ));
        lines.extend(self.wrong.iter().map(|text| format!("wrong evidence: {text}")));
        lines.join("\n")
    }
}
