//! meterd's own event: `{"usage_event_id","customer","meter","quantity"?,"timestamp"?,"dimensions"?,"source"?}`.
//! The id may be missing if the meter allows it.
//!
//! A member whose name looks like a slip for one of these is refused: a misspelt `quantity` would silently count as 1.
//! Any other member is carried along in the raw event, as evidence, and belongs to its fingerprint.

use crate::http::ingest::derive::{self, EventId};
use crate::http::ingest::fingerprint::Fingerprinter;
use crate::http::ingest::json::Item;
use crate::http::ingest::rejection::{self, Named, Rejection};
use crate::meter::Meters;
use crate::model::{Quantity, Timestamp};

pub const ID: &str = "usage_event_id";
pub const NAMES: [&str; 7] = [ID, "customer", "meter", "quantity", "timestamp", "dimensions", "source"];
/// The most edits (Damerau-Levenshtein) between a name and the one it was probably meant to be.
const TYPO_EDITS_MAX: usize = 3;

/// A native event whose fields are valid, each by itself.
pub struct NativeEvent<'t, 'a> {
    pub id: EventId<'t>,
    pub source: &'t str,
    pub customer: &'t str,
    pub meter: &'t str,
    pub quantity: Option<Quantity>,
    pub timestamp: Option<Timestamp>,
    pub dimensions: Option<Item<'t, 'a>>,
    /// The whole event, if it has members of other names.
    carried: Option<Item<'t, 'a>>,
}

impl<'t, 'a> NativeEvent<'t, 'a> {
    pub fn read(event: Item<'t, 'a>, meters: &Meters) -> Result<Self, Rejection> {
        let mut members = [None; NAMES.len()];
        let mut carried = None;
        for member in event.children() {
            let slot = match member.key().as_ref() {
                "usage_event_id" => 0,
                "customer" => 1,
                "meter" => 2,
                "quantity" => 3,
                "timestamp" => 4,
                "dimensions" => 5,
                "source" => 6,
                other => {
                    refuse_slip(other)?;
                    carried = Some(event);
                    continue;
                }
            };
            members[slot] = Some(member);
        }
        let [usage_event_id, customer, meter, quantity, timestamp, dimensions, source] = members;
        Ok(Self {
            id: match rejection::name_if_any("/usage_event_id", usage_event_id)? {
                Some(id) => EventId::Given(id),
                None => EventId::Derived(derive::native_bucket(meter, meters)?),
            },
            customer: rejection::required_name("/customer", customer)?,
            meter: rejection::required_name("/meter", meter)?,
            quantity: quantity.map(|item| rejection::quantity("/quantity", item)).transpose()?,
            timestamp: timestamp.map(|item| rejection::timestamp("/timestamp", item)).transpose()?,
            dimensions: dimensions.map(object).transpose()?,
            source: rejection::optional_name("/source", source)?,
            carried,
        })
    }

    /// Everything but the id and the source, which are the dedupe key; without the time if that is part of the id.
    pub fn fingerprint(&self, out: &mut Fingerprinter) {
        out.text("customer", self.customer);
        out.text("meter", self.meter);
        if let Some(quantity) = self.quantity {
            out.quantity("quantity", quantity);
        }
        if let (false, Some(timestamp)) = (self.id.is_derived(), self.timestamp) {
            out.instant("timestamp", timestamp);
        }
        if let Some(dimensions) = self.dimensions {
            out.item("dimensions", dimensions);
        }
        let members = self.carried.into_iter().flat_map(|event| event.children());
        for member in members.filter(|member| !NAMES.contains(&member.key().as_ref())) {
            out.item(member.key(), member);
        }
    }

    /// What a derived id is made of, beside its members.
    pub fn names(&self) -> [&'t str; 3] {
        [self.source, self.customer, self.meter]
    }
}

fn object<'t, 'a>(item: Item<'t, 'a>) -> Result<Item<'t, 'a>, Rejection> {
    if item.is_object() { Ok(item) } else { Err(Rejection::invalid("/dimensions", "must be an object")) }
}

/// Refuses a name that was probably meant to be one of ours: by a typing error, or as other APIs call it.
#[cold]
fn refuse_slip(name: &str) -> Result<(), Rejection> {
    let meant = match name {
        "id" | "event_id" => Some(ID),
        "subject" | "customer_id" => Some("customer"),
        "type" | "event_type" => Some("meter"),
        "time" | "ts" => Some("timestamp"),
        "value" | "amount" | "qty" | "units" => Some("quantity"),
        "data" | "properties" => Some("dimensions"),
        name if name.len() > 32 => None,
        name => NAMES
            .into_iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), known))
            .filter(|(edits, known)| *edits <= TYPO_EDITS_MAX && *edits * 2 < known.len())
            .min()
            .map(|(_, known)| known),
    };
    let rejection =
        |known| Rejection::invalid(Named(name), format_args!("is not a field of an event; did you mean {known:?}?"));
    meant.map_or(Ok(()), |known| Err(rejection(known)))
}
