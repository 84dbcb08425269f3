//! The daemon's totals, one after the other, against the file's rows.
//!
//! Totals come sorted by customer and meter, so one customer's totals of one meter are held at a time.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail};

use crate::cli::evidence::{Dimensions, quantity, shown};
use crate::cli::explain::{Meter, Total};
use crate::cli::reconcile::file::{Claim, Claims, Key, Split};
use crate::meter::Aggregation;
use crate::model::{Quantity, Window};

/// What kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Value,
    EventCount,
    MissingInFile,
    MissingInMeterd,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Value, Kind::EventCount, Kind::MissingInFile, Kind::MissingInMeterd];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Value => "value",
            Kind::EventCount => "event_count",
            Kind::MissingInFile => "missing_in_file",
            Kind::MissingInMeterd => "missing_in_meterd",
        }
    }
}

/// A total of the daemon's, perhaps summed over dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub value: Option<Quantity>,
    pub event_count: u64,
    pub adjustments: u64,
    /// The billing period's name.
    pub period: String,
    pub bounds: Window,
}

/// A row of the file or a total that is not as the other says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: Kind,
    pub key: Key,
    pub split: Split,
    pub meterd: Option<Counted>,
    pub file: Option<Claim>,
}

impl Difference {
    /// The daemon's value less the file's; what is not there counts as 0.
    pub fn delta(&self) -> Quantity {
        let meterd = self.meterd.as_ref().and_then(|counted| counted.value).unwrap_or_default();
        meterd.saturating_sub(self.file.as_ref().and_then(|claim| claim.value).unwrap_or_default())
    }
}

/// See the module.
pub struct Compare<'m> {
    meters: &'m HashMap<String, Meter>,
    claims: Claims,
    /// The customer and meter whose totals are being read.
    customer: String,
    meter: String,
    totals: BTreeMap<Dimensions, Counted>,
}

impl<'m> Compare<'m> {
    pub fn new(meters: &'m HashMap<String, Meter>, claims: Claims) -> Self {
        Self { meters, claims, customer: String::new(), meter: String::new(), totals: BTreeMap::new() }
    }

    /// The differences that are known with this total.
    pub fn take(&mut self, total: Total) -> anyhow::Result<Vec<Difference>> {
        let is_next = total.customer != self.customer || total.meter != self.meter;
        let found = if is_next { self.flush() } else { Vec::new() };
        (self.customer, self.meter) = (total.customer.clone(), total.meter.clone());
        let counted = Counted {
            value: total.value.as_deref().map(quantity).transpose()?,
            event_count: total.event_count,
            adjustments: total.adjustments,
            bounds: total.bounds()?,
            period: total.period,
        };
        let dimensions = self.claims.split.of(&total.dimensions);
        match self.totals.remove(&dimensions) {
            None => _ = self.totals.insert(dimensions, counted),
            Some(sum) => {
                let sum = self.add(sum, counted, &dimensions)?;
                self.totals.insert(dimensions, sum);
            }
        }
        Ok(found)
    }

    /// Those of the last totals, and rows of the file that no total was found for, by line.
    pub fn finish(mut self) -> anyhow::Result<Vec<Difference>> {
        let mut found = self.flush();
        let split = self.claims.split;
        let mut rest: Vec<(Key, Claim)> = self.claims.rows.into_iter().collect();
        rest.sort_unstable_by_key(|(_, claim)| claim.line);
        found.extend(rest.into_iter().map(|(key, claim)| {
            let (kind, split) = (Kind::MissingInMeterd, split.clone());
            Difference { kind, key, split, meterd: None, file: Some(claim) }
        }));
        Ok(found)
    }

    fn add(&self, sum: Counted, more: Counted, dimensions: &Dimensions) -> anyhow::Result<Counted> {
        let aggregation = self.meters.get(&self.meter).map(|meter| meter.aggregation);
        if !matches!(aggregation, Some(Aggregation::Sum | Aggregation::Count)) {
            bail!(
                "{}: it does not name all dimensions of {} ({}), whose totals cannot be added up, and {} has several with {}: \
                 give it a dimensions column",
                self.claims.name,
                self.meter,
                aggregation.map_or("unknown", Aggregation::as_str),
                self.customer,
                shown(dimensions),
            );
        }
        let (a, b) = (sum.value.unwrap_or_default(), more.value.unwrap_or_default());
        let value = a.checked_add(b).with_context(|| format!("the total of {} leaves the range", self.customer))?;
        let bounds =
            Window { start: sum.bounds.start.min(more.bounds.start), end: sum.bounds.end.max(more.bounds.end) };
        Ok(Counted {
            value: Some(value),
            event_count: sum.event_count + more.event_count,
            adjustments: sum.adjustments + more.adjustments,
            bounds,
            period: sum.period,
        })
    }

    fn flush(&mut self) -> Vec<Difference> {
        let mut found = Vec::new();
        for (dimensions, counted) in std::mem::take(&mut self.totals) {
            let key = Key { customer: self.customer.clone(), meter: self.meter.clone(), dimensions };
            let claim = self.claims.rows.remove(&key);
            let kind = match &claim {
                None => Kind::MissingInFile,
                Some(claim) if claim.value != counted.value => Kind::Value,
                Some(claim) if claim.event_count.is_some_and(|count| count != counted.event_count) => Kind::EventCount,
                Some(_) => continue,
            };
            let split = self.claims.split.clone();
            found.push(Difference { kind, key, split, meterd: Some(counted), file: claim });
        }
        found
    }
}
