use super::*;
use crate::delivery::testing;
use crate::engine::UsageChange;
use crate::engine::caps::{AlertEvent, AlertState};

const JSON: &str = r#"{"tenant":"default","customer":"größe \"x\"","meter":"tokens","dimensions":{"model":"m,1","region":null},"window_start":"2026-10-01T00:00:00Z","window_end":"2026-10-01T01:00:00Z","value":"12.5","event_count":3,"revision":0,"incarnation":1,"hash":"abababababababababababababababababababababababababababababababab"}"#;

fn usage() -> UsageRow {
    UsageRow {
        customer: "größe \"x\"".into(),
        dimensions: vec![("model".into(), Some("m,1".into())), ("region".into(), None)],
        value: Some(Quantity::parse("12.5").unwrap()),
        ..testing::usage(0)
    }
}

fn row() -> OutboxRow {
    testing::row_of(0, usage())
}

fn late(change: UsageChange) -> OutboxRow {
    testing::row_of(0, UsageRow { change, revision: 1, ..usage() })
}

fn adjustment() -> OutboxRow {
    late(testing::adjusted("-2"))
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
    let unsaid = late(UsageChange::Adjusted { delta: None });
    assert!(line(&unsaid).starts_with("{\"type\":\"window.adjusted\",\"tenant\""));
    assert!(line(&unsaid).contains(r#""delta":null,"hash""#));
    assert!(!line(&row()).contains("delta"));
}

#[test]
fn a_value_of_nothing_is_null_and_an_empty_cell() {
    let nothing = testing::row_of(0, UsageRow { value: None, ..usage() });
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
    let plain = testing::row_of(0, UsageRow { dimensions: Vec::new(), ..testing::usage(0) });
    let columns = csv_header(RowKind::Windows).matches(',').count();
    assert_eq!((record(&plain).matches(',').count(), csv_header(RowKind::Adjustments)), (columns, USAGE_HEADER));
    let formula = testing::row_of(0, UsageRow { tenant: "=1+1".into(), ..usage() });
    assert!(record(&formula).starts_with("window.finalized,'=1+1,"));
}

/// python3: "alert_" + hashlib.sha256(json.dumps([...], separators=(",", ":")).encode()).hexdigest()[:32]
const ALERT_ID: &str = "alert_741773c77f9415b94730b244b1a28beb";

fn alert_json(members: &str) -> String {
    format!(
        "{{\"type\":\"alert.triggered\",\"alert_id\":\"{ALERT_ID}\",\"tenant\":\"default\",\"customer\":\"c1\",\
         \"meter\":\"tokens\",\"cap\":\"default\",\"threshold\":\"80%\",\"amount\":\"800\",\"used\":\"812.5\",\
         \"hard\":\"1000\",\"soft\":[\"500\",\"80%\"],\"period\":\"2026-10\",\
         \"period_start\":\"2026-10-01T00:00:00Z\",\"period_end\":\"2026-11-01T00:00:00Z\",\"generation\":1,\
         \"enforce\":true,{members},\"late\":false,\"at\":\"2026-10-20T10:00:00Z\"}}"
    )
}

#[test]
fn an_alert_is_an_object_that_begins_with_what_happened() {
    let json = alert_json(r#""event":{"usage_event_id":"e-1","seq":199}"#);
    assert_eq!(line(&testing::alert(1)), format!("{json}\n"));
    assert_eq!(serde_json::to_string(&testing::alert(1)).unwrap(), json);
    assert_eq!(json_bytes(&testing::alert(1)), json.len());
    let refused = AlertEvent { usage_event_id: "e-2".into(), seq: None };
    let refused = Alert { event: Some(refused), ..testing::crossed(1) };
    let json = alert_json(r#""event":{"usage_event_id":"e-2","seq":null}"#);
    assert_eq!(line(&testing::alert_of(1, refused)), format!("{json}\n"));
    let recovered = Alert { state: AlertState::Recovered, event: None, ..testing::crossed(1) };
    let json = alert_json(r#""event":null"#).replace("triggered", "recovered");
    assert_eq!(line(&testing::alert_of(1, recovered)), format!("{json}\n"), "the same id");
}

#[test]
fn an_alert_of_a_cap_without_a_hard_one_that_counts_in_windows_has_nulls_and_empty_cells() {
    let mut alert = testing::crossed(1);
    (alert.cap.hard, alert.cap.soft, alert.period, alert.event) = (None, Vec::new(), None, None);
    let alert = testing::alert_of(1, alert);
    for member in [r#""hard":null,"soft":[],"period":null,"#, r#""event":null,"#] {
        assert!(line(&alert).contains(member), "{}", line(&alert));
    }
    assert!(record(&alert).contains(",812.5,,\"[]\",,2026-10-01T00:00:00Z,"), "{}", record(&alert));
    assert!(record(&alert).contains(",1,true,,,false,2026-10-20"), "{}", record(&alert));
}

#[test]
fn an_alerts_csv_record_has_columns_of_its_own() {
    let cells = [
        "alert.triggered",
        ALERT_ID,
        "default,c1,tokens,default,80%,800,812.5,1000",
        "\"[\"\"500\"\",\"\"80%\"\"]\"",
        "2026-10,2026-10-01T00:00:00Z,2026-11-01T00:00:00Z,1,true,e-1,199,false,2026-10-20T10:00:00Z",
    ];
    assert_eq!(record(&testing::alert(1)), format!("{}\r\n", cells.join(",")));
    let mut plain = testing::crossed(1);
    plain.cap.soft.clear();
    let columns = csv_header(RowKind::Alerts).matches(',').count();
    assert_eq!(record(&testing::alert_of(1, plain)).matches(',').count(), columns);
    let formula = AlertEvent { usage_event_id: "=1+1".into(), seq: None };
    let formula = testing::alert_of(1, Alert { event: Some(formula), ..testing::crossed(1) });
    assert!(record(&formula).contains(",true,'=1+1,,false,"), "{}", record(&formula));
}
