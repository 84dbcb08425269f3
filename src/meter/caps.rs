//! Caps: how much of a meter a customer may use in a period, and the thresholds on the way there. Pure.
//!
//! JSON, with these names for good, as the log and the API have it; a reader refuses a member that it does not know:
//!
//! | member | JSON | means |
//! | --- | --- | --- |
//! | `id` | string | which of a meter's caps it is |
//! | `period` | `"billing"`, `"window"` | which of the meter's stretches of time it counts in (the API says `"month"` for billing) |
//! | `hard` | decimal string or null | the hard cap |
//! | `soft` | array of amounts | thresholds that alert and stop nothing |
//! | `on_hard_cap` | `"allow"`, `"reject"` | whether usage past the hard cap is taken |
//! | `grace` | amount | how far past the hard cap `reject` still takes usage |
//! | `enforce` | boolean | false: a shadow cap, which counts and alerts, and rejects nothing |
//!
//! An amount is a decimal (`"900000"`) or a part of the hard cap (`"80%"`), never negative. A plan's cap is
//! `{"plan":…,"cap":{…}}`, `plan` being a string, or null for every plan.
//!
//! 1. A threshold is crossed where usage is at least its amount; one in percent is rounded up to what a quantity can say.
//! 2. Identity is content: two caps that say the same are the same, wherever and whenever they were said, and in whatever
//!    order their thresholds were.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::meter::definition::{Aggregation, Definition};
use crate::model::Quantity;
use crate::model::id::NAME_BYTES_MAX;
use crate::model::quantity::QuantityError;

/// Caps that one customer can have on one meter.
pub const CAPS_MAX: usize = 16;
/// Soft thresholds of one cap.
pub const SOFT_MAX: usize = 16;
/// The id of a cap that is given none.
pub const ID_DEFAULT: &str = "default";
/// The name of a hard cap among thresholds.
pub const HARD: &str = "hard";
/// The greatest amount in percent: beyond it someone slipped.
const PERCENT_MAX: i64 = 100_000;

/// A cap on one meter for one customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    pub id: String,
    pub period: CapPeriod,
    #[serde(with = "decimal")]
    pub hard: Option<Quantity>,
    /// In ascending order of what they come to; no two alike, though two may come to the same.
    pub soft: Vec<Amount>,
    pub on_hard_cap: OnHardCap,
    pub grace: Amount,
    pub enforce: bool,
}

/// Which of a meter's stretches of time a cap counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CapPeriod {
    /// The customer's billing period.
    Billing = 0,
    /// The meter's window.
    Window = 1,
}

/// What becomes of usage past the hard cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHardCap {
    /// It is taken: overage.
    Allow,
    /// It is not taken, and its id stays free.
    Reject,
}

impl OnHardCap {
    pub const ALL: [OnHardCap; 2] = [OnHardCap::Allow, OnHardCap::Reject];

    pub fn as_str(self) -> &'static str {
        match self {
            OnHardCap::Allow => "allow",
            OnHardCap::Reject => "reject",
        }
    }
}

/// A quantity, or a part of the hard cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Amount {
    Absolute(Quantity),
    Percent(Quantity),
}

impl Amount {
    pub const NOTHING: Amount = Amount::Absolute(Quantity::ZERO);

    pub fn is_percent(self) -> bool {
        matches!(self, Amount::Percent(_))
    }

    /// What it comes to, rounded up. None: it is a percentage of no hard cap, or what it comes to leaves the range of a
    /// quantity.
    pub fn of(self, hard: Option<Quantity>) -> Option<Quantity> {
        match self {
            Amount::Absolute(quantity) => Some(quantity),
            Amount::Percent(percent) => part_of(hard?, percent),
        }
    }

    /// Its digits.
    fn number(self) -> Quantity {
        match self {
            Amount::Absolute(number) | Amount::Percent(number) => number,
        }
    }

    /// Not every amount comes from a text.
    fn check(self) -> Result<(), AmountError> {
        match self {
            _ if self.number().is_negative() => Err(AmountError::Negative),
            Amount::Percent(percent) if percent > Quantity::from_integer(PERCENT_MAX) => Err(AmountError::Percent),
            _ => Ok(()),
        }
    }
}

/// `hard × percent / 100`, rounded up at the 12th fractional digit. None: it leaves the range.
fn part_of(hard: Quantity, percent: Quantity) -> Option<Quantity> {
    // percent is scaled by 10^12 too, so that the scaled product is divided by 10^14. hard = whole × 10^14 + rest:
    // whole × percent leaves the range only if the result does, and rest × percent is below 10^14 × 10^17.
    let divisor: i128 = Quantity::ONE.scaled() * 100;
    let (whole, rest) = (hard.scaled().div_euclid(divisor), hard.scaled().rem_euclid(divisor));
    let of_rest = rest.checked_mul(percent.scaled())?;
    let up = i128::from(of_rest.rem_euclid(divisor) > 0);
    let parts = whole.checked_mul(percent.scaled())?.checked_add(of_rest.div_euclid(divisor))?;
    parts.checked_add(up).map(Quantity::from_scaled)
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (digits, is_percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let quantity = Quantity::parse(digits).map_err(AmountError::Quantity)?;
        let amount = if is_percent { Amount::Percent(quantity) } else { Amount::Absolute(quantity) };
        amount.check().map(|()| amount)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Absolute(quantity) => write!(f, "{quantity}"),
            Amount::Percent(quantity) => write!(f, "{quantity}%"),
        }
    }
}

impl TryFrom<String> for Amount {
    type Error = AmountError;

    fn try_from(text: String) -> Result<Self, AmountError> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.to_string()
    }
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("{0}; an amount is a decimal like \"900000\" or a part of the hard cap like \"80%\"")]
    Quantity(QuantityError),
    #[error("is negative")]
    Negative,
    #[error("is more than {PERCENT_MAX}%")]
    Percent,
}

/// Something that usage can cross: a soft threshold or the hard cap itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Threshold {
    Soft(Amount),
    Hard,
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Soft(amount) => amount.fmt(f),
            Threshold::Hard => f.write_str(HARD),
        }
    }
}

impl FromStr for Threshold {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text == HARD { Ok(Threshold::Hard) } else { text.parse().map(Threshold::Soft) }
    }
}

impl Default for Cap {
    /// What a cap is where nothing is said; it does nothing so far.
    fn default() -> Self {
        Self {
            id: ID_DEFAULT.to_owned(),
            period: CapPeriod::Billing,
            hard: None,
            soft: Vec::new(),
            on_hard_cap: OnHardCap::Reject,
            grace: Amount::NOTHING,
            enforce: true,
        }
    }
}

impl Cap {
    /// What usage can cross, in ascending order of what it comes to; the hard cap after a soft one that comes to the same.
    pub fn thresholds(&self) -> impl Iterator<Item = (Threshold, Quantity)> {
        let soft = self.soft.iter().filter_map(|amount| Some((Threshold::Soft(*amount), amount.of(self.hard)?)));
        let mut all: smallvec::SmallVec<[(Threshold, Quantity); 4]> = soft.collect();
        all.extend(self.hard.map(|hard| (Threshold::Hard, hard)));
        all.sort_by_key(|(threshold, quantity)| (*quantity, *threshold == Threshold::Hard));
        all.into_iter()
    }

    /// What usage must not exceed. None: this cap rejects nothing.
    pub fn limit(&self) -> Option<Quantity> {
        let rejects = self.enforce && self.on_hard_cap == OnHardCap::Reject;
        let hard = self.hard.filter(|_| rejects)?;
        let limit = self.grace.of(self.hard).and_then(|grace| hard.checked_add(grace));
        Some(limit.unwrap_or(Quantity::from_scaled(i128::MAX)))
    }

    /// Sorts the thresholds, and says whether the cap can be used; if it cannot, nothing has changed.
    pub fn check(&mut self) -> Result<(), CapError> {
        self.check_id()?;
        self.check_hard()?;
        (0..self.soft.len()).try_for_each(|place| self.check_soft(place))?;
        self.check_grace()?;
        let hard = self.hard;
        // By all that they say: an order that depended on how they were given would make two caps of one.
        self.soft.sort_by_key(|amount| (amount.of(hard), amount.is_percent(), amount.number()));
        Ok(())
    }

    fn check_id(&self) -> Result<(), CapError> {
        if self.id.is_empty() || self.id.len() > NAME_BYTES_MAX || self.id.chars().any(char::is_control) {
            let message = format!("must have 1 to {NAME_BYTES_MAX} bytes and no control characters");
            return Err(CapError { field: CapField::Id, message });
        }
        Ok(())
    }

    fn check_hard(&self) -> Result<(), CapError> {
        match self.hard {
            None if self.soft.is_empty() => Err(CapError::new(
                CapField::Hard,
                "is missing, and there is no soft threshold either: the cap would do nothing",
            )),
            Some(hard) if hard.is_negative() => Err(CapError::new(CapField::Hard, "is negative")),
            _ => Ok(()),
        }
    }

    fn check_soft(&self, place: usize) -> Result<(), CapError> {
        let (amount, field, hard) = (self.soft[place], CapField::Soft(place), self.hard);
        if place >= SOFT_MAX {
            return Err(CapError { field, message: format!("is one too many: a cap has at most {SOFT_MAX}") });
        }
        amount.check().map_err(|error| CapError { field, message: error.to_string() })?;
        let error = |message: &str| Err(CapError::new(field, message));
        if amount.is_percent() && hard.is_none() {
            return error("is a percentage, and there is no hard cap that it could be of");
        }
        match amount.of(hard) {
            None => error("leaves the range of a quantity"),
            Some(Quantity::ZERO) => error("comes to 0, which is reached before anything is used"),
            Some(quantity) if self.on_hard_cap == OnHardCap::Reject && hard.is_some_and(|hard| quantity > hard) => {
                error("lies above the hard cap, and on_hard_cap is \"reject\"")
            }
            Some(_) if self.soft[..place].contains(&amount) => error("is given twice"),
            Some(_) => Ok(()),
        }
    }

    fn check_grace(&self) -> Result<(), CapError> {
        self.grace.check().map_err(|error| CapError { field: CapField::Grace, message: error.to_string() })?;
        let error = |message: &str| Err(CapError::new(CapField::Grace, message));
        match self.grace.of(self.hard) {
            None if self.hard.is_none() => error("is a percentage, and there is no hard cap that it could be of"),
            None => error("leaves the range of a quantity"),
            Some(grace) if grace > Quantity::ZERO && self.hard.is_none() => error("means nothing without a hard cap"),
            Some(_) => Ok(()),
        }
    }
}

/// Whether a meter can have caps: its value must be what usage adds up to.
pub fn can_be_capped(definition: &Definition) -> bool {
    matches!(definition.aggregation, Aggregation::Count | Aggregation::Sum)
}

/// Which member of a cap is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapField {
    Id,
    Hard,
    /// By its place.
    Soft(usize),
    Grace,
}

/// Why a cap cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CapError {
    pub field: CapField,
    /// Said of the field: "is negative".
    pub message: String,
}

impl CapError {
    fn new(field: CapField, message: &str) -> Self {
        Self { field, message: message.to_owned() }
    }
}

/// A cap that the config gives to every customer of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanCap {
    /// None: every plan, and customers without one.
    #[serde(deserialize_with = "present")]
    pub plan: Option<String>,
    pub cap: Cap,
}

/// The caps of a customer on a meter: its own, or else those that the config has for its plan. Of two with one id, the one
/// that names the plan.
pub fn effective(defaults: &[PlanCap], own: Option<&[Cap]>, plan: Option<&str>) -> Vec<Cap> {
    if let Some(own) = own {
        return own.to_vec();
    }
    let of_plan = |default: &&PlanCap| default.plan.is_some() && default.plan.as_deref() == plan;
    let named: Vec<&PlanCap> = defaults.iter().filter(of_plan).collect();
    let is_named = |id: &str| named.iter().any(|default| default.cap.id == id);
    let of_all = defaults.iter().filter(|default| default.plan.is_none() && !is_named(&default.cap.id));
    let mut caps: Vec<Cap> = named.iter().copied().chain(of_all).map(|default| default.cap.clone()).collect();
    caps.sort_by(|one, other| one.id.cmp(&other.id));
    caps
}

/// A member that is null but never left out: a plan that got lost must not turn a cap into everybody's.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// An optional quantity as a decimal string.
mod decimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::Quantity;

    pub fn serialize<S: Serializer>(quantity: &Option<Quantity>, serializer: S) -> Result<S::Ok, S::Error> {
        quantity.map(|quantity| quantity.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Quantity>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| Quantity::parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests;
