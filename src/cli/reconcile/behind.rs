//! What is behind a difference: the events of the total, and what comes to the delta exactly.
//!
//! 1. Events are read a page at a time, at most `EVENTS_MAX` for a difference; if there are more, it is said.
//! 2. A hint is arithmetic, not a verdict: late events, a backfill, or single events whose values come to the delta.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use serde::Deserialize;

use crate::cli::client::{Client, percent_encode};
use crate::cli::evidence::{self, Backfills, Dimensions, Event, Feed, Standing, quantity};
use crate::cli::explain::Meter;
use crate::cli::listing::{Listing, PAGE_ROWS};
use crate::cli::reconcile::compare::{Counted, Difference, Kind};
use crate::meter::{Aggregation, Period, Zone};
use crate::model::{Duration, Quantity, Window};

/// Events that are looked at for one difference.
const EVENTS_MAX: u64 = 100_000;
/// A customer's periods begin up to a month after the calendar's, and may be two months long.
const PERIOD_SLACK: Duration = Duration::from_secs(63 * 86_400);

/// An event's time and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub timestamp: String,
    pub usage_event_id: String,
}

/// An event that is shown: why it is, if there is a reason.
#[derive(Clone, Debug)]
pub struct Shown {
    pub event: Event,
    pub feed: Feed,
    pub standing: Standing,
    /// Its value is the delta, or was before it was taken back.
    pub is_delta: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Those that count.
    pub events: u64,
    pub taken_back: u64,
    /// There are more than were looked at.
    pub is_cut: bool,
    pub first: Option<Seen>,
    pub last: Option<Seen>,
    pub shown: Vec<Shown>,
    pub hints: Vec<String>,
}

/// See the module.
pub struct Behind<'a> {
    meters: &'a HashMap<String, Meter>,
    /// As it was asked for.
    period: &'a str,
    shown_max: usize,
    backfills: Backfills,
}

#[derive(Debug, Deserialize)]
struct Adjustment {
    id: String,
    dimensions: Dimensions,
    period: String,
    delta: String,
    recorded_at: String,
}

impl<'a> Behind<'a> {
    pub fn new(meters: &'a HashMap<String, Meter>, period: &'a str, shown_max: usize) -> Self {
        Self { meters, period, shown_max, backfills: Backfills::default() }
    }

    pub fn look(&mut self, client: &mut Client, difference: &Difference) -> anyhow::Result<Evidence> {
        let Some(meter) = self.meters.get(&difference.key.meter) else {
            let hints = vec![format!("meterd has no meter {:?}", difference.key.meter)];
            return Ok(Evidence { hints, ..Evidence::default() });
        };
        let mut evidence = self.events(client, difference, meter)?;
        let adjusted = difference.meterd.as_ref().filter(|counted| counted.adjustments > 0 && is_additive(meter));
        if let Some(counted) = adjusted {
            let hint = adjustments(client, difference, counted)?;
            evidence.hints.splice(0..0, hint);
        }
        Ok(evidence)
    }

    fn events(&mut self, client: &mut Client, difference: &Difference, meter: &Meter) -> anyhow::Result<Evidence> {
        let Some((period, bounds)) = self.bounds(difference, meter)? else { return Ok(Evidence::default()) };
        let mut found = Found::new(difference, is_additive(meter), self.shown_max);
        let mut events = evidence::events(&difference.key.customer, &meter.slug, bounds.start, bounds.end);
        let mut looked_at = 0;
        while let Some(event) = events.next(client)? {
            looked_at += 1;
            if looked_at > EVENTS_MAX {
                found.evidence.is_cut = true;
                break;
            }
            let Some(feed) = event.feed(&meter.slug) else { continue };
            let is_of_it = feed.period.as_ref() == Some(&period)
                && difference.split.of(&feed.dimensions) == difference.key.dimensions;
            if is_of_it {
                let (feed, standing) = (feed.clone(), self.backfills.standing(client, &event)?);
                found.take(event, feed, standing)?;
            }
        }
        let from = events.evidence_from.filter(|_| !found.evidence.is_cut);
        let mut evidence = found.finish();
        if let Some(from) = from {
            evidence.hints.push(format!("events received before {from} are past journal.retention"));
        }
        Ok(evidence)
    }

    /// The billing period's name, and where its events may lie.
    fn bounds(&self, difference: &Difference, meter: &Meter) -> anyhow::Result<Option<(String, Window)>> {
        if let Some(counted) = &difference.meterd {
            return Ok(Some((counted.period.clone(), counted.bounds)));
        }
        let Ok(period) = self.period.parse::<Period>() else { return Ok(None) };
        let zone = Zone::named(&meter.time_zone).with_context(|| format!("meter {}", meter.slug))?;
        let Window { start, end } = period.bounds(&zone);
        let (start, end) = (start.saturating_sub(Duration::from_secs(2 * 86_400)), end.saturating_add(PERIOD_SLACK));
        Ok(Some((period.to_string(), Window { start, end })))
    }
}

/// Whether what its events bring adds up to its total.
fn is_additive(meter: &Meter) -> bool {
    matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count)
}

/// Gathers a total's events.
struct Found<'d> {
    difference: &'d Difference,
    delta: Quantity,
    is_additive: bool,
    shown_max: usize,
    evidence: Evidence,
    /// The first of each: whose value is the delta, late, taken back, others; with their place among all.
    ranked: [Vec<(u64, Shown)>; 4],
    by_backfill: BTreeMap<String, (u64, Quantity)>,
    alone: u64,
}

impl<'d> Found<'d> {
    fn new(difference: &'d Difference, is_additive: bool, shown_max: usize) -> Self {
        Self {
            difference,
            delta: difference.delta(),
            is_additive,
            shown_max,
            evidence: Evidence::default(),
            ranked: Default::default(),
            by_backfill: BTreeMap::new(),
            alone: 0,
        }
    }

    fn take(&mut self, event: Event, feed: Feed, standing: Standing) -> anyhow::Result<()> {
        let counts = matches!(standing, Standing::Counts | Standing::Reverting);
        let brought = feed.value.as_deref().filter(|_| self.is_additive).map(quantity).transpose()?;
        let brought = brought.unwrap_or_default();
        let seen = Seen { timestamp: event.timestamp.clone(), usage_event_id: event.id().to_owned() };
        if counts {
            self.evidence.events += 1;
            self.evidence.first.get_or_insert(seen.clone());
            self.evidence.last = Some(seen);
        } else {
            self.evidence.taken_back += 1;
        }
        if let (Some(backfill), true) = (&event.backfill, counts) {
            let (count, sum) = self.by_backfill.entry(backfill.clone()).or_default();
            (*count, *sum) = (*count + 1, sum.checked_add(brought).unwrap_or(*sum));
        }
        let change = if counts { brought } else { Quantity::ZERO.saturating_sub(brought) };
        let is_delta = self.is_additive && self.delta != Quantity::ZERO && change == self.delta;
        self.alone += u64::from(is_delta);
        let rank = match (is_delta, feed.late, counts) {
            (true, _, _) => 0,
            (_, true, _) => 1,
            (_, _, false) => 2,
            _ => 3,
        };
        let place = self.evidence.events + self.evidence.taken_back;
        if self.ranked[rank].len() < self.shown_max {
            self.ranked[rank].push((place, Shown { event, feed, standing, is_delta }));
        }
        Ok(())
    }

    fn finish(mut self) -> Evidence {
        let mut shown: Vec<(u64, Shown)> = self.ranked.into_iter().flatten().take(self.shown_max).collect();
        shown.sort_by_key(|(place, _)| *place);
        self.evidence.shown = shown.into_iter().map(|(_, shown)| shown).collect();
        let all = self.evidence.events;
        for (id, (count, sum)) in &self.by_backfill {
            let is_all =
                self.difference.meterd.is_some() && self.difference.kind == Kind::MissingInFile && *count == all;
            if self.is_additive && *sum == self.delta && self.delta != Quantity::ZERO && !is_all {
                self.evidence.hints.push(format!("{} of backfill {id:?} = delta", plural(*count, "event")));
            }
        }
        if (1..=3).contains(&self.alone) && all > 1 {
            let what = plural(self.alone, "event");
            let each = if self.alone == 1 { "has" } else { "each have" };
            self.evidence.hints.push(format!("{what} {each} the delta as value"));
        }
        self.evidence
    }
}

/// Whether the newest adjustments come to the difference: then they were counted after the file was made.
fn adjustments(client: &mut Client, difference: &Difference, counted: &Counted) -> anyhow::Result<Option<String>> {
    let key = &difference.key;
    let [customer, meter] = [&key.customer, &key.meter].map(|name| percent_encode(name));
    let path = format!("/v1/adjustments?customer={customer}&meter={meter}&");
    let mut of_total: Vec<Adjustment> = Vec::new();
    let mut listing: Listing<Adjustment> = Listing::new(path, PAGE_ROWS);
    while let Some(row) = listing.next(client)? {
        if row.period == counted.period && difference.split.of(&row.dimensions) == key.dimensions {
            of_total.push(row);
        }
    }
    let deltas = of_total.iter().map(|row| quantity(&row.delta)).collect::<anyhow::Result<Vec<Quantity>>>()?;
    let counts = difference.file.as_ref().and_then(|claim| claim.event_count);
    let fits = match (difference.kind, counts) {
        (Kind::EventCount, Some(count)) => {
            let missing = counted.event_count.checked_sub(count).and_then(|missing| usize::try_from(missing).ok());
            missing.and_then(|missing| of_total.len().checked_sub(missing))
        }
        _ => newest_with_sum(&deltas, difference.delta()),
    };
    let alone = || deltas.iter().position(|delta| *delta == difference.delta()).map(|at| &of_total[at..=at]);
    let Some(found) = fits.map(|from| &of_total[from..]).filter(|rows| !rows.is_empty()).or_else(alone) else {
        return Ok(None);
    };
    let are_late = found.iter().all(|row| !row.delta.starts_with('-'));
    let what = plural(found.len() as u64, if are_late { "late event" } else { "adjustment" });
    let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(None) };
    Ok(Some(match found.len() {
        1 => format!("{what} = delta: adjustment {}, recorded {}", first.id, first.recorded_at),
        _ => format!(
            "{what} = delta: adjustments {} to {}, recorded {} to {}",
            first.id, last.id, first.recorded_at, last.recorded_at
        ),
    }))
}

/// From where on the last ones come to `sum`, as few of them as do.
fn newest_with_sum(deltas: &[Quantity], sum: Quantity) -> Option<usize> {
    let mut total = Quantity::ZERO;
    for (at, delta) in deltas.iter().enumerate().rev() {
        total = total.checked_add(*delta)?;
        if total == sum {
            return Some(at);
        }
    }
    None
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
