//! meterd's own event: `{"usage_event_id","customer","meter","quantity"?,"timestamp"?,"dimensions"?,"source"?}`.
//!
//! A member with another name is refused, not ignored: a misspelt `quantity` would silently count as 1.

use crate::http::ingest::fingerprint::Fingerprinter;
use crate::http::ingest::json::Item;
use crate::http::ingest::rejection::{self, Named, Rejection};
use crate::model::{Quantity, Timestamp};

pub const ID: &str = "usage_event_id";
const NAMES: [&str; 7] = [ID, "customer", "meter", "quantity", "timestamp", "dimensions", "source"];
/// The most edits (Damerau-Levenshtein) between a name and the one it was probably meant to be.
const TYPO_EDITS_MAX: usize = 3;

/// A native event whose fields are valid, each by itself.
pub struct NativeEvent<'t, 'a> {
    pub usage_event_id: &'t str,
    pub source: &'t str,
    pub customer: &'t str,
    pub meter: &'t str,
    pub quantity: Option<Quantity>,
    pub timestamp: Option<Timestamp>,
    pub dimensions: Option<Item<'t, 'a>>,
}

impl<'t, 'a> NativeEvent<'t, 'a> {
    pub fn read(event: Item<'t, 'a>) -> Result<Self, Rejection> {
        let mut members = [None; NAMES.len()];
        for member in event.children() {
            let slot = match member.key().as_ref() {
                "usage_event_id" => 0,
                "customer" => 1,
                "meter" => 2,
                "quantity" => 3,
                "timestamp" => 4,
                "dimensions" => 5,
                "source" => 6,
                other => return Err(unknown_member(other)),
            };
            members[slot] = Some(member);
        }
        let [usage_event_id, customer, meter, quantity, timestamp, dimensions, source] = members;
        Ok(Self {
            usage_event_id: rejection::required_name("/usage_event_id", usage_event_id)?,
            customer: rejection::required_name("/customer", customer)?,
            meter: rejection::required_name("/meter", meter)?,
            quantity: quantity.map(|item| rejection::quantity("/quantity", item)).transpose()?,
            timestamp: timestamp.map(|item| rejection::timestamp("/timestamp", item)).transpose()?,
            dimensions: dimensions.map(object).transpose()?,
            source: rejection::optional_name("/source", source)?,
        })
    }

    /// Everything but the id and the source, which are the dedupe key.
    pub fn fingerprint(&self, out: &mut Fingerprinter) {
        out.text("customer", self.customer);
        out.text("meter", self.meter);
        if let Some(quantity) = self.quantity {
            out.quantity("quantity", quantity);
        }
        if let Some(timestamp) = self.timestamp {
            out.instant("timestamp", timestamp);
        }
        if let Some(dimensions) = self.dimensions {
            out.item("dimensions", dimensions);
        }
    }
}

fn object<'t, 'a>(item: Item<'t, 'a>) -> Result<Item<'t, 'a>, Rejection> {
    if item.is_object() { Ok(item) } else { Err(Rejection::invalid("/dimensions", "must be an object")) }
}

#[cold]
fn unknown_member(name: &str) -> Rejection {
    let meant = match name {
        "id" | "event_id" => Some(ID),
        "subject" => Some("customer"),
        "type" => Some("meter"),
        "time" => Some("timestamp"),
        "value" => Some("quantity"),
        "data" => Some("dimensions"),
        name if name.len() > 32 => None,
        name => NAMES
            .into_iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), known))
            .filter(|(edits, known)| *edits <= TYPO_EDITS_MAX && *edits * 2 < known.len())
            .min()
            .map(|(_, known)| known),
    };
    match meant {
        Some(known) => {
            Rejection::invalid(Named(name), format_args!("is not a field of an event; did you mean {known:?}?"))
        }
        None => Rejection::invalid(Named(name), "is not a field of an event"),
    }
}
