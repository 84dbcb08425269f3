//! What is written about an explanation, whatever the format.

use crate::cli::evidence::{Dimensions, Event, Feed, Standing};
use crate::cli::explain::walk::Checked;
use crate::cli::explain::{Check, Claim, PeriodFold, Question, Total, WindowPage};
use crate::model::{Quantity, Timestamp, Window};

/// Writes as it is called: a head, then windows, each followed by its events, then totals.
pub trait Report {
    /// Instead of all else: there is no total.
    fn nothing(&mut self, customer: &str, meter: &str, period: &str) -> anyhow::Result<()>;
    fn head(&mut self, head: &Head<'_>) -> anyhow::Result<()>;
    fn window(&mut self, question: &Question, page: &WindowPage) -> anyhow::Result<()>;
    fn event(&mut self, event: &Event, feed: &Feed, standing: Standing) -> anyhow::Result<()>;
    /// So many events of the window are not shown.
    fn more_events(&mut self, count: u64) -> anyhow::Result<()>;
    fn window_end(&mut self) -> anyhow::Result<()>;
    fn end(&mut self, head: &Head<'_>, totals: &[CheckedTotal], summary: &Summary) -> anyhow::Result<()>;
}

pub struct Head<'a> {
    pub question: &'a Question,
    pub totals: &'a [Total],
}

/// A total beside its windows.
pub struct CheckedTotal {
    /// None: there are windows, and no total of them.
    pub total: Option<Total>,
    pub dimensions: Dimensions,
    pub claim: Claim,
    pub fold: PeriodFold,
    pub check: Check,
}

impl CheckedTotal {
    pub fn new(total: Option<Total>, dimensions: Dimensions, fold: PeriodFold) -> anyhow::Result<Self> {
        let claim = match &total {
            Some(total) => Claim::new(total.value.as_deref(), total.event_count, total.approximate)?,
            None => Claim { value: None, event_count: 0, is_estimate: false },
        };
        let check = fold.check(&claim);
        Ok(Self { total, dimensions, claim, fold, check })
    }
}

/// What came of it all.
#[derive(Debug, Default)]
pub struct Summary {
    /// Rows: windows by dimensions.
    pub windows: u64,
    pub events: u64,
    pub taken_back: u64,
    checks: [u64; 5],
    total_checks: [u64; 5],
    /// The first and the last window whose events are not all kept.
    pub expired: Option<(Timestamp, Timestamp)>,
    pub evidence_from: Option<Timestamp>,
}

impl Summary {
    pub fn count_window(&mut self, window: Window, row: &Checked) {
        self.windows += 1;
        self.events += row.fold.all.events;
        self.taken_back += row.fold.taken_back;
        self.checks[row.part.check as usize] += 1;
        if row.part.check == Check::Expired {
            let (first, _) = self.expired.unwrap_or((window.start, window.start));
            self.expired = Some((first, window.start));
        }
    }

    pub fn count_total(&mut self, check: Check) {
        self.total_checks[check as usize] += 1;
    }

    /// Windows with this outcome.
    pub fn of(&self, check: Check) -> u64 {
        self.checks[check as usize]
    }

    /// Totals with this outcome.
    pub fn totals_of(&self, check: Check) -> u64 {
        self.total_checks[check as usize]
    }

    /// Nothing differs, as far as there are events to tell.
    pub fn is_well(&self) -> bool {
        [Check::Differs, Check::Unsettled].into_iter().all(|check| self.of(check) + self.totals_of(check) == 0)
    }

    /// Every window was compared with all of its events.
    pub fn is_complete(&self) -> bool {
        self.of(Check::Expired) + self.totals_of(Check::Expired) == 0
    }
}

/// A value, or the dash of none.
pub fn shown(value: Option<Quantity>) -> String {
    value.map_or_else(|| crate::cli::text::NOTHING.to_owned(), |value| value.to_string())
}

/// What is claimed less what was folded.
pub fn difference(claimed: Option<Quantity>, folded: Option<Quantity>) -> Quantity {
    claimed.unwrap_or_default().saturating_sub(folded.unwrap_or_default())
}
