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
use crate::http::document;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::routes::App;

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
    let reason = document::reason(&body)?;
    let answered = app.engine.reset_clock(&reason).map_err(Problem::Refused)?;
    answered.await.map_err(|_| Problem::EngineFailed)?;
    Ok(Json(Clock::new(&app.engine.clock())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Paused;
    use crate::model::Timestamp;

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
