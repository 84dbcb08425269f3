//! The bodies: what is set aside, and what was used of it in the end.

use crate::engine::caps::RESERVATION_ID_BYTES_MAX;
use crate::engine::{Reservation, Reserve};
use crate::http::document;
use crate::http::fields;
use crate::http::ingest::compose::{self, Part};
use crate::http::ingest::door::Fault;
use crate::http::ingest::json::{Item, Value};
use crate::http::problem::Problem;
use crate::meter::Meters;
use crate::model::id::NAME_BYTES_MAX;
use crate::model::{Code, Duration, Quantity, TenantId, units};

const _: () = assert!(RESERVATION_ID_BYTES_MAX == NAME_BYTES_MAX, "an id is checked as a name");

/// How long quota is held unless the client says otherwise.
const EXPIRES_IN_DEFAULT: Duration = Duration::from_secs(15 * 60);
const EXPIRES_IN_MIN: Duration = Duration::from_secs(1);
const EXPIRES_IN_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Quantities have 12 fractional digits, times 6.
const SCALED_PER_MICRO: i128 = 1_000_000;

pub fn reserve(body: &[u8], tenant: &TenantId, meters: &Meters) -> Result<Reserve, Problem> {
    const NAMES: [&str; 5] = ["id", "customer", "meter", "quantity", "expires_in"];
    document::object(body, |root| {
        let [id, customer, meter, quantity, expires_in] = fields::members(root, "", &NAMES)?;
        let id = checked_id(fields::name(id, "", "/id")?)?;
        let customer = fields::name(customer, "", "/customer")?;
        let meter = fields::meter(meter, "", meters)?;
        let quantity = fields::required_quantity(quantity, "")?;
        if quantity <= Quantity::ZERO {
            return Err(fields::invalid("", "/quantity", Code::InvalidQuantity, "must be more than 0"));
        }
        let expires_in = expires_in.map_or(Ok(EXPIRES_IN_DEFAULT), lifetime)?;
        let (tenant, id, customer) = (tenant.clone(), id.to_owned(), customer.to_owned());
        Ok(Reserve { tenant, id, customer, meter: meter.id, quantity, expires_in })
    })
}

/// Refuses ids that no path can name: clients fold `.` and `..` away, and an action's name at the end would be taken for one.
fn checked_id(id: &str) -> Result<&str, Problem> {
    let fault = match id {
        "." | ".." => "must not be . or .., which no path can name",
        _ if id.ends_with(":commit") || id.ends_with(":release") => {
            "must not end in :commit or :release: /v1/reservations/{id}:commit could mean two things"
        }
        _ => return Ok(id),
    };
    Err(fields::invalid("", "/id", Code::InvalidField, fault))
}

/// A number of seconds, or a text with a unit.
fn lifetime(item: Item<'_, '_>) -> Result<Duration, Problem> {
    let read = match item.value() {
        Value::Null => Some(EXPIRES_IN_DEFAULT),
        Value::Number(seconds) => Quantity::parse(seconds).ok().and_then(micros).map(Duration::from_micros),
        Value::Text(text) => units::duration(text).ok(),
        _ => None,
    };
    let fault = "must be a number of seconds or a text like \"15m\", from 1 s to 7 d";
    read.filter(|span| (EXPIRES_IN_MIN..=EXPIRES_IN_MAX).contains(span))
        .ok_or_else(|| fields::invalid("", "/expires_in", Code::InvalidField, fault))
}

/// Seconds as microseconds, if they are some exactly.
fn micros(seconds: Quantity) -> Option<u64> {
    let is_exact = seconds.scaled() % SCALED_PER_MICRO == 0;
    u64::try_from(seconds.scaled() / SCALED_PER_MICRO).ok().filter(|_| is_exact)
}

/// The usage event of a commit, whose customer and meter are the reservation's. Without one there is no event, and the body
/// is only checked.
pub fn commit(body: &[u8], held: Option<&Reservation>, meters: &Meters) -> Result<String, Problem> {
    const NAMES: [&str; 4] = ["quantity", "usage_event_id", "dimensions", "source"];
    document::object(body, |root| {
        let members @ [quantity, id, ..] = fields::members(root, "", &NAMES)?;
        if fields::required_quantity(quantity, "")?.is_negative() {
            return Err(fields::invalid("", "/quantity", Code::InvalidQuantity, "must not be negative"));
        }
        fields::name(id, "", "/usage_event_id")?;
        let mut event = String::with_capacity(body.len() + 128);
        let Some(held) = held else { return Ok(event) };
        let meter = meters.get(held.meter).map_or("", |meter| meter.definition.slug.as_str());
        let [quantity, id, dimensions, source] = members.map(|item| item.map(Part::Item));
        let members = [
            ("usage_event_id", id),
            ("customer", Some(Part::Text(&held.customer))),
            ("meter", Some(Part::Text(meter))),
            ("quantity", quantity),
            ("source", source),
            ("dimensions", dimensions),
        ];
        compose::event(&mut event, &members);
        Ok(event)
    })
}

/// The problem of an event that cannot be taken.
pub fn refused_event(fault: &Fault, held: &Reservation, meters: &Meters) -> Problem {
    let pointer = meters.get(held.meter).map(|meter| fault.pointer(&meter.definition)).unwrap_or_default();
    // Customer and meter are none of the body's members.
    let pointer = if matches!(pointer.as_str(), "/customer" | "/meter") { String::new() } else { pointer };
    Problem::coded(fault.code, pointer, fault.detail.as_ref())
}
