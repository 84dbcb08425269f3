use super::*;
use crate::engine::WindowState;
use crate::meter::{Aggregation, Definition, Late, PeriodKind};
use crate::model::{Duration, MeterId, Quantity, Seq, Window};

/// One billed by the month and one by the week.
pub fn meters() -> Meters {
    let mut meters = Meters::new();
    for (number, slug, billing_period) in [(0, "monthly", PeriodKind::Month), (1, "weekly", PeriodKind::Week)] {
        let definition = Definition {
            slug: slug.to_owned(),
            event_type: slug.to_owned(),
            aggregation: Aggregation::Sum,
            value: None,
            dimensions: ["model", "region"].map(|name| (name.to_owned(), format!("$.{name}").parse().unwrap())).into(),
            window: "1h".parse().unwrap(),
            time_zone: "UTC".to_owned(),
            grace: Duration::ZERO,
            late: Late::Adjust,
            allow_negative: false,
            unique_members_max: 10,
            approximate: false,
            billing_period,
            billing_time_zone: None,
            derive_id: None,
        };
        meters.put(MeterId(number), definition).unwrap();
    }
    meters
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// A final row with one adjustment.
pub fn total() -> PeriodTotal {
    PeriodTotal {
        key: vec![1],
        customer: "c,1".to_owned(),
        meter: MeterId(0),
        dimensions: vec![Some("g\"pt".to_owned()), None],
        period: "2026-11".to_owned(),
        bounds: Window { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") },
        value: Some(Quantity::parse("10.5").unwrap()),
        original: Some(Quantity::parse("12").unwrap()),
        overage: Some(Quantity::parse("0.5").unwrap()),
        event_count: 3,
        adjustments: 1,
        revision: 2,
        incarnation: 1,
        state: WindowState::Finalized,
        hash: [0xab; 32],
        as_of: at("2026-12-02T00:00:00Z"),
        approximate: false,
    }
}

fn page(rows: Vec<PeriodTotal>, version: Option<Seq>) -> TotalsPage {
    let as_of = at("2026-12-05T00:00:00Z");
    TotalsPage { rows, more: false, at: as_of, seq: Seq(9), as_of, is_final: version.is_some(), version }
}

fn row() -> serde_json::Value {
    serde_json::json!({
        "customer": "c,1", "meter": "monthly", "dimensions": {"model": "g\"pt", "region": null}, "period": "2026-11",
        "period_start": "2026-11-01T00:00:00Z", "period_end": "2026-12-01T00:00:00Z", "value": "10.5",
        "original_value": "12", "adjustment": "-1.5", "overage": "0.5", "event_count": 3, "adjustments": 1,
        "state": "finalized", "revision": 2, "incarnation": 1, "hash": "ab".repeat(32),
        "as_of": "2026-12-02T00:00:00Z", "final": true,
    })
}

fn rendered(asked: &str, page: &TotalsPage, next_cursor: Option<&str>) -> serde_json::Value {
    let document = Renderer::new(Arc::new(meters())).document(asked, page, next_cursor);
    serde_json::from_slice(&document).unwrap()
}

#[test]
fn a_document_has_the_rows_and_where_it_goes_on() {
    let nothing = PeriodTotal { original: None, value: None, overage: None, ..total() };
    let open = PeriodTotal { state: WindowState::Open, approximate: true, ..nothing };
    let document = rendered("current", &page(vec![total(), open], None), Some("ff"));
    let mut second = row();
    for (name, value) in [("value", "null"), ("original_value", "null"), ("adjustment", "\"0\""), ("overage", "null")] {
        second[name] = serde_json::from_str(value).unwrap();
    }
    (second["state"], second["final"], second["approximate"]) = ("open".into(), false.into(), true.into());
    let expected = serde_json::json!({
        "period": "current", "as_of": "2026-12-05T00:00:00Z", "final": false, "data": [row(), second], "next_cursor": "ff",
    });
    assert_eq!(document, expected);
}

#[test]
fn a_final_document_is_the_same_bytes_whenever_it_is_read() {
    let mut first = page(vec![total()], Some(Seq(3)));
    let document = rendered("2026-11", &first, None);
    assert_eq!(document["as_of"], "2026-12-02T00:00:00Z");
    assert_eq!((&document["final"], &document["next_cursor"]), (&true.into(), &serde_json::Value::Null));
    first.as_of = at("2027-01-01T00:00:00Z");
    assert_eq!(rendered("2026-11", &first, None), document);
}

#[test]
fn an_adjustment_is_what_must_be_added_to_the_original_also_where_there_is_none() {
    let quantity = |text: &str| Some(Quantity::parse(text).unwrap());
    for (original, value, expected) in [
        (None, quantity("5"), "5"),
        (quantity("5"), quantity("5"), "0"),
        (quantity("5"), quantity("7.25"), "2.25"),
        (None, None, "0"),
    ] {
        let document = rendered("", &page(vec![PeriodTotal { original, value, ..total() }], None), None);
        assert_eq!(document["data"][0]["adjustment"], expected);
    }
    let (original, value) = (Some(Quantity::from_scaled(i128::MIN)), Some(Quantity::from_scaled(i128::MAX)));
    let document = rendered("", &page(vec![PeriodTotal { original, value, ..total() }], None), None);
    assert_eq!(document["data"][0]["adjustment"], serde_json::Value::Null, "out of range");
}

#[test]
fn lines_are_rows_by_themselves() {
    let text = Renderer::new(Arc::new(meters())).rows(Format::Ndjson, &[total(), total()]);
    let lines: Vec<serde_json::Value> =
        std::str::from_utf8(&text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [row(), row()]);
    assert_eq!(text.last(), Some(&b'\n'));
}

#[test]
fn csv_has_a_header_and_the_same_members_in_the_same_order() {
    let nothing = PeriodTotal { value: None, original: None, overage: None, ..total() };
    let nothing = PeriodTotal { customer: "=1".into(), approximate: true, ..nothing };
    let text = String::from_utf8(Renderer::new(Arc::new(meters())).rows(Format::Csv, &[total(), nothing])).unwrap();
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(format!("{}\r\n", lines[0]), csv::HEADER);
    let hash = "ab".repeat(32);
    let dimensions = r#""{""model"":""g\""pt"",""region"":null}""#;
    let period = "2026-11,2026-11-01T00:00:00Z,2026-12-01T00:00:00Z";
    let tail = format!("3,1,finalized,2,1,{hash},2026-12-02T00:00:00Z,true");
    assert_eq!(lines[1], format!("\"c,1\",monthly,{dimensions},{period},10.5,12,-1.5,0.5,{tail},false"));
    assert_eq!(lines[2], format!("'=1,monthly,{dimensions},{period},,,0,,{tail},true"));
    let members = row();
    let columns: Vec<&str> = lines[0].split(',').collect();
    assert!(columns.iter().all(|column| *column == "approximate" || members.get(column).is_some()), "{columns:?}");
    assert_eq!(columns.len(), members.as_object().unwrap().len() + 1);
}
