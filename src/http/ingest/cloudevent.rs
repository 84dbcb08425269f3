//! CloudEvents 1.0.2 in JSON: `id, source, specversion, type, subject` required, `time, data` and extensions optional.
//! An `id` may be missing if all meters of the `type` allow it.
//!
//! Optional attributes may be null, which is the same as leaving them out.

use crate::http::ingest::derive::{self, EventId};
use crate::http::ingest::fingerprint::Fingerprinter;
use crate::http::ingest::json::{Item, Value};
use crate::http::ingest::rejection::{self, Rejection};
use crate::meter::Meters;
use crate::model::Timestamp;

pub const ID: &str = "id";

/// A CloudEvent whose attributes are valid, each by itself.
pub struct CloudEvent<'t, 'a> {
    pub id: EventId<'t>,
    pub source: &'t str,
    pub event_type: &'t str,
    pub subject: &'t str,
    pub time: Option<Timestamp>,
    pub data: Option<Item<'t, 'a>>,
    event: Item<'t, 'a>,
}

impl<'t, 'a> CloudEvent<'t, 'a> {
    pub fn read(event: Item<'t, 'a>, meters: &Meters) -> Result<Self, Rejection> {
        let mut attributes = [None; 7];
        for member in event.children().filter(|member| !member.is_null()) {
            let slot = match member.key().as_ref() {
                "id" => 0,
                "source" => 1,
                "specversion" => 2,
                "type" => 3,
                "subject" => 4,
                "time" => 5,
                "data" => 6,
                "data_base64" => return Err(Rejection::invalid("/data_base64", "is not supported: send data as JSON")),
                _ => continue,
            };
            attributes[slot] = Some(member);
        }
        let [id, source, specversion, event_type, subject, time, data] = attributes;
        if rejection::required_name("/specversion", specversion)? != "1.0" {
            return Err(Rejection::invalid("/specversion", "must be \"1.0\""));
        }
        Ok(Self {
            id: match rejection::name_if_any("/id", id)? {
                Some(id) => EventId::Given(id),
                None => EventId::Derived(derive::cloudevent_bucket(event_type, meters)?),
            },
            source: rejection::required_name("/source", source)?,
            event_type: rejection::required_name("/type", event_type)?,
            subject: rejection::required_name("/subject", subject)?,
            time: time.map(|item| rejection::timestamp("/time", item)).transpose()?,
            data: data.map(object).transpose()?,
            event,
        })
    }

    /// Everything but the key (id and source), nulls, and trace headers, which differ between retries by nature; without
    /// the time if that is part of the id.
    pub fn fingerprint(&self, out: &mut Fingerprinter) {
        for member in self.event.children() {
            match (member.key().as_ref(), member.value()) {
                ("id" | "source" | "specversion" | "traceparent" | "tracestate", _) | (_, Value::Null) => {}
                ("time", _) if self.id.is_derived() => {}
                ("time", _) => self.time.iter().for_each(|time| out.instant("time", *time)),
                (name, _) => out.item(name, member),
            }
        }
    }

    /// What a derived id is made of, beside its members.
    pub fn names(&self) -> [&'t str; 3] {
        [self.source, self.subject, self.event_type]
    }
}

fn object<'t, 'a>(item: Item<'t, 'a>) -> Result<Item<'t, 'a>, Rejection> {
    if item.is_object() { Ok(item) } else { Err(Rejection::invalid("/data", "must be an object")) }
}
