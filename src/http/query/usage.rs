//! `GET /v1/meters/{meter}/usage` and `/v1/customers/{customer}/usage`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::engine::{MeterTotal, View, WindowQuery, WindowState};
use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::query::cursor;
use crate::http::query::fold::{Fold, Folded};
use crate::http::query::meters::Page;
use crate::http::query::request::UsageRequest;
use crate::http::query::rows::{PeriodRow, UsageRow};
use crate::http::read::read;
use crate::http::routes::App;
use crate::model::{MeterId, Seq, TenantId};

/// One meter's usage by window.
pub async fn meter_usage(
    State(app): State<Arc<App>>,
    PathName(slug): PathName,
    params: Params,
) -> Result<Json<Page<UsageRow>>, Problem> {
    let meters = app.engine.meters();
    let meter = meters.by_slug(&slug).ok_or(Problem::UnknownMeter(slug))?;
    let mut request = UsageRequest::read(params, meter)?;
    let (customer, by_dimensions) = (request.customer.clone(), request.by_dimensions.clone());
    let (meter_id, tenant) = (meter.id, app.tenant.clone());
    let folded = read(&app, move |view| fold_usage(view, &tenant, meter_id, &mut request)).await?;
    let next_cursor = folded.rows.last().filter(|_| folded.has_more).map(|(key, _)| cursor::encode(key));
    let rows = folded.rows.into_iter();
    let data =
        rows.map(|(key, total)| UsageRow::new(key, &total, &meter.definition, &by_dimensions, customer.as_deref()));
    Ok(Json(Page { data: data.collect(), next_cursor }))
}

fn fold_usage(
    view: &View,
    tenant: &TenantId,
    meter: MeterId,
    request: &mut UsageRequest,
) -> Result<(Folded, Seq), Problem> {
    let mut fold = Fold::new(request.limit, request.after.take());
    let customer = request.customer.take();
    let (from, to) = request.stored_range();
    let query = WindowQuery { tenant, meter: Some(meter), customer: customer.as_deref(), from, to };
    let seq = view.windows(&query, &mut |row| {
        if let Some((key, window)) = request.place(&row) {
            fold.add(key, window, &row);
        }
    })?;
    let mut folded = fold.finish()?;
    if request.is_coarser {
        // All of its windows so far may be final: there may be more of them to come.
        let now = view.now();
        for (_, total) in &mut folded.rows {
            total.state = total.state.min(WindowState::of_time(total.window_end, request.grace, now));
        }
    }
    Ok((folded, seq))
}

/// The answer to a customer's period to date.
#[derive(Serialize)]
pub struct CustomerUsage {
    customer: String,
    as_of: String,
    data: Vec<PeriodRow>,
    next_cursor: Option<String>,
}

/// Every meter's total for one customer since the meter's current billing period began, and the caps on it. Caps are looked
/// at after totals: an event that arrives in between is in their `used` only.
pub async fn customer_usage(
    State(app): State<Arc<App>>,
    PathName(customer): PathName,
    params: Params,
) -> Result<Json<CustomerUsage>, Problem> {
    params.finish()?;
    PathName::check_length("customer", &customer)?;
    let (tenant, name) = (app.tenant.clone(), customer.clone());
    let (page, caps) = read(&app, move |view| {
        let page = view.customer_usage(&tenant, &name)?;
        let (caps, as_of) = view.caps(&tenant, &name);
        let seq = page.seq.max(as_of);
        Ok(((page, caps), seq))
    })
    .await?;
    let meters = app.engine.meters();
    let caps_on = |meter: MeterId| caps.iter().find(|entry| entry.meter == meter).map_or(&[][..], |entry| &entry.caps);
    let row = |row: &MeterTotal| {
        let meter = meters.get(row.meter)?;
        Some(PeriodRow::new(&meter.definition, row, caps_on(row.meter)))
    };
    let rows = page.rows.iter().filter_map(row);
    Ok(Json(CustomerUsage { customer, as_of: page.as_of.to_string(), data: rows.collect(), next_cursor: None }))
}
