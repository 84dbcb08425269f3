//! Events to a value, as the daemon folds them: exact decimals, the same [`Aggregate`].

use crate::cli::evidence::{Event, Feed, Standing, instant, quantity};
use crate::meter::{Aggregate, Aggregation, Members, Refusal, Value};
use crate::model::{Duration, Quantity, Seq, Timestamp};

/// Members of one set that are told apart here: the most that a meter may count exactly.
const MEMBERS_MAX: u32 = crate::meter::definition::UNIQUE_MEMBERS_MAX;
/// Events are kept by when they were received, and may have come before the time they count at: by clocks that are ahead.
const AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// A running value, and the events that it is of.
#[derive(Clone, Debug)]
pub struct Fold {
    aggregate: Aggregate,
    pub events: u64,
}

impl Fold {
    pub fn new(aggregation: Aggregation) -> Self {
        let aggregate = match aggregation {
            Aggregation::Count => Aggregate::Count,
            Aggregation::Sum => Aggregate::Sum(Quantity::ZERO),
            Aggregation::Min => Aggregate::Min(Quantity::from_scaled(i128::MAX)),
            Aggregation::Max => Aggregate::Max(Quantity::from_scaled(i128::MIN)),
            Aggregation::Avg => Aggregate::Avg(Quantity::ZERO),
            Aggregation::Latest => Aggregate::Latest { value: Quantity::ZERO, at: Timestamp::MIN, seq: Seq::ZERO },
            Aggregation::Unique => Aggregate::Unique(Box::new(Members::new(MEMBERS_MAX, true))),
        };
        Self { aggregate, events: 0 }
    }

    pub fn add(&mut self, value: Value, at: Timestamp, seq: Seq) -> Result<(), Refusal> {
        self.aggregate.add(value, at, seq)?;
        self.events += 1;
        Ok(())
    }

    pub fn merge(&mut self, other: &Fold) -> Result<(), Refusal> {
        self.aggregate.merge(&other.aggregate)?;
        self.events += other.events;
        Ok(())
    }

    pub fn value(&self) -> Option<Quantity> {
        self.aggregate.value(self.events)
    }

    pub fn is_estimate(&self) -> bool {
        self.aggregate.is_approximate()
    }
}

/// The events of one window with one set of dimensions.
#[derive(Clone, Debug)]
pub struct WindowFold {
    /// All that count.
    pub all: Fold,
    /// Those of the billing period: a window may reach over its end.
    pub of_period: Fold,
    /// Those that were taken back.
    pub taken_back: u64,
    /// Those that are being taken back: they are in `all` still.
    pub reverting: u64,
}

impl WindowFold {
    pub fn new(aggregation: Aggregation) -> Self {
        let fold = Fold::new(aggregation);
        Self { all: fold.clone(), of_period: fold, taken_back: 0, reverting: 0 }
    }

    pub fn add(&mut self, event: &Event, feed: &Feed, standing: Standing, period: &str) -> anyhow::Result<()> {
        match standing {
            Standing::Voided | Standing::Reverted => {
                self.taken_back += 1;
                return Ok(());
            }
            Standing::Reverting => self.reverting += 1,
            Standing::Counts => {}
        }
        let (value, at, seq) = (feed.value()?, instant(&event.timestamp)?, Seq(event.seq));
        self.all.add(value, at, seq)?;
        if feed.period.as_deref() == Some(period) {
            self.of_period.add(value, at, seq)?;
        }
        Ok(())
    }
}

/// How a number compares with what was folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Matches,
    Differs,
    /// A set that is counted as an estimate: only the number of events was compared.
    Estimate,
    /// Events are past retention: there is nothing to compare with.
    Expired,
    /// It changed while it was read, or a backfill is being taken back.
    Unsettled,
}

impl Check {
    pub fn as_str(self) -> &'static str {
        match self {
            Check::Matches => "matches",
            Check::Differs => "differs",
            Check::Estimate => "estimate",
            Check::Expired => "expired",
            Check::Unsettled => "unsettled",
        }
    }

    /// Nothing is wrong as far as can be told.
    pub fn is_well(self) -> bool {
        matches!(self, Check::Matches | Check::Estimate | Check::Expired)
    }
}

/// A number of the daemon's: what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub value: Option<Quantity>,
    pub event_count: u64,
    pub is_estimate: bool,
}

impl Claim {
    pub fn new(value: Option<&str>, event_count: u64, is_estimate: bool) -> anyhow::Result<Self> {
        Ok(Self { value: value.map(quantity).transpose()?, event_count, is_estimate })
    }

    /// Of what is not there: nothing was counted.
    pub fn nothing(aggregation: Aggregation) -> Self {
        Self { value: Fold::new(aggregation).value(), event_count: 0, is_estimate: false }
    }

    pub fn against(&self, fold: &Fold) -> Check {
        let is_estimate = self.is_estimate || fold.is_estimate();
        match (self.event_count == fold.events, self.value == fold.value()) {
            (true, true) => Check::Matches,
            (true, false) if is_estimate => Check::Estimate,
            _ => Check::Differs,
        }
    }

    /// Compares a window that began at `start`; events that were received before `evidence_from` are not kept.
    pub fn of_window(&self, fold: &WindowFold, start: Timestamp, evidence_from: Option<Timestamp>) -> Check {
        let kept_from = evidence_from.map(|from| from.saturating_add(AHEAD_MAX));
        let is_cut = kept_from.is_some_and(|from| start < from) && fold.all.events < self.event_count;
        match self.against(&fold.all) {
            Check::Differs if is_cut => Check::Expired,
            Check::Differs if fold.reverting > 0 => Check::Unsettled,
            check => check,
        }
    }
}

/// A billing period's total, put together from its windows, for one set of dimensions.
#[derive(Clone, Debug)]
pub struct PeriodFold {
    aggregation: Aggregation,
    pub fold: Fold,
    pub windows: u64,
    /// A window could not be put in: its events are past retention.
    pub is_cut: bool,
}

impl PeriodFold {
    pub fn new(aggregation: Aggregation) -> Self {
        Self { aggregation, fold: Fold::new(aggregation), windows: 0, is_cut: false }
    }

    /// Puts in a window. Its own value counts where values of windows can be put together, else its events do: of
    /// averages, sets, and windows that reach over the end of the period.
    pub fn add(&mut self, claim: &Claim, window: &WindowFold, start: Timestamp, part: Part) -> Result<(), Refusal> {
        if part.of_window && window.of_period.events == 0 && window.all.events >= claim.event_count {
            return Ok(());
        }
        self.windows += 1;
        let by_events = part.of_window || matches!(self.aggregation, Aggregation::Avg | Aggregation::Unique);
        if by_events {
            self.is_cut |= part.check == Check::Expired;
            return self.fold.merge(&window.of_period);
        }
        let mut whole = Fold::new(self.aggregation);
        if let Some(value) = claim.value.filter(|_| claim.event_count > 0) {
            whole.add(Value::Quantity(value), start, Seq::ZERO)?;
        }
        whole.events = claim.event_count;
        self.fold.merge(&whole)
    }

    pub fn check(&self, total: &Claim) -> Check {
        match total.against(&self.fold) {
            Check::Differs if self.is_cut => Check::Expired,
            check => check,
        }
    }
}

/// How a window lies in its period.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Only a part of the window belongs to the period.
    pub of_window: bool,
    pub check: Check,
}

#[cfg(test)]
mod tests;
