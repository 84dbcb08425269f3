//! The body of a PUT to caps: one cap, or an array of them.
//!
//! | member | takes | left out or null |
//! | --- | --- | --- |
//! | `id` | a name, another one for each cap of the array | `"default"` |
//! | `hard` | a quantity | no hard cap |
//! | `soft` | an amount, or an array of amounts | none |
//! | `on_hard_cap` | `"reject"`, `"allow"` | `"reject"` |
//! | `period` | the name of the meter's billing period (`"month"`, `"week"`, `"day"`), or `"window"` | the billing period |
//! | `grace` | an amount | `"0"` |
//! | `enforce` | a boolean | true |
//!
//! A quantity is a JSON number or a decimal string; an amount is that, or a part of the hard cap like `"80%"`. Numbers are
//! read from their text, so that none is rounded.
//!
//! The first fault ends it. It is pointed at, in an array from the array: `/0/soft/1`. Its code is `invalid_quantity` (or
//! `quantity_overflow`) where a number is at fault, else `invalid_field`.

use crate::http::document::value;
use crate::http::ingest::json::{Item, Value};
use crate::http::problem::{Problem, pointer};
use crate::meter::caps::{CAPS_MAX, SOFT_MAX};
use crate::meter::{Amount, AmountError, Cap, CapField, CapPeriod, OnHardCap, PeriodKind};
use crate::model::{Code, Quantity, QuantityError};

const WINDOW: &str = "window";

/// The caps, in order of id. `billing` is how long the meter's billing periods are.
pub fn read(body: &[u8], billing: PeriodKind) -> Result<Vec<Cap>, Problem> {
    value(body, |root| match root.value() {
        Value::Object => Ok(vec![read_cap(root, "", billing)?]),
        Value::Array => read_caps(root, billing),
        _ => Err(invalid("", "must be a cap, or an array of caps")),
    })
}

fn read_caps(array: Item<'_, '_>, billing: PeriodKind) -> Result<Vec<Cap>, Problem> {
    let mut caps: Vec<Cap> = Vec::new();
    for (place, item) in array.children().enumerate() {
        let at = format!("/{place}");
        if place == CAPS_MAX {
            return Err(invalid(&at, format_args!("is one of more than {CAPS_MAX}")));
        }
        if !item.is_object() {
            return Err(invalid(&at, "must be a cap"));
        }
        let cap = read_cap(item, &at, billing)?;
        if caps.iter().any(|other| other.id == cap.id) {
            let id = pointer(&at, "id");
            return Err(invalid(
                &id,
                format_args!("{:?} is that of another cap here: give each one of its own", cap.id),
            ));
        }
        caps.push(cap);
    }
    caps.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(caps)
}

/// `at` leads to the cap.
fn read_cap(item: Item<'_, '_>, at: &str, billing: PeriodKind) -> Result<Cap, Problem> {
    let mut cap = Cap::default();
    for member in item.children() {
        let (name, place) = (member.key().as_ref(), pointer(at, member.key()));
        match (name, member.value()) {
            ("id" | "period" | "hard" | "soft" | "on_hard_cap" | "grace" | "enforce", Value::Null) => {}
            ("id", Value::Text(text)) => cap.id = text.to_string(),
            ("id", _) => return Err(invalid(&place, "must be a string")),
            ("period", value) => cap.period = read_period(value, &place, billing)?,
            ("hard", value) => cap.hard = Some(read_quantity(value, &place)?),
            ("soft", _) => cap.soft = read_soft(member, &place)?,
            ("on_hard_cap", Value::Text(text)) if text == "allow" => cap.on_hard_cap = OnHardCap::Allow,
            ("on_hard_cap", Value::Text(text)) if text == "reject" => cap.on_hard_cap = OnHardCap::Reject,
            ("on_hard_cap", _) => return Err(invalid(&place, "must be \"reject\" or \"allow\"")),
            ("grace", value) => cap.grace = read_amount(value, &place)?,
            ("enforce", Value::Bool(enforce)) => cap.enforce = *enforce,
            ("enforce", _) => return Err(invalid(&place, "must be true or false")),
            _ => {
                let end = name.floor_char_boundary(64);
                return Err(invalid(&pointer(at, &name[..end]), "is not known here"));
            }
        }
    }
    let is_list = item.member("soft").is_some_and(|soft| matches!(soft.value(), Value::Array));
    cap.check().map_err(|error| invalid(&place_of(error.field, at, is_list), error.message))?;
    Ok(cap)
}

/// Where the body has what `Cap::check` finds fault with.
fn place_of(field: CapField, at: &str, is_list: bool) -> String {
    match field {
        CapField::Id => format!("{at}/id"),
        CapField::Hard => format!("{at}/hard"),
        CapField::Soft(place) if is_list => format!("{at}/soft/{place}"),
        CapField::Soft(_) => format!("{at}/soft"),
        CapField::Grace => format!("{at}/grace"),
    }
}

fn read_period(value: &Value<'_>, at: &str, billing: PeriodKind) -> Result<CapPeriod, Problem> {
    match value {
        Value::Text(text) if text == WINDOW => Ok(CapPeriod::Window),
        Value::Text(text) if text == billing.as_str() => Ok(CapPeriod::Billing),
        _ => {
            let billing = billing.as_str();
            Err(invalid(at, format_args!("must be {billing:?}, which the meter is billed by, or {WINDOW:?}")))
        }
    }
}

fn read_soft(item: Item<'_, '_>, at: &str) -> Result<Vec<Amount>, Problem> {
    if !matches!(item.value(), Value::Array) {
        return read_amount(item.value(), at).map(|amount| vec![amount]);
    }
    // One more than there may be: the check finds it, and says where it is.
    let elements = item.children().take(SOFT_MAX + 1).enumerate();
    elements.map(|(place, element)| read_amount(element.value(), &format!("{at}/{place}"))).collect()
}

fn read_quantity(value: &Value<'_>, at: &str) -> Result<Quantity, Problem> {
    let text = decimal(value).ok_or_else(|| no_quantity(at, "must be a number or a decimal string"))?;
    let quantity = Quantity::parse(text).map_err(|error| of_quantity(error, at, error))?;
    if quantity.is_negative() { Err(no_quantity(at, "is negative")) } else { Ok(quantity) }
}

fn read_amount(value: &Value<'_>, at: &str) -> Result<Amount, Problem> {
    let text = decimal(value);
    let text =
        text.ok_or_else(|| no_quantity(at, "must be a number, a decimal string or a percentage like \"80%\""))?;
    text.parse().map_err(|error| match error {
        AmountError::Quantity(fault) => of_quantity(fault, at, error),
        AmountError::Negative | AmountError::Percent => no_quantity(at, error),
    })
}

fn decimal<'t>(value: &'t Value<'_>) -> Option<&'t str> {
    match value {
        Value::Number(text) => Some(text),
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn of_quantity(error: QuantityError, at: &str, fault: impl std::fmt::Display) -> Problem {
    let code = match error {
        QuantityError::NotANumber | QuantityError::TooPrecise => Code::InvalidQuantity,
        QuantityError::Overflow => Code::QuantityOverflow,
    };
    Problem::at(code.as_str(), at, fault)
}

fn no_quantity(at: &str, fault: impl std::fmt::Display) -> Problem {
    Problem::at(Code::InvalidQuantity.as_str(), at, fault)
}

fn invalid(at: &str, fault: impl std::fmt::Display) -> Problem {
    Problem::at(Code::InvalidField.as_str(), at, fault)
}
