//! Accepted events read again, for meters that were not there when they were taken.
//!
//! | event | feeds |
//! | --- | --- |
//! | a CloudEvent (it has a `specversion`) | the meters of its `type` |
//! | a native event | the meter that it names, and those that are filled from that one |
//!
//! 1. Values and dimensions are read by the same code as at ingest; ids and times are known already.
//! 2. Each meter reads for itself: what one cannot read does not keep the others from counting.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::replay::Reading;
use crate::engine::{Hasher, NewEvent};
use crate::http::ingest::feed::{Dimensions, Source};
use crate::http::ingest::framing::{self, Form};
use crate::http::ingest::json::{Item, Value as Json};
use crate::http::ingest::rejection::{self, Rejection};
use crate::http::ingest::sink::Sink;
use crate::meter::{Meter, Meters, Value};
use crate::model::{Code, MeterId, Timestamp};

/// New meters, and what fills them.
pub struct Again {
    pub meters: Arc<Meters>,
    pub hasher: Hasher,
    /// Native events that name this meter feed that one too.
    pub fills: Vec<(String, MeterId)>,
}

impl Again {
    /// What an event's text adds to each of the meters that want it.
    pub fn read(&self, event: &str) -> Vec<Reading> {
        let mut readings = Vec::new();
        // It was read when it was taken; what cannot be read now was sent by another version, and feeds nothing new.
        let _ = framing::read(Form::Json, event, 1, |_, event| self.feeds(event, &mut readings));
        readings
    }

    fn feeds(&self, event: Item<'_, '_>, readings: &mut Vec<Reading>) {
        let is_cloudevent = event.member("specversion").is_some();
        let ids = if is_cloudevent { self.by_type(event) } else { self.by_name(event) };
        for meter in ids.iter().filter_map(|id| self.meters.get(*id)) {
            let feed = self.priced(event, meter, is_cloudevent).map_err(|rejection| rejection.detail.into());
            readings.push(Reading { meter: meter.id, feed });
        }
    }

    fn by_type(&self, event: Item<'_, '_>) -> SmallVec<[MeterId; 4]> {
        event.member("type").and_then(text).map_or(&[][..], |name| self.meters.by_event_type(name)).into()
    }

    fn by_name(&self, event: Item<'_, '_>) -> SmallVec<[MeterId; 4]> {
        let Some(name) = event.member("meter").and_then(text) else { return SmallVec::new() };
        let own = self.meters.by_slug(name).map(|meter| meter.id);
        let filled = self.fills.iter().filter(|(from, _)| from == name).map(|(_, meter)| *meter);
        own.into_iter().chain(filled).collect()
    }

    fn priced(
        &self,
        event: Item<'_, '_>,
        meter: &Meter,
        is_cloudevent: bool,
    ) -> Result<(Value, Vec<Option<String>>), Rejection> {
        let given = |name| event.member(name).filter(|item| !item.is_null());
        let source = if is_cloudevent {
            Source { data: given("data"), root: "/data", quantity: None, is_native: false }
        } else {
            let quantity = given("quantity").map(|item| rejection::quantity("/quantity", item)).transpose()?;
            Source { data: given("dimensions"), root: "/dimensions", quantity, is_native: true }
        };
        let value = source.value(&meter.definition, &Members(self))?;
        let mut dimensions = Dimensions::new();
        source.dimensions(&meter.definition, &mut dimensions)?;
        Ok((value, dimensions.into_iter().map(|value| value.map(std::borrow::Cow::into_owned)).collect()))
    }
}

fn text<'t>(item: Item<'t, '_>) -> Option<&'t str> {
    if let Json::Text(text) = item.value() { Some(text) } else { None }
}

/// Hashes members; takes no events.
struct Members<'a>(&'a Again);

impl Sink for Members<'_> {
    fn meters(&self) -> Arc<Meters> {
        self.0.meters.clone()
    }

    fn hasher(&self) -> Hasher {
        self.0.hasher
    }

    fn received_at(&self) -> Timestamp {
        Timestamp::MIN
    }

    fn member(&self, text: &str) -> Value {
        Value::Member(self.0.hasher.hash128(text.as_bytes()))
    }

    fn reserve(&mut self, _events: usize, _bytes: usize) {}

    fn push(&mut self, _event: &NewEvent<'_>) {}

    fn reject(&mut self, _code: Code, _detail: Box<str>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ingest::reader::tests::meters;

    fn read(event: &str, fills: &[(&str, u16)]) -> Vec<(String, Result<String, String>)> {
        let meters = meters();
        let fills = fills.iter().map(|(from, to)| ((*from).to_owned(), MeterId(*to))).collect();
        let again = Again { meters: meters.clone(), hasher: Hasher::new(b"0123456789abcdef"), fills };
        let slug = |meter| meters.get(meter).unwrap().definition.slug.clone();
        let shown = |(value, dimensions): (Value, Vec<Option<String>>)| match value {
            Value::Quantity(quantity) => format!("{quantity} {dimensions:?}"),
            Value::Member(_) => format!("member {dimensions:?}"),
        };
        again.read(event).into_iter().map(|reading| (slug(reading.meter), reading.feed.map(shown))).collect()
    }

    #[test]
    fn a_native_event_feeds_the_meter_it_names_and_what_is_filled_from_that() {
        let event = r#"{"usage_event_id":"e","customer":"c","meter":"tokens","quantity":1.50,"reservation":"r"}"#;
        let own = read(event, &[]);
        assert_eq!(own.len(), 1, "{own:?}");
        assert!(own[0].0 == "tokens" && own[0].1.as_ref().unwrap().starts_with("1.5 "), "{own:?}");
        let other = r#"{"customer":"c","meter":"gone","quantity":"2"}"#;
        assert_eq!(read(other, &[]), []);
        assert_eq!(read(other, &[("gone", 0)]).len(), 1, "an id is not needed: it is known");
        assert_eq!(read("{", &[]), []);
    }

    #[test]
    fn every_meter_of_a_type_reads_a_cloudevent_for_itself() {
        let event = r#"{"specversion":"1.0","type":"llm","data":{"usage":{"tokens":7},"model":"m"}}"#;
        let value = |text: &str| Ok(text.to_owned());
        let both =
            [("tokens".to_owned(), value(r#"7 [Some("m")]"#)), ("requests".to_owned(), value(r#"1 [Some("m")]"#))];
        assert_eq!(read(event, &[]), both);
        let without = read(r#"{"specversion":"1.0","type":"llm","data":null}"#, &[]);
        assert!(without[0].1.is_err(), "no tokens: {without:?}");
        assert_eq!(without[1], ("requests".to_owned(), value("1 [None]")), "which does not keep it from being counted");
        assert_eq!(read(r#"{"specversion":"1.0","type":"other"}"#, &[("llm", 0)]), []);
    }
}
