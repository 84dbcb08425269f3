use serde_json::json;

use super::*;
use crate::engine::{BreakerState, SinkHealth};
use crate::model::{RowKinds, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000).unwrap()
}

fn status() -> SinkStatus {
    SinkStatus { name: "billing".into(), kinds: RowKinds::ALL, pause: None, pending: 3, dead: 0, oldest: None }
}

fn context(health: SinkHealth) -> SinkContext {
    SinkContext { configured: true, health, now: at(100) }
}

fn broken() -> SinkHealth {
    SinkHealth {
        breaker: BreakerState::Open { until: at(130) },
        in_flight: 2,
        last_success: Some(at(50)),
        last_error: Some((at(99), "connection\nrefused".into())),
    }
}

fn paused() -> SinkStatus {
    SinkStatus { pause: Some(SinkPause { cause: PauseCause::Gone, reason: "410".into(), at: at(9) }), ..status() }
}

#[test]
fn a_sink_at_rest_says_little() {
    assert_eq!(
        serde_json::to_value(SinkShown::new(&status(), &context(SinkHealth::default()))).unwrap(),
        json!({
            "name": "billing", "configured": true, "kinds": ["windows", "adjustments", "alerts"], "state": "running",
            "breaker": "closed", "in_flight": 0, "pending": 3, "dead_letters": 0, "lag_seconds": 0,
        })
    );
}

#[test]
fn a_sink_in_trouble_says_what_it_is() {
    let sink = SinkStatus { oldest: Some(at(40)), dead: 4, ..paused() };
    let context = SinkContext { configured: false, ..context(broken()) };
    assert_eq!(
        serde_json::to_value(SinkShown::new(&sink, &context)).unwrap(),
        json!({
            "name": "billing", "configured": false, "kinds": ["windows", "adjustments", "alerts"], "state": "paused",
            "paused": {"cause": "gone", "reason": "410", "at": "1970-01-01T00:00:09Z"},
            "breaker": "open", "retry_at": "1970-01-01T00:02:10Z", "in_flight": 2, "pending": 3, "dead_letters": 4,
            "oldest_at": "1970-01-01T00:00:40Z", "lag_seconds": 60, "last_success_at": "1970-01-01T00:00:50Z",
            "last_error": {"at": "1970-01-01T00:01:39Z", "error": "connection\nrefused"},
        })
    );
    let ahead = SinkStatus { oldest: Some(at(1_000)), ..status() };
    let shown = serde_json::to_value(SinkShown::new(&ahead, &context)).unwrap();
    assert_eq!(shown["lag_seconds"], 0, "a clock that went back makes no negative lag");
}

#[test]
fn a_line_of_health_has_one_line_whatever_the_error_says() {
    assert_eq!(
        health_line(&status(), &context(SinkHealth::default())),
        "sink billing running, 3 pending, 0 dead letters\n"
    );
    assert_eq!(
        health_line(&status(), &context(broken())),
        "sink billing open until 1970-01-01T00:02:10Z, 3 pending, 0 dead letters, last error: connection refused\n"
    );
    let half_open = SinkHealth { breaker: BreakerState::HalfOpen, ..SinkHealth::default() };
    assert!(health_line(&status(), &context(half_open)).starts_with("sink billing half_open, "));
    assert!(health_line(&paused(), &context(broken())).starts_with("sink billing paused (gone), "));
    let gone = SinkContext { configured: false, ..context(SinkHealth::default()) };
    assert!(health_line(&status(), &gone).starts_with("sink billing not configured, "));
}

#[test]
fn an_action_follows_the_name_and_a_colon() {
    for (text, action) in [("a:pause", Action::Pause), ("a:resume", Action::Resume), ("a:forget", Action::Forget)] {
        assert_eq!(parse(text).unwrap(), ("a", action));
    }
    assert_eq!(parse("a").unwrap_err().status(), 405);
    assert_eq!(parse("a:stop").unwrap_err().status(), 404);
}
