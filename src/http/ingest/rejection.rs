//! Why one event is not taken, while the rest of its batch is; and the checks that every field shares.

use std::borrow::Cow;
use std::fmt::{self, Display};

use crate::http::ingest::json::{Item, Value};
use crate::model::id::NAME_BYTES_MAX;
use crate::model::{Code, Quantity, QuantityError, Timestamp, TimestampError};

/// The answer for an event that is turned away: a stable code, and a text that names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub detail: Box<str>,
}

impl Rejection {
    pub fn new(code: Code, detail: impl Display) -> Self {
        Self { code, detail: detail.to_string().into() }
    }

    #[cold]
    pub fn missing(field: impl Display) -> Self {
        Self::new(Code::MissingField, format_args!("{field} is missing"))
    }

    #[cold]
    pub fn invalid(field: impl Display, fault: impl Display) -> Self {
        Self::new(Code::InvalidField, format_args!("{field} {fault}"))
    }

    #[cold]
    fn quantity(field: impl Display, error: QuantityError) -> Self {
        let code = match error {
            QuantityError::NotANumber | QuantityError::TooPrecise => Code::InvalidQuantity,
            QuantityError::Overflow => Code::QuantityOverflow,
        };
        Self::new(code, format_args!("{field} {error}"))
    }

    #[cold]
    fn timestamp(field: impl Display, error: TimestampError) -> Self {
        Self::new(Code::InvalidTimestamp, format_args!("{field} {error}"))
    }
}

/// A member's place as an RFC 6901 pointer: `/data/usage/tokens`.
#[derive(Clone, Copy, Debug)]
pub struct Pointer<'a> {
    pub root: &'static str,
    pub segments: &'a [Box<str>],
}

impl Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        self.segments.iter().try_for_each(|segment| write_segment(f, segment))
    }
}

/// A name from the event itself, as a pointer; long ones are cut, so that an answer never outgrows its question.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a>(pub &'a str);

impl Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.floor_char_boundary(NAME_BYTES_MAX / 4);
        write_segment(f, &self.0[..end])?;
        if end < self.0.len() { f.write_str("…") } else { Ok(()) }
    }
}

fn write_segment(f: &mut fmt::Formatter<'_>, segment: &str) -> fmt::Result {
    f.write_str("/")?;
    if segment.contains(['~', '/']) {
        return f.write_str(&segment.replace('~', "~0").replace('/', "~1"));
    }
    f.write_str(segment)
}

/// A name that must be there: 1 to 256 bytes of text without control characters.
#[inline]
pub fn required_name<'t>(field: &'static str, item: Option<Item<'t, '_>>) -> Result<&'t str, Rejection> {
    name_if_any(field, item)?.ok_or_else(|| Rejection::missing(field))
}

/// The same, or none: left out, null or empty.
#[inline]
pub fn name_if_any<'t>(field: &'static str, item: Option<Item<'t, '_>>) -> Result<Option<&'t str>, Rejection> {
    match item.map(Item::value) {
        Some(Value::Text(text)) if !text.is_empty() => checked_name(field, text).map(Some),
        None | Some(Value::Null | Value::Text(_)) => Ok(None),
        Some(_) => Err(Rejection::invalid(field, "must be a string")),
    }
}

/// A name that may be left out or empty, but not null.
#[inline]
pub fn optional_name<'t>(field: &'static str, item: Option<Item<'t, '_>>) -> Result<&'t str, Rejection> {
    match item.map(Item::value) {
        None => Ok(""),
        Some(Value::Text(text)) => checked_name(field, text),
        Some(_) => Err(Rejection::invalid(field, "must be a string")),
    }
}

fn checked_name<'t>(field: &'static str, text: &'t str) -> Result<&'t str, Rejection> {
    if text.len() > NAME_BYTES_MAX {
        return Err(Rejection::invalid(field, "is longer than 256 bytes"));
    }
    if has_control(text) {
        return Err(Rejection::invalid(field, "holds a control character"));
    }
    Ok(text)
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) || (!text.is_ascii() && text.chars().any(char::is_control))
}

/// A JSON number or a decimal string, exactly.
#[inline]
pub fn quantity(field: impl Display, item: Item<'_, '_>) -> Result<Quantity, Rejection> {
    let text = match item.value() {
        Value::Number(text) => text,
        Value::Text(text) => text.as_ref(),
        _ => {
            return Err(Rejection::new(
                Code::InvalidQuantity,
                format_args!("{field} must be a number or a decimal string"),
            ));
        }
    };
    Quantity::parse(text).map_err(|error| Rejection::quantity(field, error))
}

/// RFC 3339 text, or a whole number of milliseconds since 1970.
#[inline]
pub fn timestamp(field: &'static str, item: Item<'_, '_>) -> Result<Timestamp, Rejection> {
    let parsed = match item.value() {
        Value::Text(text) => super::instant::parse(text),
        Value::Number(text) => unix_millis(text),
        _ => {
            let detail = format_args!("{field} must be an RFC 3339 time or milliseconds since 1970");
            return Err(Rejection::new(Code::InvalidTimestamp, detail));
        }
    };
    parsed.map_err(|error| Rejection::timestamp(field, error))
}

/// Whole milliseconds however the number is written: `1767323045123`, `1767323045123.0`, `1.767e12`.
fn unix_millis(text: &str) -> Result<Timestamp, TimestampError> {
    match Timestamp::parse_unix_millis(text) {
        Err(TimestampError::NotUnixMillis) => {}
        parsed => return parsed,
    }
    let millis = Quantity::parse(text).map_err(|error| match error {
        QuantityError::Overflow => TimestampError::OutOfRange,
        QuantityError::NotANumber | QuantityError::TooPrecise => TimestampError::NotUnixMillis,
    })?;
    let one = Quantity::ONE.scaled();
    if millis.scaled() % one != 0 {
        return Err(TimestampError::NotUnixMillis);
    }
    Timestamp::from_millis(i64::try_from(millis.scaled() / one).map_err(|_| TimestampError::OutOfRange)?)
}

/// A dimension's value as text: `None` for null. Numbers lose the zeros that do not change them, so `1.0` is `1`.
pub fn dimension<'a>(field: Pointer<'_>, item: Item<'_, 'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
    let text = match scalar(item) {
        Ok(text) => text,
        Err(NotScalar::Null) => return Ok(None),
        Err(NotScalar::Container) => return Err(Rejection::invalid(field, "must be a string, a number or a boolean")),
    };
    if text.len() > NAME_BYTES_MAX {
        return Err(Rejection::invalid(field, "is longer than 256 bytes"));
    }
    Ok(Some(text))
}

/// Why a value has no text of its own.
pub enum NotScalar {
    Null,
    Container,
}

/// A string, number or boolean as text.
pub fn scalar<'a>(item: Item<'_, 'a>) -> Result<Cow<'a, str>, NotScalar> {
    match item.value() {
        Value::Text(text) => Ok(text.clone()),
        Value::Number(text) => Ok(plain_number(text)),
        Value::Bool(true) => Ok(Cow::Borrowed("true")),
        Value::Bool(false) => Ok(Cow::Borrowed("false")),
        Value::Null => Err(NotScalar::Null),
        Value::Array | Value::Object => Err(NotScalar::Container),
    }
}

fn plain_number(text: &str) -> Cow<'_, str> {
    if text != "-0" && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Cow::Borrowed(text);
    }
    Quantity::parse(text).map_or(Cow::Borrowed(text), |number| Cow::Owned(number.to_string()))
}
