//! Every error a client can get: one place that maps them to statuses, written as RFC 9457 problem details.
//!
//! Body: `{"type":"about:blank","title","status","detail"}`, and where it applies `parameter` (the query or path parameter
//! at fault), `code` (a stable name that clients may match on), `pointer` (the member of the body at fault, RFC 6901),
//! `offset` and `line` (where an unreadable body stops making sense), `limit`.

use axum::body::Body;
use axum::http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;

use crate::engine::{EvidenceError, FindError, ReadError, Refusal, Refused};
use crate::http::ingest::FramingError;
use crate::meter;
use crate::metrics::INGEST_REFUSED;
use crate::model::Code;

/// Seconds after which a client that was turned away may try again.
const RETRY_AFTER_SECS: &str = "1";
pub const PROBLEM_JSON: &str = "application/problem+json";

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("{detail}")]
    Parameter { name: String, detail: String },
    /// A member of the body; `pointer` is empty if it is the whole.
    #[error("{detail}")]
    Member { pointer: String, detail: String },
    /// With a name that clients may match on; `pointer` is the member of the body at fault, if one is.
    #[error("{detail}")]
    Coded { status: StatusCode, code: &'static str, pointer: Option<String>, detail: String },
    /// What a parameter names is not there.
    #[error("{detail}")]
    Absent { name: &'static str, detail: String },
    #[error("the path holds percent-encoded bytes that are not UTF-8")]
    Path,
    #[error("nothing is served at this path")]
    NoRoute,
    #[error("this path does not take this method")]
    NoMethod,
    #[error("there is no meter {0:?}")]
    UnknownMeter(String),
    #[error("{0}")]
    Unreadable(FramingError),
    #[error("the body cannot be decompressed: {0}")]
    Undecodable(String),
    #[error("the body broke off")]
    BodyBroken,
    #[error("the body took longer than {seconds} s to arrive")]
    BodyTimeout { seconds: u64 },
    #[error("the body is longer than {limit} bytes")]
    BodyTooLong { limit: usize },
    #[error("the decompressed body is longer than {limit} bytes")]
    DecodedTooLong { limit: usize },
    #[error("the request holds more than {limit} events")]
    TooManyEvents { limit: usize },
    #[error("{0}")]
    BatchTooLarge(String),
    #[error("{0}")]
    ContentType(String),
    #[error("content encoding {0:?} is not supported: send gzip, zstd or none")]
    ContentEncoding(String),
    #[error("the total leaves the range of about ±1.7e26: ask for shorter windows or group by customer")]
    TotalOverflow,
    #[error("as many totals are being streamed as the daemon streams at once: try again, or ask for pages with limit")]
    TooManyStreams,
    #[error("{}", refusal_text(*.0))]
    Refused(Refusal),
    /// An operator's request that changed nothing.
    #[error("{0}")]
    Undone(Refused),
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("the index of ids cannot be read; nothing of this request was taken")]
    IndexUnreadable,
    #[error("what the store holds cannot be read")]
    StoreUnreadable,
    #[error("the daemon failed and is going down; whether the events counted is unknown, a retry is safe")]
    EngineFailed,
}

fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Overloaded => "more events are waiting than the daemon may hold; nothing of this request was taken",
        Refusal::Stopping => "the daemon is stopping; nothing of this request was taken",
        Refusal::DiskFull => "the data directory's disk is nearly full; nothing of this request was taken",
    }
}

/// The RFC 6901 pointer of an object's member.
pub fn pointer(object: &str, name: &str) -> String {
    format!("{object}/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl Problem {
    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Problem::Parameter { name: name.into(), detail: detail.into() }
    }

    /// `name` is the member's, `fault` what is wrong with it.
    pub fn member(name: &str, fault: impl std::fmt::Display) -> Self {
        let pointer = pointer("", name);
        Problem::Member { detail: format!("{pointer} {fault}"), pointer }
    }

    /// A member anywhere in the body, or all of it; `fault` is what is wrong with it.
    pub fn at(code: &'static str, pointer: &str, fault: impl std::fmt::Display) -> Self {
        let whole = if pointer.is_empty() { "the body" } else { pointer };
        let (status, detail) = (StatusCode::BAD_REQUEST, format!("{whole} {fault}"));
        Problem::Coded { status, code, pointer: Some(pointer.to_owned()), detail }
    }

    /// A member of the body that is refused, and by which rule.
    pub fn coded(code: Code, pointer: String, detail: impl Into<String>) -> Self {
        let (status, code) = (StatusCode::BAD_REQUEST, code.as_str());
        Problem::Coded { status, code, pointer: Some(pointer), detail: detail.into() }
    }

    /// What is asked for is not there, nor by another name.
    pub fn absent(code: &'static str, detail: impl Into<String>) -> Self {
        Problem::Coded { status: StatusCode::NOT_FOUND, code, pointer: None, detail: detail.into() }
    }

    /// What is asked for does not go with what is there.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Problem::Coded { status: StatusCode::CONFLICT, code, pointer: None, detail: detail.into() }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Problem::Coded { status, .. } => *status,
            Problem::BadRequest(_) | Problem::Parameter { .. } | Problem::Path => StatusCode::BAD_REQUEST,
            Problem::Member { .. } => StatusCode::BAD_REQUEST,
            Problem::Unreadable(_) | Problem::Undecodable(_) | Problem::BodyBroken => StatusCode::BAD_REQUEST,
            Problem::NoRoute | Problem::UnknownMeter(_) | Problem::Absent { .. } => StatusCode::NOT_FOUND,
            Problem::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Problem::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Problem::BodyTooLong { .. }
            | Problem::DecodedTooLong { .. }
            | Problem::TooManyEvents { .. }
            | Problem::BatchTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::ContentType(_) | Problem::ContentEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Problem::TotalOverflow => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::Refused(Refusal::Overloaded | Refusal::Stopping) => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Undone(Refused::UnknownSink | Refused::UnknownDelivery) => StatusCode::NOT_FOUND,
            Problem::Undone(Refused::KeyReused) => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::Undone(
                Refused::NotDead
                | Refused::NotPending
                | Refused::OutOfPlace
                | Refused::NotCommitted
                | Refused::StillConfigured,
            ) => StatusCode::CONFLICT,
            Problem::NotReady(_) | Problem::TooManyStreams => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Refused(Refusal::DiskFull) => StatusCode::INSUFFICIENT_STORAGE,
            Problem::IndexUnreadable | Problem::StoreUnreadable | Problem::EngineFailed => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// True if the rest of the request is not read, so that the connection cannot be used again.
    fn closes(&self) -> bool {
        matches!(self, Problem::BodyTimeout { .. } | Problem::BodyBroken | Problem::BodyTooLong { .. })
    }

    fn details(&self) -> Details<'_> {
        let status = self.status();
        let mut details = Details {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.to_string(),
            code: None,
            parameter: None,
            pointer: None,
            offset: None,
            line: None,
            limit: None,
        };
        match self {
            Problem::Parameter { name, .. } => details.parameter = Some(name),
            Problem::Absent { name, .. } => details.parameter = Some(name),
            Problem::Undone(Refused::UnknownSink) => details.parameter = Some("sink"),
            Problem::Undone(Refused::UnknownDelivery) => details.parameter = Some("delivery"),
            Problem::Member { pointer, .. } => {
                (details.code, details.pointer) = (Some(Code::InvalidField.as_str()), Some(pointer.as_str()));
            }
            Problem::UnknownMeter(_) => details.code = Some(Code::UnknownMeter.as_str()),
            Problem::Coded { code, pointer, .. } => (details.code, details.pointer) = (Some(*code), pointer.as_deref()),
            Problem::Unreadable(error) => (details.offset, details.line) = (error.offset(), error.line()),
            Problem::BodyTooLong { limit } | Problem::DecodedTooLong { limit } | Problem::TooManyEvents { limit } => {
                details.limit = Some(*limit);
            }
            _ => {}
        }
        details
    }
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
}

impl From<FramingError> for Problem {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::TooManyEvents { limit } => Problem::TooManyEvents { limit },
            error => Problem::Unreadable(error),
        }
    }
}

/// An ingest request is refused whole: counted by reason.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::Overloaded => "overloaded",
            Refusal::DiskFull => "disk_full",
            Refusal::Stopping => "stopping",
        };
        metrics::counter!(INGEST_REFUSED, "reason" => reason).increment(1);
        Problem::Refused(refusal)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Merge(refusal) => Problem::from(refusal),
            ReadError::Store(_) | ReadError::Damaged(_) => {
                tracing::error!(%error, "a read failed");
                Problem::StoreUnreadable
            }
        }
    }
}

impl From<EvidenceError> for Problem {
    fn from(error: EvidenceError) -> Self {
        tracing::error!(%error, "the events in the journal cannot be read");
        Problem::StoreUnreadable
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Refused(refusal) => Problem::Refused(refusal),
            FindError::Store(_) => {
                tracing::error!(%error, "the index of ids cannot be read");
                Problem::IndexUnreadable
            }
        }
    }
}

/// Windows of one row cannot be merged.
impl From<meter::Refusal> for Problem {
    fn from(_: meter::Refusal) -> Self {
        Problem::TotalOverflow
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = self.status();
        let body = serde_json::to_vec(&self.details()).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let mut set = |name: HeaderName, value: &'static str| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        set(CONTENT_TYPE, PROBLEM_JSON);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            set(RETRY_AFTER, RETRY_AFTER_SECS);
        }
        if matches!(self, Problem::ContentEncoding(_)) {
            set(ACCEPT_ENCODING, "gzip, zstd");
        }
        if self.closes() {
            set(CONNECTION, "close");
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ingest::FramingError;

    #[tokio::test]
    async fn problems_carry_exactly_the_problem_content_type_and_where_the_fault_is() {
        let response = Problem::from(FramingError::NotUtf8 { offset: 7 }).into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "detail": "byte 7 is not UTF-8", "offset": 7,
        });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn a_member_is_pointed_at_and_a_missing_thing_named() {
        for (problem, status, member, value) in [
            (Problem::member("a/~b", "is odd"), 400, "pointer", "/a~1~0b"),
            (Problem::Absent { name: "period", detail: "none".into() }, 404, "parameter", "period"),
        ] {
            let response = problem.into_response();
            assert_eq!(response.status(), status);
            let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body[member], value);
        }
    }

    #[tokio::test]
    async fn a_code_goes_with_a_pointer_or_alone() {
        for (problem, status, code, pointer) in [
            (Problem::coded(Code::InvalidField, "/3/meter".into(), "no"), 400, "invalid_field", Some("/3/meter")),
            (Problem::conflict("hard_cap", "no"), 409, "hard_cap", None),
        ] {
            let response = problem.into_response();
            assert_eq!(response.status(), status);
            let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((body["code"].as_str(), body["pointer"].as_str()), (Some(code), pointer));
        }
    }

    #[tokio::test]
    async fn what_a_client_may_match_on_has_a_code() {
        for (problem, code, pointer) in [
            (Problem::member("plan", "is odd"), "invalid_field", Some("/plan")),
            (Problem::at("invalid_quantity", "/0/soft/1", "is negative"), "invalid_quantity", Some("/0/soft/1")),
            (Problem::at("invalid_field", "", "must be an object"), "invalid_field", Some("")),
            (Problem::UnknownMeter("m".into()), "unknown_meter", None),
        ] {
            let body = axum::body::to_bytes(problem.into_response().into_body(), 1 << 16).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((body["code"].as_str(), body["pointer"].as_str()), (Some(code), pointer));
        }
    }

    #[test]
    fn what_changed_nothing_says_whether_it_was_absent_a_conflict_or_a_reused_key() {
        for (refused, status) in [
            (Refused::UnknownSink, 404),
            (Refused::UnknownDelivery, 404),
            (Refused::NotDead, 409),
            (Refused::NotPending, 409),
            (Refused::OutOfPlace, 409),
            (Refused::StillConfigured, 409),
            (Refused::NotCommitted, 409),
            (Refused::KeyReused, 422),
        ] {
            assert_eq!(Problem::Undone(refused).status(), status, "{refused}");
        }
    }

    #[test]
    fn retry_after_goes_with_503_only() {
        for (problem, status, retries) in [
            (Problem::Refused(Refusal::Overloaded), 503, true),
            (Problem::Refused(Refusal::Stopping), 503, true),
            (Problem::Refused(Refusal::DiskFull), 507, false),
            (Problem::EngineFailed, 500, false),
            (Problem::TooManyStreams, 503, true),
            (Problem::BodyTimeout { seconds: 30 }, 408, false),
            (Problem::NoMethod, 405, false),
        ] {
            let response = problem.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), retries, "{status}");
        }
    }
}
