//! `[[cap]]`: how much of a meter the customers of a plan may use, and which plans there are.
//!
//! 1. A cap is checked by `Cap::check`, as one that comes over HTTP is; here its errors get their places.
//! 2. What comes out depends on what the file says, not on the order in which it says it: a file whose caps were moved
//!    about is no change of caps.
//! 3. No customer gets more than `CAPS_MAX` caps on a meter, whatever its plan.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use toml::de::DeTable;

use super::Config;
use super::item::{Item, Refusal};
use super::reader::{self, Errors, Key};
use super::report::ConfigError;
use super::source::Source;
use super::suggest;
use crate::meter::caps::{CAPS_MAX, ID_DEFAULT, SOFT_MAX, can_be_capped};
use crate::meter::{
    Amount, AmountError, Cap, CapError, CapField, CapPeriod, Definition, OnHardCap, PeriodKind, PlanCap,
};
use crate::model::Quantity;
use crate::model::id::NAME_BYTES_MAX;

/// The table's name.
pub const TABLE: &str = "cap";
/// Caps in one file.
pub const FILE_CAPS_MAX: usize = 10_000;
/// Caps on one meter, of all plans together: they are one record of the journal.
pub const METER_CAPS_MAX: usize = 1_000;
/// Plans in `customers.plans`.
pub const PLANS_MAX: usize = 1_000;
/// The plan of every customer.
const EVERY_PLAN: &str = "*";
/// Meters that are named where one was not found.
const METERS_SHOWN: usize = 10;

/// What is read before it is known whether it fits together.
pub struct Draft {
    /// How billing periods are called. None: that could not be read.
    billing: Option<PeriodKind>,
    meter: String,
    plan: Option<String>,
    cap: Cap,
    /// Where each of the cap's thresholds stands, in their order.
    soft: Vec<Place>,
    /// A threshold could not be read.
    soft_lost: bool,
}

/// A key and its bytes in the file.
type Place = (String, Range<usize>);

impl Draft {
    fn new(billing: Option<PeriodKind>) -> Self {
        Self { billing, meter: String::new(), plan: None, cap: Cap::default(), soft: Vec::new(), soft_lost: false }
    }
}

/// Every key of a cap.
pub const KEYS: [Key<Draft>; 9] = [
    Key { name: "id", read: |d, i, e| e.set(&mut d.cap.id, i, i.text("text").map(str::to_owned)) },
    Key { name: "meter", read: |d, i, e| e.set(&mut d.meter, i, i.text("a meter's slug").map(str::to_owned)) },
    Key { name: "plan", read: |d, i, e| e.set(&mut d.plan, i, plan(i)) },
    Key { name: "period", read: |d, i, e| e.set(&mut d.cap.period, i, period(i, d.billing)) },
    Key { name: "hard", read: |d, i, e| e.set(&mut d.cap.hard, i, hard(i).map(Some)) },
    Key { name: "soft", read: soft },
    Key {
        name: "on_hard_cap",
        read: |d, i, e| {
            e.set(&mut d.cap.on_hard_cap, i, i.choice(&OnHardCap::ALL.map(|choice| (choice.as_str(), choice))));
        },
    },
    Key { name: "grace", read: |d, i, e| e.set(&mut d.cap.grace, i, amount(i)) },
    Key { name: "enforce", read: |d, i, e| e.set(&mut d.cap.enforce, i, i.boolean()) },
];

/// A cap that was read, and where it stands.
struct Entry {
    cap: PlanCap,
    place: Place,
}

/// Reads every `[[cap]]`, by meter's slug; those of a meter in order of plan and id.
pub fn walk(
    root: &DeTable<'_>,
    source: &Source,
    meters: &[Definition],
    billing: PeriodKind,
    errors: &mut Errors,
) -> BTreeMap<String, Vec<PlanCap>> {
    let billing = Some(billing).filter(|_| !errors.spoilt(&["billing.period"]));
    let by_slug: HashMap<&str, &Definition> = meters.iter().map(|meter| (meter.slug.as_str(), meter)).collect();
    let mut found: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    let mut taken = HashMap::new();
    for (item, table) in reader::tables(root, TABLE, FILE_CAPS_MAX, errors) {
        let mut draft = Draft::new(billing);
        reader::walk(table, &item.key, "[[cap]]", &KEYS, &mut draft, errors);
        check_meter(table, &draft, &by_slug, &item, errors);
        check_cap(table, &mut draft, &item, errors);
        let place = place_of(table, "id", &item);
        // What could not be read is not held against other caps.
        if ["id", "meter", "plan"].iter().any(|name| errors.spoilt(&[&format!("{}.{name}", item.key)])) {
            continue;
        }
        let identity = (draft.meter.clone(), draft.plan.clone(), draft.cap.id.clone());
        if let Some(first) = taken.get(&identity) {
            let line = source.position(*first).line;
            let message = format!("id \"{}\" is taken by the cap on line {line}", draft.cap.id);
            let error = ConfigError::at(place.1, place.0, message);
            errors.push(error.with_help("several caps of one meter and plan need an `id` each"));
            continue;
        }
        taken.insert(identity, place.1.start);
        let cap = PlanCap { plan: draft.plan, cap: draft.cap };
        found.entry(draft.meter).or_default().push(Entry { cap, place: (item.key, item.span) });
    }
    for (meter, entries) in &found {
        check_numbers(meter, entries, errors);
    }
    let sorted = |entries: Vec<Entry>| {
        let mut caps: Vec<PlanCap> = entries.into_iter().map(|entry| entry.cap).collect();
        caps.sort_by(|one, other| (&one.plan, &one.cap.id).cmp(&(&other.plan, &other.cap.id)));
        caps
    };
    found.into_iter().map(|(meter, entries)| (meter, sorted(entries))).collect()
}

/// The plans that a customer may have, in order: those of the caps and `beside` them. None: no cap names a plan, and any
/// will do.
pub fn known_plans(caps: &BTreeMap<String, Vec<PlanCap>>, beside: &[String]) -> Option<Vec<String>> {
    let named: BTreeSet<&String> = caps.values().flatten().filter_map(|cap| cap.plan.as_ref()).collect();
    let known: BTreeSet<&String> = named.iter().copied().chain(beside).collect();
    (!named.is_empty()).then(|| known.into_iter().cloned().collect())
}

/// `customers.plans`.
pub fn plans(config: &mut Config, item: &Item<'_>, errors: &mut Errors) {
    let names = match item.array("a list of plans' names, like [\"free\", \"pro\"]") {
        Ok(names) => names,
        Err(refusal) => return errors.refuse(item, refusal),
    };
    if names.len() > PLANS_MAX {
        errors.refuse(item, Refusal::new(format!("{} plans are more than {PLANS_MAX}", names.len())));
    }
    let mut seen = HashSet::new();
    for (index, name) in names.iter().enumerate() {
        let name = Item::new(format!("{}[{index}]", item.key), item.key_span.clone(), name);
        match plan(&name) {
            Ok(None) => {
                let refusal = Refusal::new("\"*\" is no plan's name: in a cap it means every plan");
                errors.refuse(&name, refusal.with_help("leave it out; a customer without a plan is always taken"));
            }
            Ok(Some(plan)) if !seen.insert(plan.clone()) => {
                errors.refuse(&name, Refusal::new(format!("plan \"{plan}\" is given twice")));
            }
            Ok(Some(plan)) => config.plans.push(plan),
            Err(refusal) => errors.refuse(&name, refusal),
        }
    }
}

/// A cap is on a meter of the file, whose usage adds up.
fn check_meter(
    table: &DeTable<'_>,
    draft: &Draft,
    meters: &HashMap<&str, &Definition>,
    item: &Item<'_>,
    errors: &mut Errors,
) {
    let (key, span) = place_of(table, "meter", item);
    if errors.spoilt(&[&key]) {
        return;
    }
    if reader::entry(table, "meter").is_none() {
        let error = ConfigError::at(span, key, "this cap has no meter");
        errors.push(error.with_help("meter = \"…\" is the slug of the meter that it is on"));
        return;
    }
    match meters.get(draft.meter.as_str()) {
        // A meter whose slug could not be read has an empty one, and may be what is meant.
        None if meters.contains_key("") => {}
        None => {
            let mut slugs: Vec<&str> = meters.keys().copied().collect();
            slugs.sort_unstable();
            let help = match suggest::nearest(&draft.meter, slugs.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if slugs.is_empty() => "this file has no [[meter]]".to_owned(),
                None if slugs.len() > METERS_SHOWN => "it must be the slug of a [[meter]] in this file".to_owned(),
                None => format!("it may be {}", suggest::one_of('"', slugs)),
            };
            errors.push(ConfigError::at(span, key, format!("unknown meter \"{}\"", draft.meter)).with_help(help));
        }
        Some(meter) if !can_be_capped(meter) => {
            let (slug, aggregation) = (&meter.slug, meter.aggregation.as_str());
            let message = format!("meter \"{slug}\" cannot be capped: its aggregation is \"{aggregation}\"");
            let error = ConfigError::at(span, key, message);
            errors.push(error.with_help("only \"count\" and \"sum\" meters have usage that adds up to a cap"));
        }
        Some(_) => {}
    }
}

/// Everything that `Cap::check` finds, not only what it finds first.
fn check_cap(table: &DeTable<'_>, draft: &mut Draft, item: &Item<'_>, errors: &mut Errors) {
    let full = |name: &str| format!("{}.{name}", item.key);
    if draft.soft_lost || KEYS.iter().any(|key| errors.spoilt(&[&full(key.name)])) {
        return;
    }
    // A misspelt `hard` has been said; that there is none would be said for it once more.
    let is_known = |name: &str| KEYS.iter().any(|key| key.name == name);
    if draft.cap.hard.is_none() && !table.keys().all(|name| is_known(name.get_ref())) {
        return;
    }
    while let Err(CapError { field, message }) = draft.cap.check() {
        let (name, place) = match field {
            CapField::Id => ("id".to_owned(), place_of(table, "id", item)),
            CapField::Hard => ("hard".to_owned(), place_of(table, "hard", item)),
            CapField::Grace => ("grace".to_owned(), place_of(table, "grace", item)),
            CapField::Soft(index) => {
                let place = draft.soft.remove(index);
                (place.0.rsplit('.').next().unwrap_or("soft").to_owned(), place)
            }
        };
        errors.push(ConfigError::at(place.1, place.0, format!("`{name}` {message}")));
        // On with what is left of it; nobody will use it.
        match field {
            CapField::Soft(index) if draft.cap.soft.len() > 1 || draft.cap.hard.is_some() => {
                draft.cap.soft.remove(index);
            }
            CapField::Id => ID_DEFAULT.clone_into(&mut draft.cap.id),
            CapField::Grace => draft.cap.grace = Amount::NOTHING,
            CapField::Soft(_) | CapField::Hard => return,
        }
    }
}

/// What applies to one customer has a limit, and what is on one meter.
fn check_numbers(meter: &str, entries: &[Entry], errors: &mut Errors) {
    if let Some(Entry { place: (key, span), .. }) = entries.get(METER_CAPS_MAX) {
        let message = format!("{} caps on {meter} are more than {METER_CAPS_MAX}", entries.len());
        return errors.push(ConfigError::at(span.clone(), key.clone(), message));
    }
    let plans: BTreeSet<Option<&str>> =
        entries.iter().map(|entry| entry.cap.plan.as_deref()).chain([None::<&str>]).collect();
    for plan in plans {
        let of_plan = |entry: &&Entry| entry.cap.plan.as_deref() == plan;
        let named: HashSet<&str> = entries.iter().filter(of_plan).map(|entry| entry.cap.cap.id.as_str()).collect();
        let applies =
            |entry: &&Entry| of_plan(entry) || entry.cap.plan.is_none() && !named.contains(entry.cap.cap.id.as_str());
        let Some(one_more) = entries.iter().filter(applies).nth(CAPS_MAX) else { continue };
        let whose =
            plan.map_or("customers without a plan".to_owned(), |plan| format!("customers with plan \"{plan}\""));
        let message = format!("{whose} would have more than {CAPS_MAX} caps on {meter}");
        let (key, span) = one_more.place.clone();
        errors.push(
            ConfigError::at(span, key, message)
                .with_help("caps with plan \"*\" count for every plan, but for its own ids"),
        );
        if plan.is_none() {
            return;
        }
    }
}

/// Where a key's value stands, or else its table.
fn place_of(table: &DeTable<'_>, name: &str, item: &Item<'_>) -> Place {
    let span = reader::entry(table, name).map_or(item.span.clone(), |(_, value)| value.span());
    (format!("{}.{name}", item.key), span)
}

/// None: every plan.
fn plan(item: &Item<'_>) -> Result<Option<String>, Refusal> {
    let text = item.text("a plan's name")?;
    if !(1..=NAME_BYTES_MAX).contains(&text.len()) || text.chars().any(char::is_control) {
        let message = format!("`{}` must have 1 to {NAME_BYTES_MAX} bytes and no control characters", item.name());
        return Err(Refusal::new(message));
    }
    Ok(Some(text).filter(|text| *text != EVERY_PLAN).map(str::to_owned))
}

/// A billing period is called by its own name, so that nobody takes a week's cap for a month's.
fn period(item: &Item<'_>, billing: Option<PeriodKind>) -> Result<CapPeriod, Refusal> {
    let window = ("window", CapPeriod::Window);
    let all = PeriodKind::ALL.map(|kind| (kind.as_str(), CapPeriod::Billing));
    let Some(billing) = billing else { return item.choice(&[all[0], all[1], all[2], window]) };
    let own = billing.as_str();
    if let Some((other, _)) = all.iter().find(|(word, _)| *word != own && item.text("").is_ok_and(|text| text == *word))
    {
        let message = format!("no cap can count by the {other} here: billing periods are set to \"{own}\"");
        let help = format!("\"{own}\" or \"window\"; how long billing periods are is said by `period` in [billing]");
        return Err(Refusal::new(message).with_help(help));
    }
    item.choice(&[(own, CapPeriod::Billing), window])
}

fn hard(item: &Item<'_>) -> Result<Quantity, Refusal> {
    let text = item.decimal("a decimal in quotes, like \"900000\" or \"0.5\", or a whole number")?;
    Quantity::parse(&text).map_err(|error| {
        let refusal = Refusal::new(format!("`{}` {error}: \"{text}\"", item.name()));
        let help =
            if text.ends_with('%') { "only `soft` and `grace` take percentages: they are of `hard`" } else { EXAMPLE };
        refusal.with_help(help)
    })
}

const EXAMPLE: &str = "digits, without separators and units, like \"900000\" or \"0.5\"";

fn amount(item: &Item<'_>) -> Result<Amount, Refusal> {
    let text = item.decimal("an amount in quotes, like \"900000\" or \"80%\", or a whole number")?;
    text.parse().map_err(|error| match error {
        AmountError::Quantity(error) => {
            let plain = text.replace([' ', '_'], "");
            let help = match plain.parse::<Amount>() {
                Ok(_) => format!("did you mean \"{plain}\"?"),
                Err(_) => format!("{EXAMPLE}; or a part of the hard cap, like \"80%\""),
            };
            Refusal::new(format!("`{}` {error}: \"{text}\"", item.name())).with_help(help)
        }
        AmountError::Negative | AmountError::Percent => Refusal::new(format!("`{}` {error}: \"{text}\"", item.name())),
    })
}

/// One amount, or a list of them.
fn soft(draft: &mut Draft, item: &Item<'_>, errors: &mut Errors) {
    let mut add = |item: &Item<'_>, errors: &mut Errors| match amount(item) {
        Ok(amount) => {
            draft.cap.soft.push(amount);
            draft.soft.push((item.key.clone(), item.span.clone()));
        }
        Err(refusal) => {
            draft.soft_lost = true;
            errors.refuse(item, refusal);
        }
    };
    let Ok(amounts) = item.array("") else { return add(item, errors) };
    for (index, amount) in amounts.iter().enumerate() {
        add(&Item::new(format!("{}[{index}]", item.key), item.key_span.clone(), amount), errors);
    }
    if amounts.len() > SOFT_MAX {
        let refusal = Refusal::new(format!("{} thresholds are more than the {SOFT_MAX} of one cap", amounts.len()));
        errors.refuse(item, refusal);
    }
}
