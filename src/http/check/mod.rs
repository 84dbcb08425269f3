//! `POST /v1/check`: may a customer use so much more of a meter? It is on the path of customers' own requests.
//!
//! | file | does |
//! | --- | --- |
//! | `request` | the body, one check or an array of them, to checks; those that consume also to events |
//! | `answer` | verdicts and outcomes to JSON |
//!
//! `{"customer","meter","quantity"?}` is answered from memory: nothing is waited for, and nothing is refused because ingest
//! is busy or the disk full. With `"mode": "consume"` and a `usage_event_id` the usage is counted too, in the step that
//! decides, as if it had been sent to `/v1/events`; the answer then is durable.
//!
//! 1. A body is taken whole or refused whole: before anything is consumed every check of it is valid.
//! 2. What one request consumes is decided in its order; all its verdicts are as of after that.
//! 3. A check costs no look-up of a metric, no other thread and no lock but the state's, which it reads.

mod answer;
mod request;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use metrics::{Counter, counter};

use crate::engine::{Engine, View};
use crate::http::body::Room;
use crate::http::document;
use crate::http::ingest::door;
use crate::http::ingest::framing;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::routes::{App, method_label, request_counter};
use crate::meter::Meters;
use crate::metrics::CHECKS;
use crate::model::Outcome;

use request::Checks;

pub const PATH: &str = "/v1/check";
/// The longest body, in bytes: as many checks as are taken, of some hundred bytes each.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What every check needs, looked up once.
pub struct Desk {
    view: View,
    meters: Arc<Meters>,
    allowed: Counter,
    denied: Counter,
    answered: Counter,
}

impl Desk {
    pub fn new(engine: &Engine) -> Self {
        let result = |result: &'static str| counter!(CHECKS, "result" => result);
        Self {
            view: engine.view(),
            meters: engine.meters(),
            allowed: result("allowed"),
            denied: result("denied"),
            answered: request_counter(PATH.to_owned(), "POST", StatusCode::OK),
        }
    }
}

pub async fn post_check(State(app): State<Arc<App>>, request: Request) -> Response {
    match check(&app, request).await {
        Ok(body) => {
            app.checks.answered.increment(1);
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(problem) => counted(&Method::POST, problem),
    }
}

pub async fn no_method(method: Method) -> Response {
    counted(&method, Problem::NoMethod)
}

fn counted(method: &Method, problem: Problem) -> Response {
    let response = problem.into_response();
    request_counter(PATH.to_owned(), method_label(method), response.status()).increment(1);
    response
}

async fn check(app: &Arc<App>, request: Request) -> Result<Vec<u8>, Problem> {
    let (mut parts, body) = request.into_parts();
    Params::from_request_parts(&mut parts, &()).await?.finish()?;
    let mut room = Room::for_reading(&app.engine);
    let request = Request::from_parts(parts, body);
    let body = document::receive_within(app, request, BODY_BYTES_MAX, &mut room).await?;
    let Desk { view, meters, allowed, denied, .. } = &app.checks;
    let mut checks = Checks::read(framing::utf8(&body)?, meters)?;
    let events = std::mem::take(&mut checks.events);
    let outcomes = if events.is_empty() { Vec::new() } else { consume(app, &checks, events).await? };
    let verdict = |customer: &str, meter, quantity| view.check(&app.tenant, customer, meter, quantity);
    let (body, tally) = answer::render(&checks, &outcomes, meters, verdict)?;
    allowed.increment(tally.allowed);
    denied.increment(tally.denied);
    Ok(body)
}

/// Counts what is to be consumed: one outcome for each such check.
async fn consume(app: &Arc<App>, checks: &Checks<'_>, events: String) -> Result<Vec<Outcome>, Problem> {
    match door::submit(app, events, None).await {
        Ok(answer) => Ok(answer.outcomes),
        Err(door::Refused::Problem(problem)) => Err(problem),
        Err(door::Refused::Fault(fault)) => Err(checks.refused(&fault, &app.checks.meters)),
    }
}

#[cfg(test)]
mod tests;
