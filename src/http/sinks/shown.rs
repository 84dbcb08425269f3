//! A sink as JSON, and as a line of `/readyz?verbose`.

use serde::Serialize;

use crate::engine::{BreakerState, SinkHealth, SinkPause, SinkStatus};
use crate::model::{RowKind, Timestamp};

/// Characters of an error that go into a line.
const ERROR_CHARS_MAX: usize = 200;

/// What goes with a sink's status: the config, the process, the time.
pub struct SinkContext {
    pub configured: bool,
    pub health: SinkHealth,
    pub now: Timestamp,
}

#[derive(Debug, Serialize)]
pub struct SinkShown {
    name: String,
    /// False: it is in the config no more; its rows are kept until it is forgotten.
    configured: bool,
    kinds: Vec<&'static str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<PauseShown>,
    breaker: &'static str,
    /// When an open breaker lets an attempt through.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    in_flight: usize,
    pending: u64,
    dead_letters: u64,
    /// When the oldest row came about that is neither delivered nor a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_at: Option<String>,
    lag_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ErrorShown>,
}

#[derive(Debug, Serialize)]
struct PauseShown {
    cause: &'static str,
    reason: String,
    at: String,
}

#[derive(Debug, Serialize)]
struct ErrorShown {
    at: String,
    error: String,
}

impl SinkShown {
    pub fn new(sink: &SinkStatus, context: &SinkContext) -> Self {
        let health = &context.health;
        let (breaker, retry_at) = breaker(health.breaker);
        let lag = sink.oldest.map_or(0, |oldest| context.now.micros().saturating_sub(oldest.micros()).max(0));
        Self {
            name: sink.name.to_string(),
            configured: context.configured,
            kinds: sink.kinds.iter().map(RowKind::as_str).collect(),
            state: if sink.pause.is_some() { "paused" } else { "running" },
            paused: sink.pause.as_ref().map(PauseShown::new),
            breaker,
            retry_at: retry_at.map(|at| at.to_string()),
            in_flight: health.in_flight,
            pending: sink.pending,
            dead_letters: sink.dead,
            oldest_at: sink.oldest.map(|at| at.to_string()),
            lag_seconds: lag.unsigned_abs() / 1_000_000,
            last_success_at: health.last_success.map(|at| at.to_string()),
            last_error: health
                .last_error
                .as_ref()
                .map(|(at, error)| ErrorShown { at: at.to_string(), error: error.clone() }),
        }
    }
}

impl PauseShown {
    fn new(pause: &SinkPause) -> Self {
        Self { cause: pause.cause.as_str(), reason: pause.reason.clone(), at: pause.at.to_string() }
    }
}

fn breaker(state: BreakerState) -> (&'static str, Option<Timestamp>) {
    match state {
        BreakerState::Closed => ("closed", None),
        BreakerState::HalfOpen => ("half_open", None),
        BreakerState::Open { until } => ("open", Some(until)),
    }
}

/// `sink billing open, 3 pending, 0 dead letters, last error: …`: `running`, or what keeps it from it.
pub fn health_line(sink: &SinkStatus, context: &SinkContext) -> String {
    let health = &context.health;
    let state = match (&sink.pause, context.configured, health.breaker) {
        (Some(pause), _, _) => format!("paused ({})", pause.cause.as_str()),
        (None, false, _) => "not configured".to_owned(),
        (None, true, BreakerState::Closed) => "running".to_owned(),
        (None, true, BreakerState::HalfOpen) => "half_open".to_owned(),
        (None, true, BreakerState::Open { until }) => format!("open until {until}"),
    };
    let mut line = format!("sink {} {state}, {} pending, {} dead letters", sink.name, sink.pending, sink.dead);
    if let Some((_, error)) = &health.last_error {
        line.push_str(", last error: ");
        line.extend(error.chars().take(ERROR_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }));
    }
    line.push('\n');
    line
}
