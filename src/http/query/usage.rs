//! `GET /v1/meters/{meter}/usage` and `/v1/customers/{customer}/usage`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::engine::{View, WindowQuery};
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::query::cursor;
use crate::http::query::fold::{Fold, Folded, Total};
use crate::http::query::meters::Page;
use crate::http::query::request::UsageRequest;
use crate::http::query::rows::{PeriodRow, UsageRow};
use crate::http::routes::App;
use crate::meter::{Meter, Period, Refusal};
use crate::model::id::NAME_BYTES_MAX;
use crate::model::{MeterId, Seq, TenantId, Timestamp, Window};

/// One meter's usage by window.
pub async fn meter_usage(
    State(app): State<Arc<App>>,
    slug: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Json<Page<UsageRow>>, Problem> {
    let Path(slug) = slug.map_err(|_| Problem::Path)?;
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

fn fold_usage(view: &View, tenant: &TenantId, meter: MeterId, request: &mut UsageRequest) -> Read<Folded> {
    let mut fold = Fold::new(request.limit, request.after.take());
    let customer = request.customer.take();
    let (from, to) = request.stored_range();
    let query = WindowQuery { tenant, meter: Some(meter), customer: customer.as_deref(), from, to };
    let seq = view.windows(&query, &mut |row| {
        if let Some((key, window)) = request.place(&row) {
            fold.add(key, window, &row);
        }
    });
    (fold.finish(), seq)
}

/// The answer to a customer's period to date.
#[derive(Serialize)]
pub struct CustomerUsage {
    customer: String,
    as_of: String,
    data: Vec<PeriodRow>,
    next_cursor: Option<String>,
}

/// Every meter's total for one customer since the calendar month began in the meter's zone.
pub async fn customer_usage(
    State(app): State<Arc<App>>,
    customer: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Json<CustomerUsage>, Problem> {
    let Path(customer) = customer.map_err(|_| Problem::Path)?;
    params.finish()?;
    if customer.len() > NAME_BYTES_MAX {
        return Err(Problem::BadRequest("a customer's name has at most 256 bytes"));
    }
    let (meters, now) = (app.engine.meters(), app.engine.now());
    let months: Vec<Window> = meters.iter().map(|meter| month_of(meter, now)).collect();
    let (tenant, name, wanted) = (app.tenant.clone(), customer.clone(), months.clone());
    let totals = read(&app, move |view| fold_months(view, &tenant, &name, &wanted)).await?;
    let rows = meters.iter().zip(months).zip(&totals);
    let data = rows.map(|((meter, month), total)| PeriodRow::new(&meter.definition, month, total.as_ref())).collect();
    Ok(Json(CustomerUsage { customer, as_of: now.to_string(), data, next_cursor: None }))
}

fn month_of(meter: &Meter, now: Timestamp) -> Window {
    let zone = meter.windows.zone();
    Period::month_containing(now, zone).bounds(zone)
}

type Read<T> = (Result<T, Refusal>, Seq);

/// A customer's totals, by meter number, over each meter's stretch. Windows are cut at months' ends, so that each lies
/// in one month whole.
fn fold_months(view: &View, tenant: &TenantId, customer: &str, months: &[Window]) -> Read<Vec<Option<Total>>> {
    let mut totals: Vec<Option<Total>> = vec![None; months.len()];
    let mut refused = None;
    let (from, to) = (months.iter().map(|month| month.start).min(), months.iter().map(|month| month.end).max());
    let query = WindowQuery { tenant, meter: None, customer: Some(customer), from, to };
    let seq = view.windows(&query, &mut |row| {
        let at = usize::from(row.meter.0);
        let Some(month) = months.get(at).filter(|month| month.contains(row.window.start)) else { return };
        match &mut totals[at] {
            Some(total) => refused = refused.or(total.merge(&row).err()),
            empty => *empty = Some(Total::of(&row, *month)),
        }
    });
    (refused.map_or(Ok(totals), Err), seq)
}

/// Runs a fold off the connection's thread, and waits until what it saw is durable.
async fn read<T: Send + 'static>(
    app: &App,
    fold: impl FnOnce(&View) -> Read<T> + Send + 'static,
) -> Result<T, Problem> {
    let turn = app.reads.clone().acquire_owned().await.map_err(|_| Problem::EngineFailed)?;
    let view = app.engine.view();
    let mut durable = view.durable();
    let (folded, seq) = spawn_blocking(move || {
        let _turn = turn; // held by the fold itself: a client that leaves does not make room for another fold
        fold(&view)
    })
    .await
    .map_err(|_| Problem::EngineFailed)?;
    durable.wait_for(|durable| *durable >= seq).await.map_err(|_| Problem::EngineFailed)?;
    folded.map_err(|_| Problem::TotalOverflow)
}
