//! The answer to an ingest request: counts, and the events that were not plainly accepted.
//!
//! `{"accepted","duplicate","conflict","rejected","capped","late","seq","events":[{"index","usage_event_id","outcome",
//! "seq"?,"code"?,"detail"?,"late"?}]}`; an event's `seq` is the record that holds its id, a duplicate's or conflict's the original's.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::engine::Answer;
use crate::http::ingest::ids::Ids;
use crate::http::instruments::Tally;
use crate::model::{Code, Outcome};

/// What an id conflict is.
pub const CONFLICT: &str = "the id was accepted before with another payload";
const VOIDED: &str = "it was taken back since: POST /v1/events:void";

#[derive(Serialize)]
struct Summary<'a> {
    accepted: u64,
    duplicate: u64,
    conflict: u64,
    rejected: u64,
    capped: u64,
    late: u64,
    seq: u64,
    events: Vec<EventResult<'a>>,
}

#[derive(Serialize)]
struct EventResult<'a> {
    index: usize,
    usage_event_id: Option<&'a str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// It became an adjustment.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
}

/// 200 if every event counts, 207 if some were not taken.
pub fn render(answer: &Answer, tally: &Tally, ids: &Ids, body: &str, all_results: bool) -> Response {
    let listed = |outcome: &Outcome| all_results || !matches!(outcome, Outcome::Accepted(_));
    let outcomes = answer.outcomes.iter().enumerate().filter(|(_, outcome)| listed(outcome));
    let summary = Summary {
        accepted: tally.accepted,
        duplicate: tally.duplicate,
        conflict: tally.conflict,
        rejected: tally.rejected,
        capped: tally.capped,
        late: answer.late.len() as u64,
        seq: answer.seq.0,
        events: outcomes.map(|(index, outcome)| event_result(answer, index, ids.get(body, index), outcome)).collect(),
    };
    let mut response = Response::new(Body::from(serde_json::to_vec(&summary).unwrap_or_default()));
    *response.status_mut() = if tally.all_taken() { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn event_result<'a>(
    answer: &Answer,
    index: usize,
    usage_event_id: Option<&'a str>,
    outcome: &'a Outcome,
) -> EventResult<'a> {
    let late = answer.late.binary_search(&(index as u32)).is_ok();
    let (seq, code, detail) = match outcome {
        Outcome::Accepted(seq) | Outcome::Duplicate(seq) => (Some(seq.0), None, None),
        Outcome::Voided(seq) => (Some(seq.0), Some(Code::Voided), Some(VOIDED)),
        Outcome::Conflict(seq) => (Some(seq.0), Some(Code::IdConflict), Some(CONFLICT)),
        Outcome::Rejected(code, detail) => (None, Some(*code), Some(detail.as_ref())),
        Outcome::Capped(detail) => (None, Some(Code::HardCap), Some(detail.as_ref())),
    };
    EventResult { index, usage_event_id, outcome: outcome.as_str(), seq, code: code.map(Code::as_str), detail, late }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Done;
    use crate::model::Seq;

    async fn rendered(outcomes: Vec<Outcome>, all_results: bool) -> (u16, serde_json::Value) {
        let answer = Answer { outcomes, seq: Seq(9), late: vec![0], done: Done::Done };
        let response = render(&answer, &Tally::of(&answer), &Ids::default(), "", all_results);
        let status = response.status().as_u16();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn accepted_events_are_listed_only_when_all_results_are_asked_for() {
        let (status, body) = rendered(vec![Outcome::Accepted(Seq(9))], false).await;
        let expected = serde_json::json!({
            "accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 0, "capped": 0, "late": 1, "seq": 9, "events": [],
        });
        assert_eq!((status, body), (200, expected));
        let (_, body) = rendered(vec![Outcome::Accepted(Seq(9))], true).await;
        let expected =
            serde_json::json!([{"index": 0, "usage_event_id": null, "outcome": "accepted", "seq": 9, "late": true}]);
        assert_eq!(body["events"], expected);
    }

    #[tokio::test]
    async fn a_retry_of_what_was_taken_back_is_a_listed_duplicate_that_says_so() {
        for all_results in [false, true] {
            let (status, body) = rendered(vec![Outcome::Voided(Seq(3))], all_results).await;
            assert_eq!((status, &body["duplicate"], &body["accepted"]), (200, &1.into(), &0.into()));
            let expected = serde_json::json!([{
                "index": 0, "usage_event_id": null, "outcome": "duplicate", "seq": 3, "code": "voided",
                "detail": "it was taken back since: POST /v1/events:void", "late": true,
            }]);
            assert_eq!(body["events"], expected);
        }
    }

    #[tokio::test]
    async fn duplicates_are_success_and_conflicts_and_rejections_are_207() {
        assert_eq!(rendered(vec![Outcome::Duplicate(Seq(3))], false).await.0, 200);
        assert_eq!(rendered(vec![], false).await.0, 200);
        let rejected = Outcome::Rejected(Code::TooLate, "older than 32 days".into());
        let (status, body) = rendered(vec![Outcome::Conflict(Seq(3)), rejected], false).await;
        assert_eq!(status, 207);
        assert_eq!(body["events"][0]["code"], "id_conflict");
        assert_eq!(body["events"][0]["seq"], 3);
        let expected = serde_json::json!({
            "index": 1, "usage_event_id": null, "outcome": "rejected", "code": "too_late", "detail": "older than 32 days",
        });
        assert_eq!(body["events"][1], expected);
    }
}
