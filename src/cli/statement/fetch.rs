//! Asks a daemon for what a statement is made of.

use std::collections::{BTreeSet, HashMap};

use anyhow::Context;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::client::{Client, GetError, percent_encode};
use crate::cli::statement::lines::{Adjustment, Line, Meter, Statement};

/// Rows per page: the most that the daemon gives.
const PAGE_ROWS: usize = 10_000;
/// How often totals and adjustments are read in all until they fit each other.
const READS_MAX: u32 = 3;

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    #[serde(default)]
    next_cursor: Option<String>,
    /// Of totals.
    #[serde(default)]
    as_of: String,
    #[serde(default, rename = "final")]
    is_final: bool,
}

#[derive(Deserialize)]
struct Customer {
    time_zone: Option<String>,
    plan: Option<String>,
}

/// The customer's statement for the period, as of now.
pub fn fetch(client: &mut Client, period: &str, customer: &str) -> anyhow::Result<Statement> {
    let settings = settings(client, customer)?;
    let meters = meters(client)?;
    let mut reads = 1;
    loop {
        let (lines, as_of, is_final) = totals(client, period, customer)?;
        let adjustments = adjustments(client, customer, &lines)?;
        let zone = settings.as_ref().and_then(|settings| settings.time_zone.clone());
        let plan = settings.as_ref().and_then(|settings| settings.plan.clone());
        let mut statement = Statement::new(customer, period, lines, adjustments, &meters);
        (statement.as_of, statement.is_final, statement.time_zone, statement.plan) = (as_of, is_final, zone, plan);
        if statement.is_complete() || reads == READS_MAX {
            return Ok(statement);
        }
        reads += 1;
    }
}

/// What is stored for the customer, if anything is.
fn settings(client: &mut Client, customer: &str) -> anyhow::Result<Option<Customer>> {
    match client.get_json(&format!("/v1/customers/{}", percent_encode(customer))) {
        Ok(customer) => Ok(Some(customer)),
        Err(GetError::Status { status: 404, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn meters(client: &mut Client) -> anyhow::Result<HashMap<String, Meter>> {
    let mut meters = HashMap::new();
    pages(client, "/v1/meters?", |page: Page<Meter>| {
        meters.extend(page.data.into_iter().map(|meter| (meter.slug.clone(), meter)));
    })?;
    Ok(meters)
}

fn totals(client: &mut Client, period: &str, customer: &str) -> anyhow::Result<(Vec<Line>, String, bool)> {
    let path =
        format!("/v1/periods/{}/totals?format=json&customer={}&", percent_encode(period), percent_encode(customer));
    let (mut lines, mut as_of, mut is_final) = (Vec::new(), None, true);
    pages(client, &path, |page: Page<Line>| {
        lines.extend(page.data);
        is_final &= page.is_final;
        as_of.get_or_insert(page.as_of);
    })?;
    Ok((lines, as_of.unwrap_or_default(), is_final))
}

/// The adjustments to these lines, oldest first.
fn adjustments(client: &mut Client, customer: &str, lines: &[Line]) -> anyhow::Result<Vec<Adjustment>> {
    let periods: BTreeSet<(&str, &str)> =
        lines.iter().map(|line| (line.meter.as_str(), line.period.as_str())).collect();
    let mut found = Vec::new();
    if lines.iter().all(|line| line.adjustments == 0) {
        return Ok(found);
    }
    let path = format!("/v1/adjustments?customer={}&", percent_encode(customer));
    pages(client, &path, |page: Page<Adjustment>| {
        let of_period = |row: &Adjustment| periods.contains(&(row.meter.as_str(), row.period.as_str()));
        found.extend(page.data.into_iter().filter(of_period));
    })?;
    Ok(found)
}

/// Reads every page of a list; `path` ends with `?` or `&`.
fn pages<T: DeserializeOwned>(client: &mut Client, path: &str, mut take: impl FnMut(Page<T>)) -> anyhow::Result<()> {
    let mut cursor = String::new();
    loop {
        let page: Page<T> = client.get_json(&format!("{path}limit={PAGE_ROWS}{cursor}"))?;
        let next = page.next_cursor.clone();
        take(page);
        match next {
            None => return Ok(()),
            Some(next) => {
                let next = format!("&cursor={}", percent_encode(&next));
                anyhow::ensure!(next != cursor, "the daemon's list does not go on");
                cursor = next;
            }
        }
    }
}

/// An instant as the daemon writes it.
pub fn instant(text: &str) -> anyhow::Result<crate::model::Timestamp> {
    crate::model::Timestamp::parse_rfc3339(text).with_context(|| format!("{text:?} is no time"))
}
