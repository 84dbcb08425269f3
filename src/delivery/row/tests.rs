use super::*;
use crate::delivery::testing;

const JSON: &str = r#"{"tenant":"default","customer":"größe \"x\"","meter":"tokens","dimensions":{"model":"m,1","region":null},"window_start":"2026-10-01T00:00:00Z","window_end":"2026-10-01T01:00:00Z","value":"12.5","event_count":3,"revision":0,"incarnation":1,"hash":"abababababababababababababababababababababababababababababababab"}"#;

fn row() -> OutboxRow {
    OutboxRow {
        customer: "größe \"x\"".into(),
        dimensions: vec![("model".into(), Some("m,1".into())), ("region".into(), None)],
        value: Some(Quantity::parse("12.5").unwrap()),
        ..testing::row(0)
    }
}

fn adjustment() -> OutboxRow {
    OutboxRow { kind: RowKind::Adjustments, delta: Some(Quantity::parse("-2").unwrap()), revision: 1, ..row() }
}

fn line(row: &OutboxRow) -> String {
    let mut out = Vec::new();
    put_line(&mut out, row);
    String::from_utf8(out).unwrap()
}

fn record(row: &OutboxRow) -> String {
    let mut out = Vec::new();
    put_csv(&mut out, row);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_row_is_an_object_whose_members_come_in_one_order() {
    assert_eq!(serde_json::to_string(&row()).unwrap(), JSON);
    assert_eq!(json_bytes(&row()), JSON.len());
    assert_eq!(line(&row()), format!("{{\"type\":\"window.finalized\",{}\n", &JSON[1..]));
}

#[test]
fn only_an_adjustment_has_a_delta_and_it_stands_before_the_hash() {
    let json = serde_json::to_string(&adjustment()).unwrap();
    let expected = JSON.replace(r#""revision":0"#, r#""revision":1"#).replace(r#""hash""#, r#""delta":"-2","hash""#);
    assert_eq!(json, expected);
    let unsaid = OutboxRow { delta: None, ..adjustment() };
    assert!(line(&unsaid).starts_with("{\"type\":\"window.adjusted\",\"tenant\""));
    assert!(line(&unsaid).contains(r#""delta":null,"hash""#));
    assert!(!line(&OutboxRow { delta: Some(Quantity::default()), ..row() }).contains("delta"));
}

#[test]
fn a_value_of_nothing_is_null_and_an_empty_cell() {
    let nothing = OutboxRow { value: None, ..row() };
    assert!(line(&nothing).contains(r#""value":null,"event_count":3"#));
    assert!(record(&nothing).contains("T01:00:00Z,,3,0,1,,ab"));
}

#[test]
fn a_csv_record_has_a_field_for_every_column_of_the_header() {
    let hash = "ab".repeat(32);
    let cells = [
        "window.adjusted,default,\"größe \"\"x\"\"\",tokens",
        "\"{\"\"model\"\":\"\"m,1\"\",\"\"region\"\":null}\"",
        "2026-10-01T00:00:00Z,2026-10-01T01:00:00Z,12.5,3,1,1,-2",
        &hash,
    ];
    assert_eq!(record(&adjustment()), format!("{}\r\n", cells.join(",")));
    let plain = record(&OutboxRow { customer: "x".into(), dimensions: Vec::new(), ..testing::row(0) });
    assert_eq!(plain.matches(',').count(), CSV_HEADER.matches(',').count());
    assert!(record(&OutboxRow { tenant: "=1+1".into(), ..row() }).starts_with("window.finalized,'=1+1,"));
}
