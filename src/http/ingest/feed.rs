//! What an event adds to each meter: its value and its dimension values.
//!
//! | meter | native event | CloudEvent |
//! | --- | --- | --- |
//! | count | one | one |
//! | sum, min, max, avg, latest | `quantity`, else `value` in `dimensions`, else 1 | `value` in `data`; without a path 1 |
//! | unique | `value` in `dimensions`, else `quantity` | `value` in `data` |
//!
//! 1. An event is taken for all the meters it feeds or for none.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::http::ingest::json::Item;
use crate::http::ingest::rejection::{self, NotScalar, Pointer, Rejection};
use crate::http::ingest::sink::Sink;
use crate::meter::{Aggregation, Definition, Path, Value};
use crate::model::{Code, Quantity};

/// Dimension values of all of an event's feeds, one feed's after the other's.
pub type Dimensions<'a> = SmallVec<[Option<Cow<'a, str>>; 4]>;

/// Where an event's values are looked up.
#[derive(Clone, Copy)]
pub struct Source<'t, 'a> {
    /// The `dimensions` of a native event or the `data` of a CloudEvent.
    pub data: Option<Item<'t, 'a>>,
    /// Where that is, as a pointer.
    pub root: &'static str,
    /// A native event's own quantity.
    pub quantity: Option<Quantity>,
    pub is_native: bool,
}

impl<'a> Source<'_, 'a> {
    /// What this event adds to the meter.
    pub fn value(&self, meter: &Definition, builder: &impl Sink) -> Result<Value, Rejection> {
        if meter.aggregation == Aggregation::Unique {
            return self.member(meter, builder);
        }
        let quantity = match self.quantity {
            Some(quantity) => check_sign(meter, "/quantity", quantity)?,
            None if meter.aggregation == Aggregation::Count => Quantity::ONE,
            None => self.looked_up(meter)?,
        };
        Ok(Value::Quantity(quantity))
    }

    fn looked_up(&self, meter: &Definition) -> Result<Quantity, Rejection> {
        let Some(path) = &meter.value else { return Ok(Quantity::ONE) };
        let pointer = Pointer { root: self.root, segments: path.segments() };
        match self.resolve(path) {
            Some(item) => check_sign(meter, pointer, rejection::quantity(pointer, item)?),
            None if self.is_native => Ok(Quantity::ONE),
            None => Err(Rejection::missing(pointer)),
        }
    }

    fn member(&self, meter: &Definition, builder: &impl Sink) -> Result<Value, Rejection> {
        let segments = meter.value.as_ref().map_or(&[][..], Path::segments);
        let pointer = Pointer { root: self.root, segments };
        let Some(item) = meter.value.as_ref().and_then(|path| self.resolve(path)) else {
            return match self.quantity {
                Some(quantity) => Ok(builder.member(&quantity.to_string())),
                None => Err(Rejection::missing(pointer)),
            };
        };
        match rejection::scalar(item) {
            Ok(text) => Ok(builder.member(&text)),
            Err(NotScalar::Null) => Err(Rejection::missing(pointer)),
            Err(NotScalar::Container) => Err(Rejection::invalid(pointer, "must be a string, a number or a boolean")),
        }
    }

    /// Appends the meter's dimension values, in the definition's order.
    pub fn dimensions(&self, meter: &Definition, out: &mut Dimensions<'a>) -> Result<(), Rejection> {
        for (_, path) in &meter.dimensions {
            let value = match self.resolve(path) {
                Some(item) => rejection::dimension(Pointer { root: self.root, segments: path.segments() }, item)?,
                None => None,
            };
            out.push(value);
        }
        Ok(())
    }

    /// The value at a path; `None` if there is nothing or null.
    fn resolve(&self, path: &Path) -> Option<Item<'_, 'a>> {
        let found = path.segments().iter().try_fold(self.data?, |item, segment| item.member(segment))?;
        (!found.is_null()).then_some(found)
    }
}

fn check_sign(meter: &Definition, field: impl std::fmt::Display, quantity: Quantity) -> Result<Quantity, Rejection> {
    if quantity.is_negative() && !meter.allow_negative {
        let detail = format_args!("{field} is negative, which meter {:?} does not allow", meter.slug);
        return Err(Rejection::new(Code::InvalidQuantity, detail));
    }
    Ok(quantity)
}
