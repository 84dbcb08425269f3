//! The members that several routes share, by the rules of events: a name, a quantity, a meter; and the reason for what is done.
//!
//! `place` is where the object stands in the body, as a pointer: `""` for the body itself, `"/3"` for an array's element.

use std::fmt::Display;

use crate::http::ingest::json::{Item, Value};
use crate::http::ingest::rejection::{self, Named, Rejection};
use crate::http::problem::Problem;
use crate::meter::caps::can_be_capped;
use crate::meter::{Meter, Meters};
use crate::model::{Code, Quantity};

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 500;

/// An object's members, each in the place of its name; one of another name is refused.
pub fn members<'t, 'a, const N: usize>(
    object: Item<'t, 'a>,
    place: impl Display,
    names: &[&str; N],
) -> Result<[Option<Item<'t, 'a>>; N], Problem> {
    let mut found = [None; N];
    for member in object.children() {
        let name = member.key().as_ref();
        let at = names.iter().position(|known| *known == name).ok_or_else(|| {
            let pointer = format!("{place}{}", Named(name));
            Problem::coded(Code::InvalidField, pointer.clone(), format!("{pointer} is not known here"))
        })?;
        found[at] = Some(member);
    }
    Ok(found)
}

/// What the rules of events say against a member.
pub fn refused(place: impl Display, field: &str, rejection: &Rejection) -> Problem {
    Problem::coded(rejection.code, format!("{place}{field}"), format!("{place}{}", rejection.detail))
}

/// The same, for a fault that the rules of events do not know.
pub fn invalid(place: impl Display, field: &str, code: Code, fault: impl Display) -> Problem {
    let pointer = format!("{place}{field}");
    Problem::coded(code, pointer.clone(), format!("{pointer} {fault}"))
}

/// A name that must be there.
pub fn name<'t>(item: Option<Item<'t, '_>>, place: impl Display, field: &'static str) -> Result<&'t str, Problem> {
    rejection::required_name(field, item).map_err(|rejection| refused(place, field, &rejection))
}

/// Why an operator does something that cannot be undone: 1 to [`REASON_BYTES_MAX`] bytes.
pub fn reason<'t>(item: Option<Item<'t, '_>>) -> Result<&'t str, Problem> {
    const FIELD: &str = "/reason";
    let fault = match item.map(Item::value) {
        Some(Value::Text(text)) if (1..=REASON_BYTES_MAX).contains(&text.len()) => return Ok(text),
        None | Some(Value::Null) => return Err(invalid("", FIELD, Code::MissingField, "is missing")),
        Some(Value::Text(text)) if text.is_empty() => {
            return Err(invalid("", FIELD, Code::MissingField, "is empty"));
        }
        Some(_) => "must be a string of 1 to 500 bytes",
    };
    Err(invalid("", FIELD, Code::InvalidField, fault))
}

/// A quantity that may be left out.
pub fn quantity(item: Option<Item<'_, '_>>, place: impl Display) -> Result<Option<Quantity>, Problem> {
    const FIELD: &str = "/quantity";
    let read = |item| rejection::quantity(FIELD, item).map_err(|rejection| refused(place, FIELD, &rejection));
    item.map(read).transpose()
}

/// A quantity that must be there.
pub fn required_quantity(item: Option<Item<'_, '_>>, place: &str) -> Result<Quantity, Problem> {
    quantity(item, place)?.ok_or_else(|| invalid(place, "/quantity", Code::MissingField, "is missing"))
}

/// A meter in use whose usage adds up, so that it can be held against a cap.
pub fn meter<'m>(item: Option<Item<'_, '_>>, place: impl Display, meters: &'m Meters) -> Result<&'m Meter, Problem> {
    const FIELD: &str = "/meter";
    let slug = name(item, &place, FIELD)?;
    let Some(meter) = meters.by_slug(slug).filter(|meter| !meter.retired) else {
        return Err(invalid(place, FIELD, Code::UnknownMeter, format_args!("{slug:?} is no meter")));
    };
    if !can_be_capped(&meter.definition) {
        let fault = format_args!("{slug:?} cannot have caps: only meters that count or sum can");
        return Err(invalid(place, FIELD, Code::InvalidField, fault));
    }
    Ok(meter)
}
