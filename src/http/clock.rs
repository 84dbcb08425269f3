//! `GET /v1/clock` and `POST /v1/clock:reset`: the time that windows close by, and an operator's word that the machine's
//! clock is right.
//!
//! `{"wall","effective","paused","expected"?,"jumped_to"?}`: `effective` is null before the log knows a time; `expected` is
//! what the clock should have shown, and `jumped_to` what it showed, when closing was paused.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;

use crate::engine::ClockStatus;
use crate::http::document::{self, unknown_member};
use crate::http::ingest::json::{Item, Value};
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::routes::App;

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

#[derive(Debug, Serialize)]
pub struct Clock {
    wall: String,
    effective: Option<String>,
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jumped_to: Option<String>,
}

impl Clock {
    fn new(status: &ClockStatus) -> Self {
        Self {
            wall: status.wall.to_string(),
            effective: status.effective.map(|at| at.to_string()),
            paused: status.paused.is_some(),
            expected: status.paused.map(|paused| paused.expected.to_string()),
            jumped_to: status.paused.map(|paused| paused.since_wall.to_string()),
        }
    }
}

pub async fn get_clock(State(app): State<Arc<App>>, params: Params) -> Result<Json<Clock>, Problem> {
    params.finish()?;
    Ok(Json(Clock::new(&app.engine.clock())))
}

/// Takes the wall clock as it is now; answers once that is durable. The engine records and logs the reason.
pub async fn reset_clock(
    State(app): State<Arc<App>>,
    params: Params,
    request: Request,
) -> Result<Json<Clock>, Problem> {
    params.finish()?;
    let body = document::receive(&app, request).await?;
    let reason = read_reason(&body)?;
    let answered = app.engine.reset_clock(reason.as_deref().unwrap_or_default()).map_err(Problem::Refused)?;
    answered.await.map_err(|_| Problem::EngineFailed)?;
    Ok(Json(Clock::new(&app.engine.clock())))
}

/// The reason, if the body gives one.
fn read_reason(body: &[u8]) -> Result<Option<String>, Problem> {
    let mut reason = None;
    if body.is_empty() {
        return Ok(reason);
    }
    document::members(body, |name, value: Item<'_, '_>| {
        match (name, value.value()) {
            ("reason", Value::Null) => {}
            ("reason", Value::Text(text)) if text.len() <= REASON_BYTES_MAX => reason = Some(text.to_string()),
            ("reason", _) => return Err(Problem::member("reason", "must be a string of at most 1,024 bytes")),
            _ => return Err(unknown_member(name)),
        }
        Ok(())
    })?;
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Paused;
    use crate::model::Timestamp;

    #[test]
    fn the_reason_is_optional_and_a_string() {
        for (body, expected) in
            [("", None), ("{}", None), (r#"{"reason":null}"#, None), (r#"{"reason":"NTP\n"}"#, Some("NTP\n"))]
        {
            assert_eq!(read_reason(body.as_bytes()).unwrap().as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(REASON_BYTES_MAX + 1));
        for (body, expected) in [(r#"{"reason":1}"#, "/reason"), (r#"{"why":"x"}"#, "/why"), (&long, "/reason")] {
            assert!(
                matches!(read_reason(body.as_bytes()), Err(Problem::Member { pointer, .. }) if pointer == expected)
            );
        }
    }

    #[test]
    fn says_what_was_expected_only_while_closing_is_paused() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000).unwrap();
        let mut status = ClockStatus { wall: at(9), effective: None, paused: None };
        let json = |status: &ClockStatus| serde_json::to_value(Clock::new(status)).unwrap();
        let expected = serde_json::json!({"wall": "1970-01-01T00:00:09Z", "effective": null, "paused": false});
        assert_eq!(json(&status), expected);
        status.effective = Some(at(2));
        status.paused = Some(Paused { expected: at(3), since_wall: at(8) });
        let expected = serde_json::json!({
            "wall": "1970-01-01T00:00:09Z", "effective": "1970-01-01T00:00:02Z", "paused": true,
            "expected": "1970-01-01T00:00:03Z", "jumped_to": "1970-01-01T00:00:08Z",
        });
        assert_eq!(json(&status), expected);
    }
}
