//! Generated events: each is a function of a seed and its number, so that none has to be remembered.
//!
//! 1. Event `n` of a workload has the same bytes whenever it is written: sent twice, it is a duplicate.
//! 2. Ids are 128 mixed bits in the shape of a UUID: random to the daemon, distinct for distinct numbers.
//! 3. Quantities are decimals with two places. Expected totals are summed in hundredths: exact, and no floats.
//! 4. Writing an event is copying its template and patching five fields of fixed width, because the generator of a
//!    benchmark shares the machine with the daemon.

use crate::model::{Quantity, Timestamp};

const ID_BYTES: usize = 36;
pub const CUSTOMER_BYTES: usize = 9;
const QUANTITY_BYTES: usize = 6;
const TIME_BYTES: usize = 24;
/// Events are spread over this many seconds before the workload's time.
const SECONDS: u64 = 60;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Hundredths: 100.00 to 999.99, always six characters.
const CENTS_MIN: u64 = 10_000;
const CENTS_RANGE: u64 = 90_000;

/// A meter that events are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterSpec {
    pub slug: String,
    pub kind: Kind,
    /// Names whose values an event gives in `dimensions`.
    pub dimensions: Vec<String>,
}

/// The aggregations whose totals are predicted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Count,
    Sum,
}

/// What an event is about; all of it follows from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Index into the workload's meters.
    pub meter: usize,
    /// Number of the customer, from 0.
    pub customer: u64,
    /// Hundredths.
    pub cents: u64,
}

/// An endless supply of events.
pub struct Workload {
    seed: u64,
    meters: Vec<MeterSpec>,
    customers: u64,
    templates: Vec<Template>,
    /// `2026-11-22T16:30:16.` for each of [`SECONDS`] seconds.
    seconds: Vec<String>,
}

/// An event's bytes with the places of the fields that differ.
struct Template {
    meter: usize,
    bytes: Vec<u8>,
    id_at: usize,
    customer_at: usize,
    quantity_at: usize,
    /// None: the event has no timestamp, it happens when it is received.
    time_at: Option<usize>,
}

/// When a workload's events happen.
#[derive(Clone, Copy, Debug)]
pub enum Times {
    /// In the minute before this.
    Before(Timestamp),
    /// When they are received.
    AtReceipt,
}

impl Workload {
    /// `event_bytes` is the length to pad events to; those that need more are longer.
    pub fn new(seed: u64, meters: Vec<MeterSpec>, customers: u64, event_bytes: usize, times: Times) -> Self {
        assert!(!meters.is_empty() && customers > 0, "a workload has meters and customers");
        let timed = matches!(times, Times::Before(_));
        let meter = |(n, spec)| templates(n, spec, event_bytes, timed);
        let templates = meters.iter().enumerate().flat_map(meter).collect();
        let seconds = match times {
            Times::AtReceipt => Vec::new(),
            Times::Before(now) => {
                let first = now.millis() / 1_000 - SECONDS.cast_signed();
                (0..SECONDS.cast_signed()).map(|n| second_prefix(first + n)).collect()
            }
        };
        Self { seed, meters, customers, templates, seconds }
    }

    pub fn meters(&self) -> &[MeterSpec] {
        &self.meters
    }

    pub fn customers(&self) -> u64 {
        self.customers
    }

    pub fn event(&self, number: u64) -> Event {
        let (template, customer, cents, _) = self.facts(number);
        Event { meter: template.meter, customer, cents }
    }

    /// The name under which a customer's usage is sent.
    pub fn customer_name(customer: u64) -> String {
        let mut name = vec![0; CUSTOMER_BYTES];
        write_customer(customer, &mut name);
        name.into_iter().map(char::from).collect()
    }

    /// Appends event `number` as one JSON object.
    pub fn write(&self, number: u64, out: &mut Vec<u8>) {
        let (template, customer, cents, mixed) = self.facts(number);
        self.patch(template, number, customer, cents, mixed, out);
    }

    /// Appends an event with the id of `number` and another quantity.
    pub fn write_conflict(&self, number: u64, out: &mut Vec<u8>) {
        let (template, customer, cents, mixed) = self.facts(number);
        let other = CENTS_MIN + (cents + 1 - CENTS_MIN) % CENTS_RANGE;
        self.patch(template, number, customer, other, mixed, out);
    }

    fn facts(&self, number: u64) -> (&Template, u64, u64, u64) {
        let mixed = mix(self.seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let template = &self.templates[below(mixed << 32, self.templates.len() as u64) as usize];
        let customer = below(mix(mixed), self.customers);
        let cents = CENTS_MIN + below(mixed, CENTS_RANGE);
        (template, customer, cents, mixed)
    }

    fn patch(&self, template: &Template, number: u64, customer: u64, cents: u64, mixed: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&template.bytes);
        let event = &mut out[start..];
        write_id(self.seed, number, &mut event[template.id_at..][..ID_BYTES]);
        write_customer(customer, &mut event[template.customer_at..][..CUSTOMER_BYTES]);
        let quantity = &mut event[template.quantity_at..][..QUANTITY_BYTES];
        write_digits(cents / 100, &mut quantity[..3]);
        write_digits(cents % 100, &mut quantity[4..]);
        let Some(time_at) = template.time_at else { return };
        let time = &mut event[time_at..][..TIME_BYTES];
        time[..20].copy_from_slice(self.seconds[(mixed % SECONDS) as usize].as_bytes());
        write_digits((mixed >> 8) % 1_000, &mut time[20..23]);
    }
}

/// Two for each meter that has dimensions, which differ in their values, else one.
fn templates(meter: usize, spec: &MeterSpec, event_bytes: usize, timed: bool) -> Vec<Template> {
    let values: &[&str] = if spec.dimensions.is_empty() { &[""] } else { &["small", "large"] };
    values.iter().map(|value| template(meter, spec, value, (event_bytes, timed))).collect()
}

fn template(meter: usize, spec: &MeterSpec, value: &str, (event_bytes, timed): (usize, bool)) -> Template {
    let mut text = String::from("{\"usage_event_id\":\"");
    let field = |text: &mut String, fill: &str, width: usize| {
        let at = text.len();
        text.extend(std::iter::repeat_n(fill, width));
        at
    };
    let id_at = field(&mut text, "0", ID_BYTES);
    text.push_str("\",\"customer\":\"");
    let customer_at = field(&mut text, "0", CUSTOMER_BYTES);
    text.push_str(&format!("\",\"meter\":{},\"quantity\":", json_string(&spec.slug)));
    let quantity_at = field(&mut text, "0", QUANTITY_BYTES);
    text.replace_range(quantity_at + 3..quantity_at + 4, ".");
    let time_at = timed.then(|| {
        text.push_str(",\"timestamp\":\"");
        let at = field(&mut text, "Z", TIME_BYTES);
        text.push('"');
        at
    });
    text.push_str(",\"dimensions\":{");
    for name in &spec.dimensions {
        text.push_str(&format!("{}:{},", json_string(name), json_string(value)));
    }
    text.push_str("\"note\":\"");
    let padding = event_bytes.saturating_sub(text.len() + "\"}}".len());
    field(&mut text, "x", padding);
    text.push_str("\"}}");
    Template { meter, bytes: text.into_bytes(), id_at, customer_at, quantity_at, time_at }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn second_prefix(unix_seconds: i64) -> String {
    let at = Timestamp::from_millis(unix_seconds * 1_000).unwrap_or(Timestamp::EPOCH);
    at.to_jiff().strftime("%Y-%m-%dT%H:%M:%S.").to_string()
}

/// splitmix64: a bijection, so that distinct numbers stay distinct.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps 64 random bits to `0..bound`.
fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

fn write_id(seed: u64, number: u64, out: &mut [u8]) {
    let (high, low) = (mix(number ^ mix(seed)), mix(seed.wrapping_add(mix(number))));
    let bits = (u128::from(high) << 64) | u128::from(low);
    let mut shift = 128;
    for (at, byte) in out.iter_mut().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            *byte = b'-';
            continue;
        }
        shift -= 4;
        *byte = HEX[(bits >> shift) as usize & 15];
    }
}

/// `out` has as many bytes as [`Workload::customer_name`].
pub fn write_customer(customer: u64, out: &mut [u8]) {
    out[0] = b'c';
    write_digits(customer, &mut out[1..]);
}

/// Decimal digits, right-aligned and padded with zeros; what does not fit is cut off at the left.
fn write_digits(mut value: u64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// What the totals must be: per meter and customer, counted and summed as events are added.
#[derive(Clone)]
pub struct Expected {
    customers: usize,
    /// Hundredths or counts, by meter, then customer.
    totals: Vec<u64>,
    events: Vec<u64>,
}

impl Expected {
    pub fn new(workload: &Workload) -> Self {
        let customers = workload.customers as usize;
        let slots = customers * workload.meters.len();
        Self { customers, totals: vec![0; slots], events: vec![0; slots] }
    }

    pub fn add(&mut self, workload: &Workload, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let event = workload.event(number);
            let slot = event.meter * self.customers + event.customer as usize;
            self.totals[slot] += event.cents;
            self.events[slot] += 1;
        }
    }

    /// The total of one customer, as the meter would show it; none if the customer has no event there.
    pub fn total(&self, workload: &Workload, meter: usize, customer: u64) -> Option<Quantity> {
        let slot = meter * self.customers + customer as usize;
        let hundredths = match workload.meters[meter].kind {
            Kind::Count => self.events[slot] * 100,
            Kind::Sum => self.totals[slot],
        };
        let scaled = i128::from(hundredths) * (Quantity::ONE.scaled() / 100);
        (self.events[slot] > 0).then(|| Quantity::from_scaled(scaled))
    }

    /// Events and total of a whole meter.
    pub fn meter(&self, workload: &Workload, meter: usize) -> (u64, Quantity) {
        let slots = meter * self.customers..(meter + 1) * self.customers;
        let events = self.events[slots.clone()].iter().sum();
        let hundredths: u64 = match workload.meters[meter].kind {
            Kind::Count => events * 100,
            Kind::Sum => self.totals[slots].iter().sum(),
        };
        (events, Quantity::from_scaled(i128::from(hundredths) * (Quantity::ONE.scaled() / 100)))
    }
}

#[cfg(test)]
mod tests;
