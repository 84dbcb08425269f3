//! What must not change about the meters that a data directory has recorded: one error for every key that did.
//!
//! A key of `[billing]` is every meter's. It gets one error, not one for each of them.

use std::ops::Range;

use toml::de::DeTable;

use super::Config;
use super::meters::TABLE;
use super::reader;
use super::report::ConfigError;
use super::source::Source;
use crate::meter::{Definition, FrozenField, Path};

/// Compares the file's meters with the recorded ones.
pub fn changed(config: &Config, recorded: &[Definition], source: &Source) -> Vec<ConfigError> {
    let (tree, _) = DeTable::parse_recoverable(&source.text);
    let root = tree.get_ref();
    let tables = reader::entry(root, TABLE).and_then(|(_, tables)| tables.get_ref().as_array());
    let mut errors = Vec::new();
    let mut billing: Vec<BillingChange<'_>> = Vec::new();
    for (index, meter) in config.meters.iter().enumerate() {
        let Some(before) = recorded.iter().find(|recorded| recorded.slug == meter.slug) else { continue };
        let table = tables.and_then(|tables| tables.get(index)).and_then(|table| table.get_ref().as_table());
        let slug = table.and_then(|table| value_span(table, "slug"));
        for field in before.frozen_difference(meter) {
            let made_with = made_with(before, field);
            if matches!(field, FrozenField::BillingPeriod | FrozenField::BillingTimeZone) {
                match billing.iter_mut().find(|change| change.field == field && change.made_with == made_with) {
                    Some(change) => change.others += 1,
                    None => billing.push(BillingChange { field, made_with, before, meter: slug.clone(), others: 0 }),
                }
                continue;
            }
            let name = field.as_str();
            errors.push(ConfigError {
                span: table.and_then(|table| value_span(table, name)).or_else(|| slug.clone()),
                key: format!("{TABLE}[{index}].{name}"),
                message: format!("meters keep their {}: {} was made {made_with}", shown(field), meter.slug),
                help: Some("make a new slug, and replay to fill it".to_owned()),
            });
        }
    }
    errors.extend(billing.into_iter().map(|change| change.error(root)));
    errors
}

/// Recorded meters that were billed in another way than `[billing]` says now.
struct BillingChange<'a> {
    field: FrozenField,
    made_with: String,
    /// The first of them, as recorded, and where it stands in the file.
    before: &'a Definition,
    meter: Option<Range<usize>>,
    others: usize,
}

impl BillingChange<'_> {
    /// Points at the key, or at the meter if the key is not there.
    fn error(self, root: &DeTable<'_>) -> ConfigError {
        let key = self.field.as_str();
        let in_file = key.split_once('.').and_then(|(section, name)| {
            let (_, table) = reader::entry(root, section)?;
            value_span(table.get_ref().as_table()?, name)
        });
        let who = match self.others {
            0 => format!("{} was", self.before.slug),
            others => format!("{} and {others} more were", self.before.slug),
        };
        let back = match (self.field, &self.before.billing_time_zone) {
            (FrozenField::BillingTimeZone, Some(zone)) => format!("put time_zone = \"{zone}\" back under [billing]"),
            (FrozenField::BillingTimeZone, None) => "leave time_zone out of [billing]".to_owned(),
            _ => format!("put period = \"{}\" back under [billing]", self.before.billing_period.as_str()),
        };
        ConfigError {
            span: in_file.or(self.meter),
            key: key.to_owned(),
            message: format!("meters keep their {}: {who} made {}", shown(self.field), self.made_with),
            help: Some(format!("{back}; or make new slugs, and replay to fill them")),
        }
    }
}

fn value_span(table: &DeTable<'_>, name: &str) -> Option<Range<usize>> {
    reader::entry(table, name).map(|(_, value)| value.span())
}

fn shown(field: FrozenField) -> &'static str {
    match field {
        FrozenField::TimeZone => "time zone",
        FrozenField::BillingPeriod => "billing period",
        FrozenField::BillingTimeZone => "billing time zone",
        FrozenField::Aggregation | FrozenField::Value | FrozenField::Window | FrozenField::Dimensions => field.as_str(),
    }
}

/// A recorded field as it would stand in the file.
fn made_with(meter: &Definition, field: FrozenField) -> String {
    let pair = |name: &str, path: &Path| format!("{name} = \"{path}\"");
    match field {
        FrozenField::Aggregation => format!("with aggregation = \"{}\"", meter.aggregation.as_str()),
        FrozenField::Value => {
            meter.value.as_ref().map_or("without a value".to_owned(), |path| format!("with {}", pair("value", path)))
        }
        FrozenField::Window => format!("with window = \"{}\"", meter.window),
        FrozenField::Dimensions if meter.dimensions.is_empty() => "without dimensions".to_owned(),
        FrozenField::Dimensions => {
            let pairs: Vec<String> = meter.dimensions.iter().map(|(name, path)| pair(name, path)).collect();
            format!("with dimensions = {{ {} }}", pairs.join(", "))
        }
        FrozenField::TimeZone => format!("with time_zone = \"{}\"", meter.time_zone),
        FrozenField::BillingPeriod => format!("with billing.period = \"{}\"", meter.billing_period.as_str()),
        FrozenField::BillingTimeZone => match &meter.billing_time_zone {
            Some(zone) => format!("with billing.time_zone = \"{zone}\""),
            None => "without a billing.time_zone".to_owned(),
        },
    }
}
