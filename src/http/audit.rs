//! `GET /v1/audit`: who changed what, in the order in which it was recorded.
//!
//! `{"id","at","by","action","target","before","after"}`: `by` is the id of an API key, `config` for what a start found
//! changed, null without keys; `before` and `after` are JSON of any kind, null where there was nothing.
//!
//! `since` and `cursor` are an entry's id, exclusive, or `0` for the beginning: a client that keeps the last id it saw never
//! misses one and never sees one twice. `action` chooses by how actions begin: `event.`, `caps.put`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::engine::{TrailEntry, TrailQuery};
use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::query::Page;
use crate::http::read::read;
use crate::http::routes::App;
use crate::model::Seq;

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 100;
/// The largest page.
const PAGE_MAX: usize = 1_000;

#[derive(Debug, Serialize)]
pub struct EntryShown {
    id: String,
    at: String,
    by: Option<String>,
    action: String,
    target: String,
    before: Option<Box<RawValue>>,
    after: Option<Box<RawValue>>,
}

impl EntryShown {
    fn new(entry: TrailEntry) -> Self {
        // What is no JSON, which nobody writes, is shown as text.
        let parsed = |text: String| RawValue::from_string(text.clone()).or_else(|_| to_raw_value(&text)).ok();
        let json = |text: Option<String>| text.and_then(parsed);
        Self {
            id: entry.seq.to_string(),
            at: entry.at.to_string(),
            by: entry.by,
            action: entry.action,
            target: entry.target,
            before: json(entry.before),
            after: json(entry.after),
        }
    }
}

pub async fn list_audit(State(app): State<Arc<App>>, mut params: Params) -> Result<Json<Page<EntryShown>>, Problem> {
    let (since, cursor) = (take_id(&mut params, "since")?, take_id(&mut params, "cursor")?);
    let action = params.take("action")?;
    if let Some(action) = &action {
        PathName::check_length("action", action)?;
    }
    let limit = params.take_limit(PAGE_DEFAULT, PAGE_MAX)?;
    params.finish()?;
    let query = TrailQuery { tenant: app.tenant.clone(), since: since.max(cursor), action, limit };
    let page = read(&app, move |view| {
        let page = view.trail(&query)?;
        let data: Vec<EntryShown> = page.rows.into_iter().map(EntryShown::new).collect();
        let next_cursor = data.last().filter(|_| page.more).map(|last| last.id.clone());
        Ok((Page { data, next_cursor }, page.seq))
    })
    .await?;
    Ok(Json(page))
}

/// An entry's id: digits only, which `parse` alone would not ask for.
fn take_id(params: &mut Params, name: &'static str) -> Result<Seq, Problem> {
    let Some(text) = params.take(name)? else { return Ok(Seq::ZERO) };
    let id = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let refuse = || Problem::parameter(name, format!("parameter {name:?} must be an entry's id, like \"123\", or 0"));
    id.map(Seq).ok_or_else(refuse)
}

#[cfg(test)]
mod tests;
