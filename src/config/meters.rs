//! `[[meter]]`: definitions from the file.

use std::collections::HashMap;

use toml::de::DeTable;

use super::Billing;
use super::item::{Item, Refusal};
use super::reader::{self, Errors, Key};
use super::report::ConfigError;
use super::source::Source;
use super::suggest;
use crate::meter::definition::{DIMENSIONS_MAX, UNIQUE_MEMBERS_DEFAULT, UNIQUE_MEMBERS_MAX};
use crate::meter::meters::METERS_PER_EVENT_TYPE_MAX;
use crate::meter::{Aggregation, Definition, Late, Path, WindowLength, Zone};
use crate::model::Duration;
use crate::model::id::NAME_BYTES_MAX;

/// The table's name.
pub const TABLE: &str = "meter";
/// Meters in one file.
pub const METERS_MAX: usize = 10_000;
const SLUG_BYTES_MAX: usize = 63;
/// Names that mean the customer in `group_by`.
const RESERVED_DIMENSIONS: [&str; 2] = ["customer", "subject"];

/// Every key of a meter.
pub const KEYS: [Key<Definition>; 13] = [
    Key { name: "slug", read: |m, i, e| e.set(&mut m.slug, i, slug(i)) },
    Key { name: "event_type", read: |m, i, e| e.set(&mut m.event_type, i, event_type(i)) },
    Key { name: "aggregation", read: |m, i, e| e.set(&mut m.aggregation, i, aggregation(i)) },
    Key { name: "value", read: |m, i, e| e.set(&mut m.value, i, path(i).map(Some)) },
    Key { name: "dimensions", read: dimensions },
    Key { name: "window", read: |m, i, e| e.set(&mut m.window, i, window(i)) },
    Key { name: "time_zone", read: |m, i, e| e.set(&mut m.time_zone, i, time_zone(i)) },
    Key { name: "grace", read: |m, i, e| e.set(&mut m.grace, i, i.duration("1ms", "366d")) },
    Key {
        name: "late",
        read: |m, i, e| e.set(&mut m.late, i, i.choice(&[("adjust", Late::Adjust), ("reject", Late::Reject)])),
    },
    Key { name: "allow_negative", read: |m, i, e| e.set(&mut m.allow_negative, i, i.boolean()) },
    Key {
        name: "unique_members_max",
        read: |m, i, e| e.set(&mut m.unique_members_max, i, i.integer(1..=UNIQUE_MEMBERS_MAX)),
    },
    Key { name: "approximate", read: |m, i, e| e.set(&mut m.approximate, i, i.boolean()) },
    Key { name: "derive_id", read: |m, i, e| e.set(&mut m.derive_id, i, i.duration("1s", "1d").map(Some)) },
];

/// What a meter is where the file says nothing.
fn default_definition(billing: &Billing) -> Definition {
    Definition {
        slug: String::new(),
        event_type: String::new(),
        aggregation: Aggregation::Sum,
        value: None,
        dimensions: Vec::new(),
        window: "1h".parse().expect("1h divides a day"),
        time_zone: "UTC".to_owned(),
        grace: Duration::from_secs(3_600),
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: UNIQUE_MEMBERS_DEFAULT,
        approximate: false,
        billing_period: billing.period,
        billing_time_zone: billing.time_zone.clone(),
        derive_id: None,
    }
}

/// Reads every `[[meter]]`, in file order. Each of them is billed as `[billing]` says.
pub fn walk(root: &DeTable<'_>, source: &Source, billing: &Billing, errors: &mut Errors) -> Vec<Definition> {
    let mut meters: Vec<Definition> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (item, keys) in reader::tables(root, TABLE, METERS_MAX, errors) {
        let meter = read_meter(keys, &item, billing, errors);
        let span = reader::entry(keys, "slug").map_or(item.span.clone(), |(_, slug)| slug.span());
        if let Some(first) = seen.get(&meter.slug) {
            let line = source.position(*first).line;
            let message = format!("slug \"{}\" is taken by the meter on line {line}", meter.slug);
            errors.push(
                ConfigError::at(span, format!("{}.slug", item.key), message).with_help("each meter needs its own"),
            );
        } else if !meter.slug.is_empty() {
            seen.insert(meter.slug.clone(), span.start);
        }
        check_feeders(&meters, &meter, &item, errors);
        meters.push(meter);
    }
    meters
}

/// One event can feed only so many meters.
fn check_feeders(before: &[Definition], meter: &Definition, item: &Item<'_>, errors: &mut Errors) {
    let feeders = before.iter().filter(|other| other.event_type == meter.event_type).count();
    if feeders == METERS_PER_EVENT_TYPE_MAX {
        let message = format!("more than {METERS_PER_EVENT_TYPE_MAX} meters want event type \"{}\"", meter.event_type);
        errors.push(ConfigError::at(item.span.clone(), format!("{}.event_type", item.key), message));
    }
}

fn read_meter(table: &DeTable<'_>, item: &Item<'_>, billing: &Billing, errors: &mut Errors) -> Definition {
    let mut meter = default_definition(billing);
    reader::walk(table, &item.key, "[[meter]]", &KEYS, &mut meter, errors);
    let full = |name: &str| format!("{}.{name}", item.key);
    if reader::entry(table, "slug").is_none() && !errors.keys_lost() {
        let error = ConfigError::at(item.span.clone(), full("slug"), "this meter has no slug");
        errors.push(error.with_help("slug = \"…\" names it in the API; it is the one key without a default"));
    }
    if reader::entry(table, "event_type").is_none() {
        meter.event_type.clone_from(&meter.slug);
    }
    if !errors.spoilt(&[&full("aggregation")]) {
        check_keys_fit(table, &meter, item, errors);
    }
    let readable = KEYS.iter().all(|key| !errors.spoilt(&[&full(key.name)]));
    if let (true, Err(error)) = (readable, meter.validate()) {
        errors.push(ConfigError::at(item.span.clone(), item.key.clone(), error.to_string()));
    }
    meter
}

/// A key that the aggregation would never look at is a mistake, as is a unique meter without a value.
fn check_keys_fit(table: &DeTable<'_>, meter: &Definition, item: &Item<'_>, errors: &mut Errors) {
    let aggregation = meter.aggregation;
    let (counts, unique) = (aggregation == Aggregation::Count, aggregation == Aggregation::Unique);
    let misfits = [
        ("value", counts, "a count meter counts events and never looks at a value", "leave it out, or use \"sum\""),
        ("allow_negative", counts || unique, "only meters of quantities can be negative", "leave it out"),
        ("unique_members_max", !unique, "only unique meters have members", "leave it out, or use \"unique\""),
        ("approximate", !unique, "only unique meters can be estimated", "leave it out, or use \"unique\""),
    ];
    for (name, misfit, message, help) in misfits {
        if let (true, Some((span, _))) = (misfit, reader::entry(table, name)) {
            let message = format!("`{name}` does not fit aggregation \"{}\": {message}", aggregation.as_str());
            errors.push(ConfigError::at(span, format!("{}.{name}", item.key), message).with_help(help));
        }
    }
    if let (true, None, Some((_, value))) = (unique, reader::entry(table, "value"), reader::entry(table, "aggregation"))
    {
        let message = "a unique meter needs a `value`: the path to what is counted once";
        let error = ConfigError::at(value.span(), format!("{}.value", item.key), message);
        errors.push(error.with_help("for example value = \"$.user\""));
    }
}

fn slug(item: &Item<'_>) -> Result<String, Refusal> {
    let text = item.text("text")?;
    let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if starts && text.len() <= SLUG_BYTES_MAX && text.chars().all(legal) {
        return Ok(text.to_owned());
    }
    let mut near: String = text.to_lowercase().replace(|c| !legal(c), "_");
    near.truncate(SLUG_BYTES_MAX);
    let near = near.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let rule = "[a-z][a-z0-9_]{0,62}: a lower-case letter, then up to 62 lower-case letters, digits or _";
    let help = if near.is_empty() { rule.to_owned() } else { format!("\"{near}\" would do; the rule is {rule}") };
    Err(Refusal::new(format!("\"{text}\" is no slug")).with_help(help))
}

fn event_type(item: &Item<'_>) -> Result<String, Refusal> {
    let text = item.text("text")?;
    let legal = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    let refusal =
        || Refusal::new(format!("`event_type` must have 1 to {NAME_BYTES_MAX} bytes and no control characters"));
    if legal { Ok(text.to_owned()) } else { Err(refusal()) }
}

fn aggregation(item: &Item<'_>) -> Result<Aggregation, Refusal> {
    item.choice(&Aggregation::ALL.map(|aggregation| (aggregation.as_str(), aggregation)))
}

fn path(item: &Item<'_>) -> Result<Path, Refusal> {
    let text = item.text("a path like \"$.tokens\"")?;
    text.parse().map_err(|error| {
        let refusal = Refusal::new(format!("\"{text}\" is no path: {error}"));
        let rooted = format!("$.{}", text.trim_start_matches('.'));
        if rooted.parse::<Path>().is_ok() { refusal.with_help(format!("did you mean \"{rooted}\"?")) } else { refusal }
    })
}

fn dimensions(meter: &mut Definition, item: &Item<'_>, errors: &mut Errors) {
    let table = match item.table("a table of names and paths, like { model = \"$.model\" }") {
        Ok(table) => table,
        Err(refusal) => return errors.refuse(item, refusal),
    };
    if table.len() > DIMENSIONS_MAX {
        let message = format!("{} dimensions are more than the {DIMENSIONS_MAX} a meter may have", table.len());
        errors.refuse(item, Refusal::new(message).with_help("each combination of values is a counter of its own"));
    }
    for (name, value) in table {
        if let Err(refusal) = dimension_name(name.get_ref()) {
            let Refusal { message, help } = refusal;
            let key = item.key.clone();
            errors.push(ConfigError { span: Some(name.span()), key, message, help });
        }
        let dimension = Item::new(format!("{}.{}", item.key, name.get_ref()), name.span(), value);
        match path(&dimension) {
            Ok(path) => meter.dimensions.push((name.get_ref().to_string(), path)),
            Err(refusal) => errors.refuse(&dimension, refusal),
        }
    }
    meter.dimensions.sort_by(|(a, _), (b, _)| a.cmp(b));
}

fn dimension_name(name: &str) -> Result<(), Refusal> {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let legal = starts && name.len() <= SLUG_BYTES_MAX && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if RESERVED_DIMENSIONS.contains(&name) {
        return Err(Refusal::new(format!("a dimension cannot be called `{name}`"))
            .with_help("usage is split by customer anyway; in group_by that name means the customer"));
    }
    let rule = "[A-Za-z_][A-Za-z0-9_]{0,62}: letters, digits and _";
    if legal { Ok(()) } else { Err(Refusal::new(format!("\"{name}\" is no dimension's name")).with_help(rule)) }
}

fn window(item: &Item<'_>) -> Result<WindowLength, Refusal> {
    let text = item.text("a length like \"1h\"")?;
    let rule = "\"1d\", \"1w\", \"1mo\", or a length from \"1s\" that divides a day: \"30s\", \"15m\", \"1h\", \"6h\"";
    text.parse().map_err(|_| Refusal::new(format!("\"{text}\" is no window length")).with_help(rule))
}

pub fn time_zone(item: &Item<'_>) -> Result<String, Refusal> {
    let text = item.text("a time zone's name, like \"Europe/Berlin\"")?;
    match Zone::named(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err(Refusal::new(format!("unknown time zone \"{text}\"")).with_help(match suggest::nearest_zone(text) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "an IANA name, like \"Europe/Berlin\" or \"UTC\"".to_owned(),
            }))
        }
    }
}
