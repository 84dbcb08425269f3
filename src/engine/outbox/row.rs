//! A row of the outbox with everything that a receiver is told.

use crate::engine::caps::{Alert, AlertState};
use crate::model::{Incarnation, OutboxPosition, Quantity, RowKind, Timestamp, Window};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub position: OutboxPosition,
    pub content: RowContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all rows are usage: a box each would only cost")]
pub enum RowContent {
    Usage(UsageRow),
    Alert(Box<Alert>),
}

/// A final window, as it is since this row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    pub change: UsageChange,
    pub tenant: String,
    pub customer: String,
    pub meter: String,
    /// Names in the order of the meter's definition; `None`: not given.
    pub dimensions: Vec<(String, Option<String>)>,
    pub window: Window,
    /// Absolute, adjustments included; `None` where there is nothing to say (an average of nothing).
    pub value: Option<Quantity>,
    pub event_count: u64,
    pub revision: u32,
    pub incarnation: Incarnation,
    /// SHA-256, see `content_hash` in `docs/FORMATS.md`.
    pub hash: [u8; 32],
    /// When it came about, in effective time.
    pub at: Timestamp,
}

/// What came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageChange {
    /// The window became final.
    Final,
    /// Late usage changed its value by so much; `None`: that leaves the range of a quantity.
    Adjusted { delta: Option<Quantity> },
}

impl OutboxRow {
    /// The queue it is in.
    pub fn kind(&self) -> RowKind {
        match &self.content {
            RowContent::Usage(row) => row.change.kind(),
            RowContent::Alert(_) => RowKind::Alerts,
        }
    }

    /// What receivers know it as.
    pub fn type_name(&self) -> &'static str {
        match &self.content {
            RowContent::Usage(row) => row.change.type_name(),
            RowContent::Alert(alert) => match alert.state {
                AlertState::Triggered => "alert.triggered",
                AlertState::Recovered => "alert.recovered",
            },
        }
    }

    pub fn usage(&self) -> Option<&UsageRow> {
        match &self.content {
            RowContent::Usage(row) => Some(row),
            RowContent::Alert(_) => None,
        }
    }

    pub fn alert(&self) -> Option<&Alert> {
        match &self.content {
            RowContent::Usage(_) => None,
            RowContent::Alert(alert) => Some(alert),
        }
    }
}

impl UsageChange {
    pub fn kind(self) -> RowKind {
        match self {
            UsageChange::Final => RowKind::Windows,
            UsageChange::Adjusted { .. } => RowKind::Adjustments,
        }
    }

    fn type_name(self) -> &'static str {
        match self {
            UsageChange::Final => "window.finalized",
            UsageChange::Adjusted { .. } => "window.adjusted",
        }
    }

    /// How the value changed, where that is known.
    pub fn delta(self) -> Option<Quantity> {
        match self {
            UsageChange::Final => None,
            UsageChange::Adjusted { delta } => delta,
        }
    }
}
