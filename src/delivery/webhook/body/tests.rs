use super::*;
use crate::delivery::testing::{at, message, row};
use crate::model::{Quantity, RowKind, Timestamp};

/// Rows that differ in length.
fn rows(count: u32) -> Vec<OutboxRow> {
    (0..count).map(|number| OutboxRow { customer: "c".repeat(number as usize % 40 + 1), ..row(number) }).collect()
}

fn text(message: &Message) -> String {
    String::from_utf8(json(message).to_vec()).unwrap()
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
    let late =
        OutboxRow { kind: RowKind::Adjustments, delta: Some(Quantity::parse("-2").unwrap()), revision: 1, ..row(1) };
    let body = text(&message(7, vec![late]));
    assert!(body.starts_with("{\"type\":\"window.adjusted\","), "{body}");
    assert!(body.contains("\"revision\":1,\"incarnation\":1,\"delta\":\"-2\",\"hash\""), "{body}");
}

#[test]
fn the_bytes_do_not_depend_on_the_attempt() {
    let first = message(7, rows(5));
    let later = Message { now: at("2026-10-04T05:00:00Z"), ..first.clone() };
    assert_eq!(json(&first), json(&later));
}

#[test]
fn a_rows_bytes_are_what_it_adds_to_the_body() {
    let all = rows(30);
    for count in 1..all.len() {
        let shorter = json(&message(7, all[..count].to_vec())).len();
        let longer = json(&message(7, all[..=count].to_vec())).len();
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
            let mut last = OutboxRow { customer: String::new(), ..row(0) };
            last.customer = "c".repeat(ROWS_BYTES_MAX - used - row_bytes(&last));
            full.rows.push(last);
            assert_eq!(full.rows.iter().map(row_bytes).sum::<usize>(), ROWS_BYTES_MAX);
            let bytes = json(&full).len();
            assert!((BODY_BYTES_MAX - ENVELOPE_BYTES_MAX..BODY_BYTES_MAX).contains(&bytes), "{bytes}");
        }
    }
}
