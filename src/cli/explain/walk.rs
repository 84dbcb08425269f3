//! Walks a period window by window: rows and events side by side, both in the order of time.
//!
//! 1. Held are one window's rows and folds, up to a page of its events, and a page each of what is read ahead.
//! 2. A window that does not match is read again by itself: it may have changed between the two reads.
//! 3. Events of a window that has no row are a window too: nothing is passed over.

use std::collections::BTreeMap;

use crate::cli::client::Client;
use crate::cli::evidence::{self, Backfills, Dimensions, Event, PAGE_EVENTS, Standing, instant};
use crate::cli::explain::ask::{Meter, UsageRow, usage};
use crate::cli::explain::fold::{Check, Claim, Part, WindowFold};
use crate::cli::listing::Listing;
use crate::meter::Windows;
use crate::model::{Timestamp, Window};

/// How often a window is read until it matches.
const READS_MAX: u32 = 3;

/// What is explained.
pub struct Question {
    pub customer: String,
    pub meter: Meter,
    pub windows: Windows,
    /// The billing period's name, and its bounds.
    pub period: String,
    pub bounds: Window,
    /// Whether events are to be held for showing.
    pub keeps_events: bool,
}

/// A window, its rows by dimensions, and its events.
pub struct WindowPage {
    pub window: Window,
    pub rows: Vec<Checked>,
    /// In the order of the time they count at; the first ones if there are more than a page.
    pub events: Vec<(Event, Standing)>,
    pub has_all_events: bool,
}

/// One set of dimensions in one window.
pub struct Checked {
    pub dimensions: Dimensions,
    /// None: the daemon has no such row.
    pub row: Option<UsageRow>,
    pub claim: Claim,
    pub fold: WindowFold,
    pub part: Part,
}

impl Checked {
    /// Nothing of it belongs to the period: the window reaches into it, and its events do not.
    pub fn is_foreign(&self) -> bool {
        self.part.of_window && self.part.check == Check::Matches && self.fold.of_period.events == 0
    }
}

/// See the module.
pub struct Walk<'q> {
    question: &'q Question,
    rows: Listing<UsageRow>,
    events: Listing<Event>,
    backfills: Backfills,
    pub evidence_from: Option<Timestamp>,
}

impl<'q> Walk<'q> {
    /// The windows that `range` touches.
    pub fn new(question: &'q Question, range: Window) -> Self {
        let from = question.windows.window(range.start).start;
        let to = question.windows.window(just_before(range.end)).end;
        let Question { customer, meter, .. } = question;
        Self {
            question,
            rows: usage(meter, customer, from, to),
            events: evidence::events(customer, &meter.slug, from, to),
            backfills: Backfills::default(),
            evidence_from: None,
        }
    }

    /// The next window.
    pub fn next(&mut self, client: &mut Client) -> anyhow::Result<Option<WindowPage>> {
        let Some(mut page) = self.read(client)? else { return Ok(None) };
        for _ in 1..READS_MAX {
            if page.rows.iter().all(|row| row.part.check.is_well()) {
                break;
            }
            let mut again = Walk::new(self.question, page.window);
            match again.read(client)? {
                Some(fresh) if fresh.window == page.window => page = fresh,
                _ => break,
            }
        }
        Ok(Some(page))
    }

    /// Every event of a window, one after the other.
    pub fn replay(
        &mut self,
        client: &mut Client,
        window: Window,
        mut each: impl FnMut(&Event, Standing) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut events = evidence::events(&self.question.customer, &self.question.meter.slug, window.start, window.end);
        while let Some(event) = events.next(client)? {
            let standing = self.backfills.standing(client, &event)?;
            if !each(&event, standing)? {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, client: &mut Client) -> anyhow::Result<Option<WindowPage>> {
        let Some(start) = self.next_start(client)? else { return Ok(None) };
        let window = self.question.windows.window(start);
        let mut rows: BTreeMap<Dimensions, UsageRow> = BTreeMap::new();
        while let Some(row) = self.rows.peek(client)? {
            if instant(&row.window_start)? != window.start {
                break;
            }
            rows.extend(self.rows.next(client)?.map(|row| (row.dimensions.clone(), row)));
        }
        let (mut folds, events, has_all_events) = self.fold(client, window)?;
        let empty = WindowFold::new(self.question.meter.aggregation);
        let mut checked = Vec::new();
        for (dimensions, row) in rows {
            let fold = folds.remove(&dimensions).unwrap_or_else(|| empty.clone());
            checked.push(self.check(window, dimensions, Some(row), fold)?);
        }
        for (dimensions, fold) in folds {
            checked.push(self.check(window, dimensions, None, fold)?);
        }
        Ok(Some(WindowPage { window, rows: checked, events, has_all_events }))
    }

    /// Where the next window begins that has a row or an event.
    fn next_start(&mut self, client: &mut Client) -> anyhow::Result<Option<Timestamp>> {
        let row = self.rows.peek(client)?.map(|row| instant(&row.window_start)).transpose()?;
        let event = self.events.peek(client)?;
        let event = event.and_then(|event| event.feed(&self.question.meter.slug)).map(|feed| feed.window_start());
        self.evidence_from = self.events.evidence_from.as_deref().map(instant).transpose()?;
        let event = event.transpose()?.map(|at| self.question.windows.window(at).start);
        Ok(match (row, event) {
            (Some(row), Some(event)) => Some(row.min(event)),
            (row, event) => row.or(event),
        })
    }

    /// Folds the window's events, by dimensions.
    #[expect(clippy::type_complexity, reason = "three answers, named where they are taken")]
    fn fold(
        &mut self,
        client: &mut Client,
        window: Window,
    ) -> anyhow::Result<(BTreeMap<Dimensions, WindowFold>, Vec<(Event, Standing)>, bool)> {
        let Question { meter, period, keeps_events, .. } = self.question;
        let (mut folds, mut kept, mut has_all) = (BTreeMap::new(), Vec::new(), true);
        while let Some(event) = self.events.peek(client)? {
            let feed = event.feed(&meter.slug);
            let feed = feed.ok_or_else(|| anyhow::anyhow!("event {} did not feed {}", event.seq, meter.slug))?;
            if !window.contains(feed.window_start()?) {
                break;
            }
            let Some(event) = self.events.next(client)? else { break };
            let standing = self.backfills.standing(client, &event)?;
            if let Some(feed) = event.feed(&meter.slug) {
                let fold: &mut WindowFold =
                    folds.entry(feed.dimensions.clone()).or_insert_with(|| WindowFold::new(meter.aggregation));
                fold.add(&event, feed, standing, period)?;
            }
            match kept.len() < PAGE_EVENTS {
                true if *keeps_events => kept.push((event, standing)),
                true => {}
                false => has_all = false,
            }
        }
        Ok((folds, kept, has_all))
    }

    fn check(
        &self,
        window: Window,
        dimensions: Dimensions,
        row: Option<UsageRow>,
        fold: WindowFold,
    ) -> anyhow::Result<Checked> {
        let claim = match &row {
            Some(row) => Claim::new(row.value.as_deref(), row.event_count, row.approximate)?,
            None => Claim::nothing(self.question.meter.aggregation),
        };
        let bounds = self.question.bounds;
        let of_window = window.start < bounds.start || window.end > bounds.end;
        let check = claim.of_window(&fold, window.start, self.evidence_from);
        Ok(Checked { dimensions, row, claim, fold, part: Part { of_window, check } })
    }
}

pub fn just_before(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.micros() - 1).unwrap_or(Timestamp::MIN)
}
