//! Reads totals from a daemon and holds them against what was sent.

use std::collections::HashMap;

use anyhow::Context;
use serde::Deserialize;

use crate::cli::client::{Client, percent_encode};
use crate::cli::generate::{Expected, Workload};
use crate::model::Quantity;

/// Rows per page: the most that the daemon gives.
const PAGE_ROWS: usize = 10_000;

/// One customer's total that is not what it must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub meter: String,
    pub customer: String,
    pub expected: Quantity,
    pub found: Quantity,
}

/// The totals of one meter by customer, over all its windows.
pub type ByCustomer = HashMap<String, Quantity>;

#[derive(Deserialize)]
struct Page {
    data: Vec<Row>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    customer: Option<String>,
    value: Option<String>,
}

/// A meter's definition, as far as it is of interest here.
#[derive(Debug, Deserialize)]
pub struct MeterInfo {
    pub slug: String,
    pub aggregation: String,
    #[serde(default)]
    pub dimensions: serde_json::Map<String, serde_json::Value>,
}

/// The meters that the daemon has.
pub fn meters(client: &mut Client) -> anyhow::Result<Vec<MeterInfo>> {
    #[derive(Deserialize)]
    struct Meters {
        data: Vec<MeterInfo>,
    }
    Ok(client.get_json::<Meters>("/v1/meters?limit=10000").context("cannot list the daemon's meters")?.data)
}

/// Reads all pages of a sum or count meter.
pub fn fetch(client: &mut Client, meter: &str) -> anyhow::Result<ByCustomer> {
    let mut totals = ByCustomer::new();
    let path = format!("/v1/meters/{}/usage?group_by=customer&window=1mo&limit={PAGE_ROWS}", percent_encode(meter));
    let mut cursor = None::<String>;
    loop {
        let page = match &cursor {
            None => path.clone(),
            Some(cursor) => format!("{path}&cursor={}", percent_encode(cursor)),
        };
        let page: Page = client.get_json(&page)?;
        for row in page.data {
            let customer = row.customer.context("a usage row names no customer")?;
            let value = row.value.context("a usage row has no value")?;
            let value = Quantity::parse(&value).with_context(|| format!("{value} is no total"))?;
            let total = totals.entry(customer).or_default();
            *total = total.checked_add(value).context("a total is out of range")?;
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(totals),
        }
    }
}

/// Reads the totals of every meter of a workload.
pub fn fetch_all(client: &mut Client, workload: &Workload) -> anyhow::Result<Vec<ByCustomer>> {
    workload.meters().iter().map(|meter| fetch(client, &meter.slug)).collect()
}

/// Every customer whose total did not grow by exactly what was sent.
pub fn differences(
    workload: &Workload,
    expected: &Expected,
    before: &[ByCustomer],
    after: &[ByCustomer],
) -> Vec<Difference> {
    let mut found = Vec::new();
    let total = |totals: &ByCustomer, customer: &str| totals.get(customer).copied().unwrap_or_default();
    for (n, meter) in workload.meters().iter().enumerate() {
        for number in 0..workload.customers() {
            let customer = Workload::customer_name(number);
            let sent = expected.total(workload, n, number).unwrap_or_default();
            let (old, new) = (total(&before[n], &customer), total(&after[n], &customer));
            if old.checked_add(sent) != Some(new) {
                let expected = old.checked_add(sent).unwrap_or_default();
                found.push(Difference { meter: meter.slug.clone(), customer, expected, found: new });
            }
        }
    }
    found
}

/// The sum over all customers.
pub fn sum(totals: &ByCustomer) -> Quantity {
    totals.values().fold(Quantity::ZERO, |sum, value| sum.checked_add(*value).unwrap_or(sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::generate::{Kind, MeterSpec, Times};
    use crate::model::Timestamp;

    #[test]
    fn one_lost_and_one_doubled_event_are_both_found() {
        let meters = vec![MeterSpec { slug: "m".into(), kind: Kind::Count, dimensions: vec![] }];
        let workload = Workload::new(1, meters, 3, 0, Times::Before(Timestamp::EPOCH));
        let mut expected = Expected::new(&workload);
        expected.add(&workload, 0..300);
        let name = Workload::customer_name;
        let counts = |n| expected.total(&workload, 0, n).unwrap();
        let before = [ByCustomer::from([(name(0), Quantity::ONE)])];
        let exact = (0..3).map(|n| (name(n), counts(n).checked_add(total(&before, &name(n))).unwrap()));
        let mut after = [exact.collect::<ByCustomer>()];
        assert_eq!(differences(&workload, &expected, &before, &after), []);
        let change = |totals: &mut ByCustomer, n, by| {
            let value = totals.get_mut(&name(n)).unwrap();
            *value = value.checked_add(Quantity::from_integer(by)).unwrap();
        };
        change(&mut after[0], 1, -1);
        change(&mut after[0], 2, 1);
        let found = differences(&workload, &expected, &before, &after);
        assert_eq!(found.iter().map(|d| d.customer.as_str()).collect::<Vec<_>>(), [name(1), name(2)]);
    }

    fn total(totals: &[ByCustomer; 1], customer: &str) -> Quantity {
        totals[0].get(customer).copied().unwrap_or_default()
    }
}
