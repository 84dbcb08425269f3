//! What became of an event: one outcome each, with a code when it was not simply taken.

use crate::model::Seq;

/// The answer for one event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Counted, as this record.
    Accepted(Seq),
    /// The same event was accepted before, as this record.
    Duplicate(Seq),
    /// A duplicate of an event that was accepted as this record, and taken back since.
    Voided(Seq),
    /// The id was accepted before with another payload, as this record. The first one stands.
    Conflict(Seq),
    Rejected(Code, Box<str>),
    /// Usage has reached a hard cap. The id stays free.
    Capped(Box<str>),
}

impl Outcome {
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Accepted(_) => "accepted",
            Outcome::Duplicate(_) | Outcome::Voided(_) => "duplicate",
            Outcome::Conflict(_) => "conflict",
            Outcome::Rejected(..) => "rejected",
            Outcome::Capped(_) => "capped",
        }
    }
}

/// Why an event was not taken: stable names that clients may match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    MissingField,
    InvalidField,
    UnknownMeter,
    InvalidQuantity,
    QuantityOverflow,
    InvalidTimestamp,
    TooLate,
    TooEarly,
    LateRejected,
    CounterLimit,
    UniqueLimit,
    IdConflict,
    HardCap,
    Voided,
}

impl Code {
    pub const ALL: [Code; 14] = [
        Code::MissingField,
        Code::InvalidField,
        Code::UnknownMeter,
        Code::InvalidQuantity,
        Code::QuantityOverflow,
        Code::InvalidTimestamp,
        Code::TooLate,
        Code::TooEarly,
        Code::LateRejected,
        Code::CounterLimit,
        Code::UniqueLimit,
        Code::IdConflict,
        Code::HardCap,
        Code::Voided,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::MissingField => "missing_field",
            Code::InvalidField => "invalid_field",
            Code::UnknownMeter => "unknown_meter",
            Code::InvalidQuantity => "invalid_quantity",
            Code::QuantityOverflow => "quantity_overflow",
            Code::InvalidTimestamp => "invalid_timestamp",
            Code::TooLate => "too_late",
            Code::TooEarly => "too_early",
            Code::LateRejected => "late_rejected",
            Code::CounterLimit => "counter_limit",
            Code::UniqueLimit => "unique_limit",
            Code::IdConflict => "id_conflict",
            Code::HardCap => "hard_cap",
            Code::Voided => "voided",
        }
    }
}
