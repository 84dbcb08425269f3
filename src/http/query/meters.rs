//! `GET /v1/meters` and `/v1/meters/{meter}`: definitions, as the log holds them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::query::cursor;
use crate::http::query::{PAGE_DEFAULT, PAGE_MAX};
use crate::http::routes::App;
use crate::meter::{Definition, Meter};

/// One page of a list.
#[derive(Serialize)]
pub struct Page<T> {
    pub data: Vec<T>,
    pub next_cursor: Option<String>,
}

/// Every meter, by slug.
pub async fn list_meters(State(app): State<Arc<App>>, mut params: Params) -> Result<Json<Page<Definition>>, Problem> {
    let limit = params.take_limit(PAGE_DEFAULT, PAGE_MAX)?;
    let after = params.take("cursor")?.map(|text| cursor::decode_text(&text)).transpose()?;
    params.finish()?;
    let meters = app.engine.meters();
    let mut found: Vec<&Definition> = meters.iter().map(|meter: &Meter| &meter.definition).collect();
    found.retain(|meter| after.as_ref().is_none_or(|after| meter.slug > *after));
    found.sort_unstable_by(|a, b| a.slug.cmp(&b.slug));
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| cursor::encode_text(&last.slug));
    Ok(Json(Page { data: found.into_iter().cloned().collect(), next_cursor }))
}

pub async fn get_meter(
    State(app): State<Arc<App>>,
    PathName(slug): PathName,
    params: Params,
) -> Result<Json<Definition>, Problem> {
    params.finish()?;
    let meters = app.engine.meters();
    let meter = meters.by_slug(&slug).ok_or(Problem::UnknownMeter(slug))?;
    Ok(Json(meter.definition.clone()))
}
