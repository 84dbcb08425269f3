//! Taking back, before the writer: what a retraction changes is computed from counters and evidence, and proposed.
//!
//! | file | role |
//! | --- | --- |
//! | `taken` | what is to be taken back, by window |
//! | `plan` | from that to a retraction: counters are read, windows become changes by series and period |
//! | `remains` | what remains of one window |
//! | `total` | what remains of a period's final windows |
//! | `source` | the events that are read again for it |
//! | `revert` | a backfill is taken back, slice by slice |
//! | `reverter` | the thread that does so |
//!
//! | of | remains |
//! | --- | --- |
//! | count, sum, average | less what is taken back: no event is read |
//! | least, greatest, latest | the same, if what is taken back was not it; else that of the events that are left |
//! | an exact set | less the members that no event that is left has |
//! | an estimate | that of the events that are left; it stays an estimate |
//!
//! 1. The basis is read first. What is computed is as of one record, at which the counters were read; the writer takes it only
//!    if neither they nor the basis have changed since.
//! 2. Events that are read again must be as many as the counter says are left. If they are fewer and journal segments are
//!    gone, evidence has expired; else something is wrong, and nothing is taken back.
//! 3. Nothing here changes state: a plan that is dropped leaves no trace.

use std::collections::BTreeMap;

use crate::engine::corrections::{Cause, Retraction, RetractionRefused, TakenFeed, VoidCause};
use crate::engine::evidence::{EvidenceError, EvidenceEvent, Found};
use crate::engine::key;
use crate::engine::record::FeedRecord;
use crate::engine::state::counter_key;
use crate::engine::view::{ReadError, View};
use crate::model::{Seq, TenantId, Timestamp, Window, hex};

mod plan;
mod remains;
mod revert;
mod reverter;
mod source;
mod taken;
#[cfg(test)]
mod tests;
mod total;

pub use revert::{RevertError, revert};
pub use reverter::Reverter;
pub use source::{Journaled, Source};

use taken::TakenWindow;

/// How often a plan is made again because a retraction came between.
const TRIES: usize = 20;

/// Gets a series' name, a feed that goes to it, and the event's time and record.
type FeedVisitor<'a> = dyn FnMut(&[u8], &FeedRecord<'_>, (Timestamp, Seq)) + 'a;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Refused(#[from] RetractionRefused),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("record {0} is not durable after 10 s")]
    NotDurable(Seq),
    /// The counter says something else than the events do: never seen in a whole log.
    #[error("{0}")]
    Differs(Box<Differs>),
    /// It changes more windows than one record holds.
    #[error("more is to be taken back at once than one record holds")]
    TooMuch,
}

/// What a counter says, and what was found instead.
#[derive(Debug, thiserror::Error)]
#[error("window {start} of series {series} should have {expected} events besides those taken back, {found} were found", start = .window.start)]
pub struct Differs {
    pub series: String,
    pub window: Window,
    pub expected: u64,
    pub found: u64,
}

impl PlanError {
    fn differs(series: &[u8], window: Window, expected: u64, found: u64) -> Self {
        let series = match key::read_series(series) {
            Some((name, _)) => format!("{}/{} {:?}", name.customer, name.meter, name.dimensions),
            None => hex::encode(series),
        };
        PlanError::Differs(Box::new(Differs { series, window, expected, found }))
    }
}

/// Computes retractions.
pub struct Planner {
    view: View,
    source: Box<dyn Source>,
    /// The meters' slugs, by number: they are settled when an engine starts.
    slugs: Vec<Box<str>>,
    /// More members than these do not leave a set one by one.
    leaving_max: usize,
}

impl Planner {
    pub fn new(view: View, source: Box<dyn Source>) -> Self {
        let slugs =
            view.state().read().definitions().iter().map(|definition| definition.slug.as_str().into()).collect();
        Self { view, source, slugs, leaving_max: remains::LEAVING_MAX }
    }

    /// Plans to take one accepted event back. Blocks on the disk.
    pub fn void(
        &self,
        tenant: &TenantId,
        source: &str,
        usage_event_id: &str,
        event: Seq,
        reason: &str,
    ) -> Result<Retraction, PlanError> {
        self.refuse(event)?;
        let mut read = None;
        let found = self.source.event(event, &mut |event| {
            if event.tenant == tenant.as_str() {
                read = Some((event.event.key, event.event.customer.to_owned(), self.feeds_of(event)));
            }
        })?;
        let (key, customer, taken) = match (found, read) {
            (Found::Expired, _) => return Err(RetractionRefused::EvidenceExpired.into()),
            (Found::Yes, Some(read)) => read,
            (Found::Yes, None) | (Found::No, _) => return Err(RetractionRefused::UnknownEvent.into()),
        };
        let (usage_event_id, source, reason) = (usage_event_id.to_owned(), source.to_owned(), reason.to_owned());
        self.plan(tenant, Cause::Void(VoidCause { event, key, usage_event_id, source, customer, reason }), taken)
    }

    /// Plans to take feeds back: all those of the void's event, or all that a revert's backfill has in their windows.
    pub fn plan(&self, tenant: &TenantId, cause: Cause, taken: Vec<TakenFeed>) -> Result<Retraction, PlanError> {
        let mut windows: BTreeMap<Vec<u8>, TakenWindow> = BTreeMap::new();
        let mut name = Vec::with_capacity(128);
        for feed in taken {
            counter_key(&mut name, &feed.series, feed.window.start);
            let window = windows.entry(name.clone()).or_insert_with(|| TakenWindow::new(feed.meter));
            window.add(feed.value, (feed.timestamp, feed.seq));
        }
        let windows: Vec<(Vec<u8>, TakenWindow)> = windows.into_iter().collect();
        let (retraction, took) = self.plan_slice(tenant, &cause, &windows)?;
        if took < windows.len() { Err(PlanError::TooMuch) } else { Ok(retraction) }
    }

    /// The same for windows in order; answers with how many of them, from the first on, the retraction takes back from.
    fn plan_slice(
        &self,
        tenant: &TenantId,
        cause: &Cause,
        windows: &[(Vec<u8>, TakenWindow)],
    ) -> Result<(Retraction, usize), PlanError> {
        for _ in 0..TRIES {
            if let Cause::Void(void) = cause {
                self.refuse(void.event)?;
            }
            let basis = self.view.basis();
            match plan::Slice::new(self, cause, basis).plan(tenant, windows) {
                Err(error) if self.view.basis() == basis => return Err(error),
                Err(_) => {}
                Ok(planned) => return Ok(planned),
            }
        }
        Err(RetractionRefused::Outdated.into())
    }

    /// An event that does not count any more cannot be taken back.
    fn refuse(&self, event: Seq) -> Result<(), RetractionRefused> {
        use crate::engine::corrections::BackfillState::Open;
        let state = self.view.state().read();
        if let Some(by) = state.corrections().voided(event) {
            return Err(RetractionRefused::AlreadyVoided(by));
        }
        match state.corrections().backfill_of(event).filter(|backfill| backfill.state != Open) {
            Some(backfill) => Err(RetractionRefused::Reverted(backfill.id.clone())),
            None => Ok(()),
        }
    }

    /// What an event adds to series. The periods are the record's: a counter may have another.
    fn feeds_of(&self, event: &EvidenceEvent<'_>) -> Vec<TakenFeed> {
        let mut feeds = Vec::with_capacity(event.event.feeds.len());
        self.each_feed(event, &mut |series, feed, at| {
            let Some(period) = event.periods.get(feed.period as usize) else { return };
            feeds.push(TakenFeed {
                seq: at.1,
                timestamp: at.0,
                series: series.to_vec(),
                meter: feed.meter,
                window: feed.window,
                period: *period,
                value: feed.value,
            });
        });
        feeds
    }

    /// Visits an event's feeds, each with its series' name.
    fn each_feed(&self, event: &EvidenceEvent<'_>, visit: &mut FeedVisitor<'_>) {
        let mut name = Vec::with_capacity(128);
        for feed in &event.event.feeds {
            let Some(slug) = self.slugs.get(usize::from(feed.meter.0)) else { continue };
            name.clear();
            key::put_customer(&mut name, event.tenant, event.event.customer);
            key::put_meter(&mut name, slug, feed.dimensions.iter().copied());
            visit(&name, feed, (event.event.timestamp, event.seq));
        }
    }
}
