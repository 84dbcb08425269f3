//! Alerts in a PostgreSQL server of the test's own: a table beside the other one, where each state of an alert stands once.

use meterd::delivery::{Failure, Sent, Transport};
use meterd::engine::{Alert, AlertEvent, AlertState, OutboxRow, RowContent};
use meterd::meter::{Amount, Cap, CapPeriod, OnHardCap, Threshold};
use meterd::model::{OutboxPosition, Quantity, Seq, Window};

use super::postgres_table::{TABLE, at, failed, message, one, row, runtime, sink, sink_of};
use crate::harness::postgres::{self, PASSWORD};

/// What happened to a customer's hard cap.
fn alert(customer: &str, state: AlertState) -> OutboxRow {
    let alert = Alert {
        state,
        tenant: "default".into(),
        customer: customer.into(),
        meter: "tokens".into(),
        cap: Cap {
            id: "default".into(),
            period: CapPeriod::Billing,
            hard: Some(Quantity::parse("1000.000000000001").unwrap()),
            soft: vec!["500".parse().unwrap(), "80%".parse().unwrap()],
            on_hard_cap: OnHardCap::Reject,
            grace: Amount::NOTHING,
            enforce: true,
        },
        threshold: Threshold::Hard,
        amount: Quantity::parse("1000.000000000001").unwrap(),
        period: Some("2026-10".into()),
        bounds: Window { start: at("2026-10-01T00:00:00Z"), end: at("2026-11-01T00:00:00Z") },
        generation: 1,
        used: Quantity::parse("-123456789012345678901234.000000000001").unwrap(),
        event: Some(AlertEvent { usage_event_id: "say \"x\" größe".into(), seq: Some(Seq(7)) }),
        late: false,
        at: at("2026-10-20T10:00:00.123456Z"),
    };
    alert_of(alert)
}

fn alert_of(alert: Alert) -> OutboxRow {
    OutboxRow { position: OutboxPosition::new(Seq(100), 0), content: RowContent::Alert(Box::new(alert)) }
}

const ALERTS: &str = "SELECT * FROM billing_rows_alerts ORDER BY customer, state";

#[test]
fn alerts_have_a_table_of_their_own_made_with_the_first_one_where_each_state_of_one_stands_once() {
    let Some(server) = postgres::start() else { return };
    let (runtime, sink) = (runtime(), sink(&server, TABLE));
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    let send = |rows| runtime.block_on(sink.send(&message(7, rows)));
    assert_eq!(send(vec![row("c1", 1, 0)]), Sent::delivered());
    assert_eq!(server.query(tables).len(), 1);
    let triggered = alert("c1", AlertState::Triggered);
    assert_eq!(send(vec![triggered.clone(), triggered.clone()]), Sent::delivered());
    assert_eq!(server.query(tables), [[Some(TABLE.to_owned())], [Some("billing_rows_alerts".to_owned())]]);
    let text = "SELECT state, tenant, customer, meter, cap, threshold, amount, used, hard, soft, period, \
        period_start AT TIME ZONE 'UTC', period_end AT TIME ZONE 'UTC', generation, enforce, usage_event_id, \
        event_seq, late, at AT TIME ZONE 'UTC', delivery, written_at > now() - interval '1 minute' \
        FROM billing_rows_alerts";
    let rows = server.query(text);
    let shown: Vec<_> = rows[0].iter().map(|value| value.as_deref().unwrap_or("null")).collect();
    let names = ["triggered", "default", "c1", "tokens", "default", "hard"];
    let numbers = ["1000.000000000001", "-123456789012345678901234.000000000001", "1000.000000000001"];
    let period = [r#"["500", "80%"]"#, "2026-10", "2026-10-01 00:00:00", "2026-11-01 00:00:00", "1", "t"];
    let rest = ["say \"x\" größe", "7", "f", "2026-10-20 10:00:00.123456", "msg_00000abc_1_7", "t"];
    assert_eq!(shown, [&names[..], &numbers, &period, &rest].concat());
    let id = triggered.alert().unwrap().id().to_string();
    assert_eq!(one(&server, "SELECT alert_id FROM billing_rows_alerts"), id);

    let mut recovered = alert("c1", AlertState::Recovered).alert().unwrap().clone();
    (recovered.event, recovered.cap.hard, recovered.period) = (None, None, None);
    assert_eq!(send(vec![alert_of(recovered), alert("c2", AlertState::Triggered)]), Sent::delivered());
    let before = server.query(ALERTS);
    assert_eq!(before.len(), 3);
    let nulls =
        "SELECT num_nulls(usage_event_id, event_seq, hard, period) FROM billing_rows_alerts ORDER BY customer, state";
    assert_eq!(server.query(nulls)[0][0].as_deref(), Some("4"));
    assert_eq!(one(&server, "SELECT count(DISTINCT alert_id) FROM billing_rows_alerts WHERE customer = 'c1'"), "1");
    for sink in [&sink, &self::sink(&server, TABLE)] {
        let again = message(8, vec![triggered.clone(), alert("c2", AlertState::Triggered)]);
        assert_eq!(runtime.block_on(sink.send(&again)), Sent::delivered());
    }
    assert_eq!(server.query(ALERTS), before);
}

#[test]
fn a_table_of_alerts_that_does_not_fit_stops_the_sink_too() {
    let Some(server) = postgres::start() else { return };
    let runtime = runtime();
    let alerts = message(7, vec![alert("c1", AlertState::Triggered)]);
    assert_eq!(runtime.block_on(sink(&server, "good").send(&alerts)), Sent::delivered());
    let keyless = "columns alert_id and state have no unique index of their own";
    for (name, change, expected) in [
        ("cents", "ALTER used TYPE numeric(12,2)", "column used is numeric(12,2), and must be numeric"),
        ("missing", "DROP soft", "column soft is missing, and must be jsonb"),
        ("keyless", "DROP CONSTRAINT keyless_alerts_pkey", keyless),
        ("half", "DROP CONSTRAINT half_alerts_pkey, ADD PRIMARY KEY (alert_id)", keyless),
        ("wide", "DROP CONSTRAINT wide_alerts_pkey, ADD PRIMARY KEY (alert_id, state, at)", keyless),
        ("other", "DROP CONSTRAINT other_alerts_pkey, ADD PRIMARY KEY (alert_id, delivery) INCLUDE (state)", keyless),
    ] {
        let table = format!("{name}_alerts");
        server.query(&format!("CREATE TABLE {table} (LIKE good_alerts INCLUDING ALL); ALTER TABLE {table} {change}"));
        let (failure, reason) = failed(runtime.block_on(sink(&server, name).send(&alerts)));
        assert_eq!(failure, Failure::Misfit, "{name}: {reason}");
        assert!(reason.contains(expected) && reason.contains(&format!("\"{table}\"")), "{name}: {reason}");
        assert_eq!(runtime.block_on(sink(&server, name).send(&message(7, vec![row("c1", 1, 0)]))), Sent::delivered());
    }
    let turned = "CREATE TABLE turned_alerts (LIKE good_alerts INCLUDING ALL); ALTER TABLE turned_alerts \
        DROP CONSTRAINT turned_alerts_pkey, ADD UNIQUE (state, alert_id)";
    server.query(turned);
    assert_eq!(runtime.block_on(sink(&server, "turned").send(&alerts)), Sent::delivered());
    // Nothing is changed, so nobody has to let this user change it.
    server.query(&format!("CREATE USER writer PASSWORD '{PASSWORD}'; GRANT SELECT ON good_alerts TO writer"));
    let send = || runtime.block_on(sink_of(&server.url_of("writer"), "good").send(&alerts));
    let (failure, reason) = failed(send());
    assert_eq!(failure, Failure::Misfit);
    assert!(reason.contains("permission denied: this user needs INSERT on it as well"), "{reason}");
    server.query("GRANT INSERT ON good_alerts TO writer");
    assert_eq!(send(), Sent::delivered());
    let (failure, reason) = failed(runtime.block_on(sink(&server, &"x".repeat(57)).send(&alerts)));
    assert_eq!(failure, Failure::Misfit);
    assert!(reason.contains("must have at most 56 bytes"), "{reason}");
}
