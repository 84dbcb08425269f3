use super::*;
use crate::engine::PeriodTotal;
use crate::http::totals::render::tests::{meters, total};
use crate::model::{Seq, Timestamp};

fn read(period: &str, pairs: &[(&str, &str)]) -> Result<TotalsRequest, Problem> {
    TotalsRequest::read(&TenantId::new("acme"), period, Params::of(pairs), &HeaderMap::new(), &meters())
}

#[test]
fn periods_are_months_weeks_days_current_and_previous() {
    for text in ["2026-11", "2026-W48"] {
        let period = text.parse().unwrap();
        assert_eq!(read(text, &[]).unwrap().query.period, PeriodChoice::Named(period));
    }
    assert_eq!(read("current", &[]).unwrap().query.period, PeriodChoice::Current);
    assert_eq!(read("previous", &[]).unwrap().query.period, PeriodChoice::Previous);
    for text in ["2026-11", "2026-W48", "current", "previous"] {
        assert_eq!(period_name(read(text, &[]).unwrap().query.period), text);
    }
}

#[test]
fn names_the_parameter_that_is_wrong_and_tells_malformed_from_absent() {
    for (period, pairs, name, status) in [
        ("2026-13", &[][..], "period", 400),
        ("Current", &[], "period", 400),
        ("2026-11-22", &[], "period", 404),
        ("2026-11", &[("meter", "weekly")], "period", 404),
        ("2026-11", &[("meter", "nope")], "meter", 400),
        ("2026-11", &[("customer", "")], "customer", 400),
        ("2026-11", &[("state", "closed")], "state", 400),
        ("2026-11", &[("format", "xml")], "format", 400),
        ("2026-11", &[("limit", "0")], "limit", 400),
        ("2026-11", &[("limit", "10001"), ("format", "csv")], "limit", 400),
        ("2026-11", &[("cursor", "00")], "cursor", 400),
        ("2026-11", &[("stat", "open")], "stat", 400),
    ] {
        let problem = read(period, pairs).map(drop).unwrap_err();
        assert_eq!(problem.status(), status, "{period} {pairs:?}");
        match problem {
            Problem::Parameter { name: got, .. } => assert_eq!(got, name),
            Problem::Absent { name: got, .. } => assert_eq!(got, name),
            other => panic!("{period} {pairs:?}: {other}"),
        }
    }
}

#[test]
fn json_comes_in_pages_and_lines_all_at_once_unless_a_limit_is_given() {
    for (pairs, extent, limit) in [
        (&[][..], Extent::Page, 1_000),
        (&[("limit", "7")], Extent::Page, 7),
        (&[("format", "ndjson")], Extent::All, STREAM_ROWS),
        (&[("format", "csv")], Extent::All, STREAM_ROWS),
        (&[("format", "csv"), ("limit", "10000")], Extent::Page, 10_000),
    ] {
        let request = read("2026-11", pairs).unwrap();
        assert_eq!((request.extent, request.query.limit), (extent, limit), "{pairs:?}");
    }
}

#[test]
fn a_page_leads_to_the_next_one_of_the_same_query_in_any_form() {
    let request = read("2026-11", &[("meter", "monthly"), ("state", "finalized")]).unwrap();
    let rows = vec![PeriodTotal { key: b"last".to_vec(), ..total() }];
    let mut page = TotalsPage {
        rows,
        more: true,
        at: Timestamp::EPOCH,
        seq: Seq(1),
        as_of: Timestamp::EPOCH,
        is_final: true,
        version: None,
    };
    let cursor = request.next_cursor(&page).unwrap();
    let with = |extra: &[(&str, &str)]| {
        let pairs = [&[("meter", "monthly"), ("cursor", &cursor)], extra].concat();
        read("2026-11", &pairs).map(|request| request.query.after)
    };
    let next = with(&[("state", "finalized"), ("format", "ndjson"), ("limit", "3")]).unwrap();
    assert_eq!(next.as_deref(), Some(&b"last"[..]));
    assert!(matches!(with(&[]), Err(Problem::Parameter { name, .. }) if name == "cursor"));
    page.more = false;
    assert_eq!(request.next_cursor(&page), None);
}
