//! A readable body to a batch: every event is validated, priced to its meters, fingerprinted and handed to the builder.
//!
//! 1. Each event of the body takes one place in the batch, in order, whether it is taken or rejected.
//! 2. If the body turns out to be unreadable, the builder is dropped and nothing was taken.
//! 3. An event without escapes costs no allocation here.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::{NewEvent, NewFeed};
use crate::http::ingest::cloudevent::{self, CloudEvent};
use crate::http::ingest::derive;
use crate::http::ingest::feed::{Dimensions, Source};
use crate::http::ingest::fingerprint::Fingerprinter;
use crate::http::ingest::framing::{self, Form, FramingError};
use crate::http::ingest::ids::Ids;
use crate::http::ingest::json::Item;
use crate::http::ingest::native::{self, NativeEvent};
use crate::http::ingest::rejection::Rejection;
use crate::http::ingest::sink::Sink;
use crate::meter::{Meter, Meters, Value};
use crate::model::{Code, MeterId};

/// What a request may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub events_max: usize,
    /// Reject events that do not say when they happened.
    pub require_timestamp: bool,
}

/// An event's bytes in a body of many, roughly: what the builder makes room for at once.
const EVENT_BYTES_TYPICAL: usize = 192;

/// Reads every event of `body` into the builder. Returns where their ids lie, for the answer.
pub fn read<S: Sink>(body: &str, form: Form, limits: Limits, builder: &mut S) -> Result<Ids, FramingError> {
    let events_expected = (body.len() / EVENT_BYTES_TYPICAL).min(limits.events_max);
    builder.reserve(events_expected, body.len());
    let mut reader = Reader {
        form,
        limits,
        meters: builder.meters(),
        fingerprinter: Fingerprinter::new(builder.hasher()),
        ids: Ids::with_capacity(events_expected),
        builder,
    };
    framing::read(form, body, limits.events_max, |raw, event| reader.take(body, raw, event))?;
    Ok(reader.ids)
}

struct Reader<'b, S> {
    form: Form,
    limits: Limits,
    meters: Arc<Meters>,
    fingerprinter: Fingerprinter,
    ids: Ids,
    builder: &'b mut S,
}

impl<S: Sink> Reader<'_, S> {
    fn take<'a>(&mut self, body: &'a str, raw: &'a str, event: Item<'_, 'a>) {
        let id_name = if self.form.is_native() { native::ID } else { cloudevent::ID };
        self.ids.push(body, event.member(id_name));
        let taken = match self.form {
            _ if !event.is_object() => Err(Rejection::new(Code::InvalidField, "an event must be a JSON object")),
            Form::Json | Form::Lines => self.native(raw, event),
            Form::CloudEvent | Form::CloudEvents => self.cloudevent(raw, event),
        };
        if let Err(Rejection { code, detail }) = taken {
            self.fingerprinter.clear();
            self.builder.reject(code, detail);
        }
    }

    fn native<'a>(&mut self, raw: &'a str, event: Item<'_, 'a>) -> Result<(), Rejection> {
        let Self { meters, builder, fingerprinter, ids, .. } = self;
        let native = NativeEvent::read(event, meters)?;
        if native.id.is_derived() && !builder.derives_ids() {
            return Err(Rejection::missing("/usage_event_id"));
        }
        let meter = meters
            .by_slug(native.meter)
            .filter(|meter| !meter.retired)
            .ok_or_else(|| unknown("/meter", native.meter))?;
        if self.limits.require_timestamp && native.timestamp.is_none() {
            return Err(Rejection::missing("/timestamp"));
        }
        let source =
            Source { data: native.dimensions, root: "/dimensions", quantity: native.quantity, is_native: true };
        let mut dimensions = Dimensions::new();
        let value = priced(source, meter, &**builder, &mut dimensions)?;
        native.fingerprint(fingerprinter);
        let at = || native.timestamp.unwrap_or(builder.received_at());
        let id = native.id.text(ids, |bucket| derive::id(fingerprinter, native.names(), at(), bucket));
        builder.push(&NewEvent {
            usage_event_id: id,
            source: native.source,
            customer: native.customer,
            timestamp: native.timestamp,
            fingerprint: fingerprinter.finish(),
            raw: raw.as_bytes(),
            feeds: &[NewFeed { meter: meter.id, value, dimensions: &dimensions }],
        });
        Ok(())
    }

    fn cloudevent<'a>(&mut self, raw: &'a str, event: Item<'_, 'a>) -> Result<(), Rejection> {
        let Self { meters, builder, fingerprinter, ids, .. } = self;
        let cloudevent = CloudEvent::read(event, meters)?;
        let fed = meters.by_event_type(cloudevent.event_type);
        if fed.is_empty() {
            return Err(unknown("/type", cloudevent.event_type));
        }
        if self.limits.require_timestamp && cloudevent.time.is_none() {
            return Err(Rejection::missing("/time"));
        }
        let source = Source { data: cloudevent.data, root: "/data", quantity: None, is_native: false };
        let mut dimensions = Dimensions::new();
        let mut values: SmallVec<[(MeterId, Value, usize); 4]> = SmallVec::new();
        for meter in fed.iter().filter_map(|id| meters.get(*id)) {
            let value = priced(source, meter, &**builder, &mut dimensions)?;
            values.push((meter.id, value, meter.definition.dimensions.len()));
        }
        let mut rest = dimensions.as_slice();
        let feeds: SmallVec<[NewFeed<'_>; 4]> = values
            .into_iter()
            .map(|(meter, value, count)| {
                let dimensions;
                (dimensions, rest) = rest.split_at(count);
                NewFeed { meter, value, dimensions }
            })
            .collect();
        cloudevent.fingerprint(fingerprinter);
        let at = || cloudevent.time.unwrap_or(builder.received_at());
        let id = cloudevent.id.text(ids, |bucket| derive::id(fingerprinter, cloudevent.names(), at(), bucket));
        builder.push(&NewEvent {
            usage_event_id: id,
            source: cloudevent.source,
            customer: cloudevent.subject,
            timestamp: cloudevent.time,
            fingerprint: fingerprinter.finish(),
            raw: raw.as_bytes(),
            feeds: &feeds,
        });
        Ok(())
    }
}

/// The event's value for a meter; its dimension values go to the end of `dimensions`.
fn priced<'a, S: Sink>(
    source: Source<'_, 'a>,
    meter: &Meter,
    builder: &S,
    dimensions: &mut Dimensions<'a>,
) -> Result<Value, Rejection> {
    let value = source.value(&meter.definition, builder)?;
    source.dimensions(&meter.definition, dimensions)?;
    Ok(value)
}

#[cold]
fn unknown(field: &str, name: &str) -> Rejection {
    Rejection::new(Code::UnknownMeter, format_args!("{field} {name:?} feeds no meter"))
}

#[cfg(test)]
pub mod tests;
