//! `GET /v1/alerts?customer=&meter=&state=&since=&limit=&cursor=`: thresholds that were crossed, in the order they were.
//!
//! | parameter | means |
//! | --- | --- |
//! | `customer`, `meter` | alerts of one customer, on one meter |
//! | `state` | `triggered`: those that are active still; `recovered`: the others |
//! | `since`, `cursor` | an alert's `seq`, exclusive, or `0` for the beginning |
//!
//! 1. An alert has one entry, which says how it began and how it ended: `seq` is of the record that made it, and stays.
//! 2. A client that keeps the last `seq` it saw never misses an alert that was made later. That one recovered is seen by
//!    looking again.

mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::engine::AlertsQuery;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::query::Page;
use crate::http::read::read;
use crate::http::routes::App;
use crate::meter::Meters;
use crate::model::{Seq, TenantId};

use shown::AlertShown;

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 1_000;
/// The largest page.
const PAGE_MAX: usize = 10_000;

pub async fn list_alerts(State(app): State<Arc<App>>, params: Params) -> Result<Json<Page<AlertShown>>, Problem> {
    let query = read_query(params, &app.tenant, &app.engine.meters())?;
    let page = read(&app, move |view| {
        let page = view.alerts(&query)?;
        let next_cursor = page.more.then(|| page.alerts.last().expect("a page with more to come has alerts").seq);
        let data = page.alerts.iter().map(AlertShown::new).collect();
        Ok((Page { data, next_cursor: next_cursor.map(|seq| seq.to_string()) }, page.seq))
    })
    .await?;
    Ok(Json(page))
}

fn read_query(mut params: Params, tenant: &TenantId, meters: &Meters) -> Result<AlertsQuery, Problem> {
    let since = take_seq(&mut params, "since")?;
    let cursor = take_seq(&mut params, "cursor")?;
    let wrong = |()| Problem::parameter("state", "parameter \"state\" can be \"triggered\" or \"recovered\"");
    let query = AlertsQuery {
        tenant: tenant.clone(),
        customer: params.take_customer()?,
        meter: params.take_meter(meters)?.map(|meter| meter.definition.slug.clone()),
        state: params.take("state")?.map(|text| text.parse().map_err(wrong)).transpose()?,
        after: since.max(cursor),
        limit: params.take_limit(PAGE_DEFAULT, PAGE_MAX)?,
    };
    params.finish()?;
    Ok(query)
}

/// Digits only: `parse` alone would take a plus sign. `0` is before all records.
fn take_seq(params: &mut Params, name: &'static str) -> Result<Option<Seq>, Problem> {
    let Some(text) = params.take(name)? else { return Ok(None) };
    let seq = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let wrong = || Problem::parameter(name, format!("parameter {name:?} must be an alert's seq, or 0"));
    let seq = seq.map(Seq).ok_or_else(wrong)?;
    Ok((seq != Seq::ZERO).then_some(seq))
}

#[cfg(test)]
mod tests;
