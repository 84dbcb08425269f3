//! A customer's caps: how much of each meter it may use.
//!
//! | route | does |
//! | --- | --- |
//! | `GET /v1/customers/{customer}/caps` | the caps on every meter, with what they have come to |
//! | `GET /v1/customers/{customer}/caps/{meter}` | those on one meter |
//! | `PUT /v1/customers/{customer}/caps/{meter}` | gives the customer caps of its own there: one, several or (`[]`) none |
//! | `DELETE /v1/customers/{customer}/caps/{meter}` | takes them back: those of the config count again |
//!
//! | file | does |
//! | --- | --- |
//! | `body` | the body of a PUT to caps, each member checked |
//! | `shown` | caps as JSON |
//!
//! 1. A customer's own caps on a meter replace all that the config has for that meter.
//! 2. A change never touches what was used. It is answered once it is durable, with what is stored then.
//! 3. What is refused changes nothing.
//!
//! A PUT or DELETE that is repeated does nothing more: an `Idempotency-Key` is taken, and not needed.

mod body;
mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use serde::Serialize;

use crate::engine::{CapsChange, MeterCaps};
use crate::http::customers::check_name;
use crate::http::document;
use crate::http::idempotency::request_key;
use crate::http::params::{Params, PathName, PathNames};
use crate::http::problem::Problem;
use crate::http::read::read;
use crate::http::routes::App;
use crate::meter::caps::can_be_capped;
use crate::meter::{Cap, Meter};
use crate::model::Code;

pub use shown::CapShown;
use shown::MeterCapsShown;

/// A customer's caps.
#[derive(Serialize)]
pub struct CustomerCaps {
    customer: String,
    data: Vec<MeterCapsShown>,
}

/// A customer's caps on one meter.
#[derive(Serialize)]
pub struct OneMetersCaps {
    customer: String,
    #[serde(flatten)]
    caps: MeterCapsShown,
}

pub async fn list_caps(
    State(app): State<Arc<App>>,
    PathName(customer): PathName,
    params: Params,
) -> Result<Json<CustomerCaps>, Problem> {
    params.finish()?;
    check_name(&customer)?;
    let meters = app.engine.meters();
    let found = of_customer(&app, &customer).await?;
    let found = found.iter().filter(|entry| entry.own || !entry.caps.is_empty());
    let shown = found.filter_map(|entry| Some(MeterCapsShown::new(entry, &meters.get(entry.meter)?.definition)));
    let mut data: Vec<MeterCapsShown> = shown.collect();
    data.sort_by(|one, other| one.meter.cmp(&other.meter));
    Ok(Json(CustomerCaps { customer, data }))
}

pub async fn get_caps(
    State(app): State<Arc<App>>,
    PathNames(customer, slug): PathNames,
    params: Params,
) -> Result<Json<OneMetersCaps>, Problem> {
    params.finish()?;
    check_name(&customer)?;
    let meters = app.engine.meters();
    let meter = meters.by_slug(&slug).ok_or(Problem::UnknownMeter(slug))?;
    of_meter(&app, customer, meter).await.map(Json)
}

pub async fn put_caps(
    State(app): State<Arc<App>>,
    PathNames(customer, slug): PathNames,
    params: Params,
    request: Request,
) -> Result<Json<OneMetersCaps>, Problem> {
    params.finish()?;
    check_name(&customer)?;
    let meters = app.engine.meters();
    let meter = cappable(meters.by_slug(&slug).ok_or(Problem::UnknownMeter(slug))?)?;
    request_key(request.headers(), &[])?;
    let body = document::receive(&app, request).await?;
    let caps = body::read(&body, meter.definition.billing_period)?;
    change(&app, customer, meter, Some(caps)).await
}

pub async fn delete_caps(
    State(app): State<Arc<App>>,
    PathNames(customer, slug): PathNames,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<OneMetersCaps>, Problem> {
    params.finish()?;
    check_name(&customer)?;
    let meters = app.engine.meters();
    let meter = cappable(meters.by_slug(&slug).ok_or(Problem::UnknownMeter(slug))?)?;
    request_key(&headers, &[])?;
    change(&app, customer, meter, None).await
}

async fn change(
    app: &App,
    customer: String,
    meter: &Meter,
    caps: Option<Vec<Cap>>,
) -> Result<Json<OneMetersCaps>, Problem> {
    let change = CapsChange { tenant: app.tenant.clone(), customer: customer.clone(), meter: meter.id, caps };
    let answered = app.engine.put_caps(change).map_err(Problem::Refused)?;
    answered.await.map_err(|_| Problem::EngineFailed)?;
    of_meter(app, customer, meter).await.map(Json)
}

/// The meter, if what its events come to can be limited.
fn cappable(meter: &Meter) -> Result<&Meter, Problem> {
    if can_be_capped(&meter.definition) {
        return Ok(meter);
    }
    let (slug, aggregation) = (&meter.definition.slug, meter.definition.aggregation.as_str());
    let detail = format!(
        "meter {slug:?} has aggregation {aggregation:?}: caps are for \"count\" and \"sum\", whose values add up"
    );
    Err(Problem::coded(Code::InvalidField, String::new(), detail))
}

async fn of_customer(app: &App, customer: &str) -> Result<Vec<MeterCaps>, Problem> {
    let (tenant, name) = (app.tenant.clone(), customer.to_owned());
    read(app, move |view| Ok(view.caps(&tenant, &name))).await
}

async fn of_meter(app: &App, customer: String, meter: &Meter) -> Result<OneMetersCaps, Problem> {
    let found = of_customer(app, &customer).await?.into_iter().find(|entry| entry.meter == meter.id);
    let found = found.unwrap_or(MeterCaps { meter: meter.id, own: false, caps: Vec::new() });
    let caps = MeterCapsShown::new(&found, &meter.definition);
    Ok(OneMetersCaps { customer, caps })
}

#[cfg(test)]
mod tests;
