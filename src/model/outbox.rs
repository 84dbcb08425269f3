//! What goes out: a row's place in the outbox, and what kinds of rows there are.

use std::fmt;
use std::str::FromStr;

use super::Seq;

/// A row's place: the record that made it, and its number among that record's rows. Rows go out in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutboxPosition {
    pub seq: Seq,
    pub index: u32,
}

impl OutboxPosition {
    pub fn new(seq: Seq, index: u32) -> Self {
        Self { seq, index }
    }

    /// The first place after this one.
    pub fn next(self) -> Self {
        match self.index.checked_add(1) {
            Some(index) => Self { index, ..self },
            None => Self { seq: self.seq.next(), index: 0 },
        }
    }
}

impl fmt::Display for OutboxPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.index)
    }
}

/// What a row of the outbox says. Each kind is a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKind {
    /// A window became final.
    Windows,
    /// Late usage changed a final window.
    Adjustments,
    /// Usage crossed a threshold.
    Alerts,
}

impl RowKind {
    /// Every kind, each at the place of its discriminant.
    pub const ALL: [RowKind; 3] = [RowKind::Windows, RowKind::Adjustments, RowKind::Alerts];

    pub fn as_str(self) -> &'static str {
        match self {
            RowKind::Windows => "windows",
            RowKind::Adjustments => "adjustments",
            RowKind::Alerts => "alerts",
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl FromStr for RowKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowKinds(u8);

impl RowKinds {
    pub const NONE: RowKinds = RowKinds(0);
    pub const ALL: RowKinds = RowKinds(0b111);

    #[must_use]
    pub const fn with(self, kind: RowKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    pub fn contains(self, kind: RowKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = RowKind> {
        RowKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    pub fn bits(self) -> u8 {
        self.0
    }

    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits & !Self::ALL.0 == 0).then_some(Self(bits))
    }
}

impl FromIterator<RowKind> for RowKinds {
    fn from_iter<I: IntoIterator<Item = RowKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}
