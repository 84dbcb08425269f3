//! The body of a check: `{"customer","meter","quantity"?,"mode"?,"usage_event_id"?,"timestamp"?,"dimensions"?,"source"?}`, or
//! an array of up to 1,000.
//!
//! The last four are those of an event, and only for a check that consumes.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use crate::http::fields;
use crate::http::ingest::FramingError;
use crate::http::ingest::compose::{self, Part};
use crate::http::ingest::door::Fault;
use crate::http::ingest::framing::{self, Form};
use crate::http::ingest::json::{Item, Scanner, Value};
use crate::http::problem::Problem;
use crate::meter::Meters;
use crate::model::{Code, MeterId, Quantity};

/// Checks of one request.
pub const CHECKS_MAX: usize = 1_000;
const NAMES: [&str; 8] =
    ["customer", "meter", "quantity", "mode", "usage_event_id", "timestamp", "dimensions", "source"];

pub struct Checks<'a> {
    /// The body is an array.
    pub many: bool,
    pub items: SmallVec<[Check<'a>; 1]>,
    /// What is consumed, as native events: a body like that of `/v1/events`. Empty: nothing is.
    pub events: String,
    consumes: usize,
}

pub struct Check<'a> {
    pub customer: Cow<'a, str>,
    pub meter: MeterId,
    pub quantity: Quantity,
    /// Which of the events it is, if it consumes.
    pub event: Option<usize>,
}

/// Where a check stands in the body.
#[derive(Clone, Copy)]
struct Place(Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |index| write!(f, "/{index}"))
    }
}

impl<'a> Checks<'a> {
    pub fn read(body: &'a str, meters: &Meters) -> Result<Self, Problem> {
        let many = Scanner::new(body).peek() == Some(b'[');
        let mut checks = Self { many, items: SmallVec::new(), events: String::new(), consumes: 0 };
        let mut first = Ok(());
        framing::read(Form::Json, body, CHECKS_MAX, |_, item| {
            if first.is_ok() {
                first = checks.take(item, meters);
            }
        })
        .map_err(unreadable)?;
        first?;
        if many && !checks.events.is_empty() {
            checks.events.push(']');
        }
        Ok(checks)
    }

    fn place(&self, index: usize) -> Place {
        Place(self.many.then_some(index))
    }

    fn take(&mut self, item: Item<'_, 'a>, meters: &Meters) -> Result<(), Problem> {
        let place = self.place(self.items.len());
        if !item.is_object() {
            return Err(fields::invalid(place, "", Code::InvalidField, "is no JSON object, which a check must be"));
        }
        let members = fields::members(item, place, &NAMES)?;
        let [customer, meter, quantity, mode, of_event @ ..] = members;
        fields::name(customer, place, "/customer")?;
        let meter = fields::meter(meter, place, meters)?;
        let given = fields::quantity(quantity, place)?.unwrap_or(Quantity::ONE);
        if given.is_negative() && !meter.definition.allow_negative {
            let fault = format_args!("is negative, which meter {:?} does not allow", meter.definition.slug);
            return Err(fields::invalid(place, "/quantity", Code::InvalidQuantity, fault));
        }
        let event = if consumes(mode, place)? { Some(self.consume(&members)) } else { None };
        if let (None, Some(stray)) = (event, of_event.into_iter().flatten().next()) {
            let field = format!("/{}", stray.key());
            let fault = "belongs to a check with \"mode\": \"consume\"";
            return Err(fields::invalid(place, &field, Code::InvalidField, fault));
        }
        let customer = customer.map_or(Cow::Borrowed(""), text);
        self.items.push(Check { customer, meter: meter.id, quantity: given, event });
        Ok(())
    }

    /// Writes the event down; answers with its number.
    fn consume(&mut self, members: &[Option<Item<'_, 'a>>; NAMES.len()]) -> usize {
        let [customer, meter, quantity, _, id, timestamp, dimensions, source] =
            members.map(|item| item.map(Part::Item));
        if self.many {
            self.events.push(if self.events.is_empty() { '[' } else { ',' });
        }
        let members = [
            ("usage_event_id", id),
            ("customer", customer),
            ("meter", meter),
            ("quantity", quantity),
            ("timestamp", timestamp),
            ("dimensions", dimensions),
            ("source", source),
        ];
        compose::event(&mut self.events, &members);
        self.consumes += 1;
        self.consumes - 1
    }

    /// The problem of an event that cannot be taken.
    pub fn refused(&self, fault: &Fault, meters: &Meters) -> Problem {
        let index = self.items.iter().position(|check| check.event == Some(fault.index)).unwrap_or_default();
        let place = self.place(index);
        let meter = self.items.get(index).and_then(|check| meters.get(check.meter));
        let pointer = meter.map(|meter| fault.pointer(&meter.definition)).unwrap_or_default();
        Problem::coded(fault.code, format!("{place}{pointer}"), format!("{place}{}", fault.detail))
    }
}

fn consumes(mode: Option<Item<'_, '_>>, place: Place) -> Result<bool, Problem> {
    match mode.map(Item::value) {
        None => Ok(false),
        Some(Value::Text(mode)) if mode == "check" => Ok(false),
        Some(Value::Text(mode)) if mode == "consume" => Ok(true),
        Some(_) => Err(fields::invalid(place, "/mode", Code::InvalidField, "must be \"check\" or \"consume\"")),
    }
}

/// The text of a value that is one; not copied unless it was written with escapes.
fn text<'a>(item: Item<'_, 'a>) -> Cow<'a, str> {
    if let Value::Text(text) = item.value() { text.clone() } else { Cow::Borrowed("") }
}

fn unreadable(error: FramingError) -> Problem {
    match error {
        FramingError::TooManyEvents { limit } => {
            Problem::BatchTooLarge(format!("the request holds more than {limit} checks"))
        }
        FramingError::Shape { .. } => {
            let detail = "the body must be a check, which is a JSON object, or an array of checks";
            Problem::coded(Code::InvalidField, String::new(), detail)
        }
        error => Problem::from(error),
    }
}
