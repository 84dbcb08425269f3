use super::*;
use crate::delivery::testing::{adjusted, alert, alert_of, at, crossed, message, row, row_of, usage};
use crate::engine::UsageRow;
use crate::engine::caps::{Alert, AlertState};
use crate::model::{RowKind, Timestamp};

/// Rows that differ in length.
fn rows(count: u32) -> Vec<OutboxRow> {
    let named = |number: u32| UsageRow { customer: "c".repeat(number as usize % 40 + 1), ..usage(number) };
    (0..count).map(|number| row_of(number, named(number))).collect()
}

fn text(message: &Message) -> String {
    String::from_utf8(json(message).unwrap().to_vec()).unwrap()
}

#[test]
fn writes_the_type_the_time_of_planning_and_the_rows() {
    let hash = "ab".repeat(32);
    let expected = format!(
        "{{\"type\":\"window.finalized\",\"timestamp\":\"2026-10-01T02:00:01Z\",\"data\":{{\"rows\":[\
         {{\"tenant\":\"default\",\"customer\":\"c1\",\"meter\":\"tokens\",\"dimensions\":{{\"model\":\"m1\"}},\
         \"window_start\":\"2026-10-01T00:00:00Z\",\"window_end\":\"2026-10-01T01:00:00Z\",\"value\":\"7\",\
         \"event_count\":3,\"revision\":0,\"incarnation\":1,\"hash\":\"{hash}\"}}]}}}}"
    );
    assert_eq!(text(&message(7, vec![row(1)])), expected);
}

#[test]
fn an_adjustment_says_so_and_carries_its_delta() {
    let late = UsageRow { change: adjusted("-2"), revision: 1, ..usage(1) };
    let body = text(&message(7, vec![row_of(1, late)]));
    assert!(body.starts_with("{\"type\":\"window.adjusted\","), "{body}");
    assert!(body.contains("\"revision\":1,\"incarnation\":1,\"delta\":\"-2\",\"hash\""), "{body}");
}

#[test]
fn an_alert_says_what_happened_when_it_was_planned_and_all_of_itself() {
    let start = "{\"type\":\"alert.triggered\",\"timestamp\":\"2026-10-01T02:00:01Z\",\"data\":{\"alert_id\":\"alert_";
    let body = text(&message(7, vec![alert(1)]));
    assert!(body.starts_with(start), "{body}");
    let rest = "\"tenant\":\"default\",\"customer\":\"c1\",\"meter\":\"tokens\",\"cap\":\"default\",\"threshold\":\"80%\",\
        \"amount\":\"800\",\"used\":\"812.5\",\"hard\":\"1000\",\"soft\":[\"500\",\"80%\"],\"period\":\"2026-10\",\
        \"period_start\":\"2026-10-01T00:00:00Z\",\"period_end\":\"2026-11-01T00:00:00Z\",\"generation\":1,\
        \"enforce\":true,\"event\":{\"usage_event_id\":\"e-1\",\"seq\":199},\"late\":false,\
        \"at\":\"2026-10-20T10:00:00Z\"}}";
    assert_eq!(&body[start.len() + 32..], format!("\",{rest}"));
    let recovered = Alert { state: AlertState::Recovered, ..crossed(1) };
    let recovered = text(&message(7, vec![alert_of(1, recovered)]));
    assert_eq!(recovered, body.replace("triggered", "recovered"));
}

#[test]
fn several_alerts_make_no_message() {
    let many = json(&message(7, vec![alert(1), alert(2)]));
    assert_eq!(many, Err(ManyAlerts(2)));
}

#[test]
fn the_longest_alert_stays_under_the_bodys_limit() {
    let mut longest = crossed(1);
    let name = "\"".repeat(256);
    longest.tenant.clone_from(&name);
    longest.customer.clone_from(&name);
    longest.meter.clone_from(&name);
    longest.cap.id.clone_from(&name);
    longest.cap.soft =
        vec![format!("{}.{}", "9".repeat(26), "9".repeat(12)).parse().unwrap(); crate::meter::caps::SOFT_MAX];
    longest.event.as_mut().unwrap().usage_event_id = name;
    assert!(json(&message(7, vec![alert_of(1, longest)])).unwrap().len() < BODY_BYTES_MAX);
}

#[test]
fn the_bytes_do_not_depend_on_the_attempt() {
    for rows in [rows(5), vec![alert(1)]] {
        let first = message(7, rows);
        let later = Message { now: at("2026-10-04T05:00:00Z"), ..first.clone() };
        assert_eq!(json(&first), json(&later));
    }
}

#[test]
fn a_rows_bytes_are_what_it_adds_to_the_body() {
    let all = rows(30);
    for count in 1..all.len() {
        let shorter = text(&message(7, all[..count].to_vec())).len();
        let longer = text(&message(7, all[..=count].to_vec())).len();
        assert_eq!(longer - shorter, row_bytes(&all[count]), "{count}");
    }
}

#[test]
fn a_message_filled_to_the_limit_stays_under_the_bodys_limit() {
    for planned_at in [Timestamp::MIN, at("2026-10-01T02:00:01.123456Z"), Timestamp::MAX] {
        for kind in [RowKind::Windows, RowKind::Adjustments] {
            let mut full = Message { kind, planned_at, ..message(7, rows(20)) };
            let used: usize = full.rows.iter().map(row_bytes).sum();
            // The last row fills what is left, to the byte.
            let named = |customer: String| row_of(0, UsageRow { customer, ..usage(0) });
            let left = ROWS_BYTES_MAX - used - row_bytes(&named(String::new()));
            full.rows.push(named("c".repeat(left)));
            assert_eq!(full.rows.iter().map(row_bytes).sum::<usize>(), ROWS_BYTES_MAX);
            let bytes = text(&full).len();
            assert!((BODY_BYTES_MAX - ENVELOPE_BYTES_MAX..BODY_BYTES_MAX).contains(&bytes), "{bytes}");
        }
    }
}
