//! The PostgreSQL sink against a server of the test's own: the table it makes, what it refuses, and that whatever comes
//! late, twice, at once or between restarts, the newest state of a window stays.

use std::time::Duration;

use meterd::delivery::postgres::{MAX_ROWS_DEFAULT, Options, Postgres, Url};
use meterd::delivery::{Failure, Message, Outcome, Sent, Transport};
use meterd::engine::{DeliveryId, OutboxRow, RowContent, UsageChange, UsageRow};
use meterd::model::{Incarnation, OutboxPosition, Quantity, Seq, Timestamp, Window};
use tokio::runtime::Runtime;

use crate::harness::postgres::{self, PASSWORD, Postgres as Server};
use crate::harness::seed;

pub const TABLE: &str = "billing_rows";

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// A state of a customer's window; the value tells which.
pub fn row(customer: &str, incarnation: u32, revision: u32) -> OutboxRow {
    row_of(usage(customer, incarnation, revision))
}

fn row_of(usage: UsageRow) -> OutboxRow {
    OutboxRow { position: OutboxPosition::new(Seq(100), usage.revision), content: RowContent::Usage(usage) }
}

fn usage(customer: &str, incarnation: u32, revision: u32) -> UsageRow {
    let adjusted = UsageChange::Adjusted { delta: None };
    UsageRow {
        change: if revision == 0 { UsageChange::Final } else { adjusted },
        tenant: "default".into(),
        customer: customer.into(),
        meter: "tokens".into(),
        dimensions: vec![("model".into(), Some("m1".into())), ("region".into(), None)],
        window: Window { start: at("2026-10-01T00:00:00Z"), end: at("2026-10-01T01:00:00Z") },
        value: Some(Quantity::parse(&format!("{}.{revision:03}", incarnation * 1_000)).unwrap()),
        event_count: 3,
        revision,
        incarnation: Incarnation(incarnation),
        hash: [0xab; 32],
        at: at("2026-10-01T02:00:00Z"),
    }
}

pub fn message(seq: u64, rows: Vec<OutboxRow>) -> Message {
    let id = DeliveryId { store: 0xabc, incarnation: Incarnation(1), seq: Seq(seq) };
    let (planned_at, now) = (at("2026-10-01T02:00:01Z"), at("2026-10-01T02:00:02Z"));
    Message { id, kind: rows[0].kind(), planned_at, now, rows }
}

pub fn sink_of(url: &str, table: &str) -> Postgres {
    let (url, table) = (Url::parse(url).unwrap(), table.parse().unwrap());
    Postgres::new(Options { url, table, max_rows: MAX_ROWS_DEFAULT })
}

pub fn sink(server: &Server, table: &str) -> Postgres {
    sink_of(&server.url(), table)
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// What was not delivered, and why; nothing of the password in it.
pub fn failed(sent: Sent) -> (Failure, String) {
    match sent.outcome {
        Outcome::Failed(failure, reason) => {
            assert!(!reason.contains(PASSWORD) && !reason.contains("postgres://"), "{reason}");
            assert!(!reason.contains('\n') && reason.len() <= 500, "{reason}");
            (failure, reason)
        }
        Outcome::Delivered => panic!("it was delivered"),
    }
}

/// The only value of a query.
pub fn one(server: &Server, sql: &str) -> String {
    let rows = server.query(sql);
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
    rows[0][0].clone().unwrap_or_else(|| "null".to_owned())
}

#[test]
fn makes_its_table_and_a_message_sent_twice_changes_nothing() {
    let Some(server) = postgres::start() else { return };
    let (runtime, sink) = (runtime(), sink(&server, TABLE));
    let nothing = row_of(UsageRow { value: None, ..usage("c2", 1, 0) });
    let first = message(7, vec![row("c1", 1, 0), nothing]);
    assert_eq!(runtime.block_on(sink.send(&first)), Sent::delivered());
    let text = "SELECT tenant, customer, meter, dimensions, window_start AT TIME ZONE 'UTC', \
        window_end AT TIME ZONE 'UTC', value, event_count, revision, incarnation, hash, delivery, length(row_key), \
        updated_at > now() - interval '1 minute' FROM billing_rows ORDER BY customer";
    let rows = server.query(text);
    let shown: Vec<_> = rows[0].iter().map(|value| value.as_deref().unwrap_or("null")).collect();
    let dimensions = r#"{"model": "m1", "region": null}"#;
    let (start, end, hash) = ("2026-10-01 00:00:00", "2026-10-01 01:00:00", "ab".repeat(32));
    let rest = [start, end, "1000", "3", "0", "1", hash.as_str(), "msg_00000abc_1_7", "64", "t"];
    assert_eq!(shown, [&["default", "c1", "tokens", dimensions][..], &rest].concat());
    assert_eq!(rows[1][6], None, "a value of nothing is null");
    let all = "SELECT row_key, xmin, updated_at, delivery FROM billing_rows ORDER BY row_key";
    let before = server.query(all);
    // The same delivery again, another one of the same rows, and both from another process's connection.
    for sink in [&sink, &self::sink(&server, TABLE)] {
        assert_eq!(runtime.block_on(sink.send(&first)), Sent::delivered());
        assert_eq!(
            runtime.block_on(sink.send(&Message { id: message(8, vec![row("c1", 1, 0)]).id, ..first.clone() })),
            Sent::delivered()
        );
    }
    assert_eq!(server.query(all), before, "not even a version of a row");
    let indexes = server.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'billing_rows' ORDER BY 1");
    assert_eq!(indexes.len(), 2, "{indexes:?}");
    assert!(indexes[0][0].as_ref().unwrap().contains("(tenant, customer, meter, window_start)"), "{indexes:?}");
}

#[test]
fn an_older_state_never_replaces_a_newer_one_in_any_order_and_at_once() {
    let Some(server) = postgres::start() else { return };
    let mut rng = fastrand::Rng::with_seed(seed("METERD_POSTGRES_SEED"));
    let runtime = runtime();
    // A later incarnation wins although its revisions start anew.
    let mut states: Vec<_> =
        (0..40).map(|revision| (1, revision)).chain((0..3).map(|revision| (2, revision))).collect();
    rng.shuffle(&mut states);
    let sinks: Vec<_> = (0..4).map(|_| sink(&server, TABLE)).collect();
    runtime.block_on(async {
        let mut sends = tokio::task::JoinSet::new();
        for (turn, sink) in sinks.into_iter().enumerate() {
            let states = states.clone();
            sends.spawn(async move {
                for at in 0..states.len() {
                    // Each sink goes its own way through all of them, several windows at a time.
                    let (incarnation, revision) = states[(at * [1, 3, 5, 7][turn]) % states.len()];
                    let rows = (0..5).map(|customer| row(&format!("c{customer}"), incarnation, revision)).collect();
                    assert_eq!(sink.send(&message(at as u64, rows)).await, Sent::delivered());
                    let (incarnation, revision) = states[at];
                    let two = vec![row("d", incarnation, revision), row("d", 1, 0)];
                    assert_eq!(sink.send(&message(at as u64, two)).await, Sent::delivered());
                }
            });
        }
        sends.join_all().await;
    });
    let rows = server.query("SELECT DISTINCT incarnation, revision, value FROM billing_rows");
    assert_eq!(rows, [[Some("2".to_owned()), Some("2".into()), Some("2000.002".into())]]);
    assert_eq!(one(&server, "SELECT count(*) FROM billing_rows"), "6");
}

#[test]
fn a_table_that_does_not_fit_stops_the_sink_with_the_column_and_what_it_should_be() {
    let Some(server) = postgres::start() else { return };
    let runtime = runtime();
    let rows = message(7, vec![row("c1", 1, 0)]);
    assert_eq!(runtime.block_on(sink(&server, "good").send(&rows)), Sent::delivered());
    for (name, change, expected) in [
        ("missing", "ALTER TABLE missing DROP hash", "column hash is missing, and must be text"),
        (
            "rounds",
            "ALTER TABLE rounds ALTER value TYPE numeric(12,2)",
            "column value is numeric(12,2), and must be numeric",
        ),
        ("float", "ALTER TABLE float ALTER value TYPE float8", "column value is double precision"),
        (
            "naive",
            "ALTER TABLE naive ALTER window_start TYPE timestamp",
            "column window_start is timestamp without time zone",
        ),
        (
            "seconds",
            "ALTER TABLE seconds ALTER window_end TYPE timestamptz(0)",
            "column window_end is timestamp(0) with",
        ),
        ("json", "ALTER TABLE json ALTER dimensions TYPE json", "column dimensions is json, and must be jsonb"),
        ("short", "ALTER TABLE short ALTER customer TYPE varchar(20)", "column customer is character varying(20)"),
        (
            "full",
            "ALTER TABLE full_ ALTER value SET NOT NULL; ALTER TABLE full_ RENAME TO \"full\"",
            "column value is NOT NULL",
        ),
        ("more", "ALTER TABLE more ADD invoice text NOT NULL", "column invoice is NOT NULL without a default"),
        ("keyless", "ALTER TABLE keyless DROP CONSTRAINT keyless_pkey", "column row_key has no unique index"),
        (
            "partial",
            "ALTER TABLE partial DROP CONSTRAINT partial_pkey; CREATE UNIQUE INDEX ON partial (row_key) WHERE revision = 0",
            "column row_key has no unique index",
        ),
        ("view", "ALTER TABLE view RENAME TO behind; CREATE VIEW view AS SELECT * FROM behind", "it is a view"),
    ] {
        let made = if name == "full" { "full_" } else { name };
        server.query(&format!("CREATE TABLE \"{made}\" (LIKE good INCLUDING ALL); {change}"));
        let (failure, reason) = failed(runtime.block_on(sink(&server, name).send(&rows)));
        assert_eq!(failure, Failure::Misfit, "{name}: {reason}");
        assert!(reason.contains(expected) && reason.contains(&format!("\"{name}\"")), "{name}: {reason}");
    }
    let wider = "CREATE TABLE wider (LIKE good INCLUDING ALL); ALTER TABLE wider ALTER revision TYPE bigint, \
        ALTER hash TYPE varchar, ADD id bigint GENERATED ALWAYS AS IDENTITY, ADD note text, \
        ADD seen timestamptz NOT NULL DEFAULT now()";
    server.query(wider);
    assert_eq!(runtime.block_on(sink(&server, "wider").send(&rows)), Sent::delivered());
}

#[test]
fn a_table_that_is_changed_while_rows_arrive_stops_the_sink_and_fits_again_once_it_is_mended() {
    let Some(server) = postgres::start() else { return };
    let (runtime, sink) = (runtime(), sink(&server, TABLE));
    let send = |seq| runtime.block_on(sink.send(&message(seq, vec![row("c1", 1, seq as u32)])));
    assert_eq!(send(1), Sent::delivered());
    server.query("ALTER TABLE billing_rows DROP hash");
    let (failure, reason) = failed(send(2));
    assert_eq!(failure, Failure::Misfit);
    assert!(reason.contains("hash"), "{reason}");
    assert!(failed(send(2)).1.contains("column hash is missing, and must be text"));
    server.query("ALTER TABLE billing_rows ADD hash text");
    assert_eq!(send(3), Sent::delivered());
    server.query("ALTER TABLE billing_rows ADD CHECK (customer <> 'c1') NOT VALID");
    assert_eq!(failed(send(4)).0, Failure::Refused);
    server.query("ALTER TABLE billing_rows DROP CONSTRAINT billing_rows_customer_check");
    assert_eq!(send(5), Sent::delivered());
}

#[test]
fn missing_permissions_are_a_misfit_and_a_wrong_password_is_not() {
    let Some(server) = postgres::start() else { return };
    let runtime = runtime();
    let rows = message(7, vec![row("c1", 1, 0)]);
    assert_eq!(runtime.block_on(sink(&server, TABLE).send(&rows)), Sent::delivered());
    server.query(&format!("CREATE USER writer PASSWORD '{PASSWORD}'"));
    let send = |table: &str| runtime.block_on(sink_of(&server.url_of("writer"), table).send(&rows));
    for (grant, expected) in [
        ("SELECT", "SELECT and INSERT and UPDATE"),
        ("INSERT", "INSERT and UPDATE"),
        ("UPDATE", "permission denied: this user needs UPDATE"),
    ] {
        let (failure, reason) = failed(send(TABLE));
        assert_eq!(failure, Failure::Misfit);
        assert!(reason.contains(expected), "{reason}");
        server.query(&format!("GRANT {grant} ON billing_rows TO writer"));
    }
    assert_eq!(send(TABLE), Sent::delivered());
    // PostgreSQL 15 lets nobody but its owner make tables in `public`.
    let (failure, reason) = failed(send("another"));
    assert_eq!(failure, Failure::Misfit);
    assert!(reason.contains("making table \"another\"") && reason.contains("42501"), "{reason}");
    assert_eq!(failed(send("nowhere.rows")).0, Failure::Misfit);
    for url in [server.url().replace(PASSWORD, "wrong-one"), server.url().replace("/postgres?", "/nowhere?")] {
        let (failure, reason) = failed(runtime.block_on(sink_of(&url, TABLE).send(&rows)));
        assert_eq!(failure, Failure::Unavailable, "{reason}");
        assert!(reason.starts_with("connecting to 127.0.0.1:") && !reason.contains("wrong-one"), "{reason}");
    }
    assert!(!format!("{:?}", Url::parse(&server.url()).unwrap()).contains(PASSWORD));
}

#[test]
fn it_outlives_restarts_of_the_server_and_dropped_attempts() {
    let Some(mut server) = postgres::start() else { return };
    let (runtime, sink) = (runtime(), sink(&server, TABLE));
    let send = |seq| runtime.block_on(sink.send(&message(seq, vec![row("c1", 1, seq as u32)])));
    assert_eq!(send(1), Sent::delivered());
    server.halt();
    let (failure, reason) = failed(send(2));
    assert_eq!(failure, Failure::Unavailable);
    assert!(reason.contains("refused"), "{reason}");
    server.resume();
    assert_eq!(send(2), Sent::delivered());
    server.halt();
    server.resume();
    assert_eq!(send(3), Sent::delivered(), "a connection that broke in between is no failure");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'meterd'";
    server.query(end);
    assert_eq!(send(4), Sent::delivered());
    // Somebody holds the row: the attempt is given up, and the connection with it.
    runtime.block_on(async {
        let (other, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        other.batch_execute("BEGIN; SELECT * FROM billing_rows FOR UPDATE").await.unwrap();
        let five = message(5, vec![row("c1", 1, 5)]);
        let given_up = tokio::time::timeout(Duration::from_millis(300), sink.send(&five)).await;
        assert!(given_up.is_err());
        other.batch_execute("COMMIT").await.unwrap();
        assert_eq!(sink.send(&five).await, Sent::delivered());
    });
    assert_eq!(one(&server, "SELECT revision FROM billing_rows"), "5");
    assert_eq!(server.log().matches(PASSWORD).count(), 0);
}

#[test]
fn a_server_that_answers_nothing_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:{}/x", listener.local_addr().unwrap().port());
    let sent = runtime().block_on(sink_of(&url, TABLE).send(&message(1, vec![row("c1", 1, 0)])));
    let (failure, reason) = failed(sent);
    assert_eq!(failure, Failure::Unavailable);
    assert!(reason.starts_with("no connection to 127.0.0.1:") && reason.ends_with("within 10 s"), "{reason}");
}

#[test]
fn certificates_are_verified_in_every_mode_that_speaks_tls() {
    const INNER: &str = "METERD_TLS_URL";
    let (runtime, rows) = (runtime(), message(7, vec![row("c1", 1, 0)]));
    let send = |url: &str| runtime.block_on(sink_of(url, TABLE).send(&rows));
    if let Ok(url) = std::env::var(INNER) {
        assert_eq!(send(&url), Sent::delivered());
        return;
    }
    let Some(server) = postgres::start() else { return };
    let url = |mode: &str| server.url().replace("sslmode=disable", &format!("sslmode={mode}"));
    assert_eq!(send(&url("prefer")), Sent::delivered());
    let (failure, reason) = failed(send(&url("require")));
    assert_eq!(failure, Failure::Unavailable);
    assert!(reason.contains("does not support TLS"), "{reason}");
    let certificate = server.speak_tls();
    for mode in ["prefer", "require", "verify-full"] {
        let (failure, reason) = failed(send(&url(mode)));
        assert_eq!(failure, Failure::Unavailable);
        assert!(reason.contains("no authority that this system trusts"), "{reason}");
    }
    // The same again where the system trusts it: what it trusts is looked up in the environment of a process.
    let outcome = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "delivery::postgres_table::certificates_are_verified_in_every_mode_that_speaks_tls"])
        .env("SSL_CERT_FILE", certificate)
        .env(INNER, url("verify-full"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && said.contains("1 passed"), "{said}");
    // Whoever starts the server asks it before it is ready, and the answer may be logged after that.
    let log = server.log();
    let is_early = |line: &&str| line.contains("the database system is starting up");
    let fatal: Vec<&str> = log.lines().filter(|line| line.contains("FATAL") && !is_early(line)).collect();
    assert!(fatal.is_empty(), "{fatal:?}");
}

#[test]
fn names_and_values_arrive_as_they_are() {
    let Some(server) = postgres::start() else { return };
    let runtime = runtime();
    server.query("CREATE SCHEMA \"Fi nance\"");
    let names = ["o'brien", "say \"x\"", "größe 日本 🦀", "back\\slash", "{a,b}", "NULL", "$1; DROP TABLE x --", ""];
    for table in ["\"Fi nance\".\"odd.\"\"name\"\"\"", "Fi nance.Zeilen größe", "select"] {
        let rows = names.iter().map(|name| {
            row_of(UsageRow {
                tenant: (*name).to_owned(),
                dimensions: vec![
                    ((*name).to_owned(), Some((*name).to_owned())),
                    ("none".into(), None),
                    ("nul".into(), Some("a\0b".into())),
                ],
                value: Some(Quantity::parse("-123456789012345678901234.000000000001").unwrap()),
                ..usage(name, 1, 0)
            })
        });
        assert_eq!(runtime.block_on(sink(&server, table).send(&message(7, rows.collect()))), Sent::delivered());
        let quoted = table.parse::<meterd::delivery::postgres::TableName>().unwrap();
        let mut found = server.query(&format!("SELECT tenant, customer, value, dimensions FROM {quoted}"));
        found.sort_by_key(|row| names.iter().position(|name| Some(*name) == row[0].as_deref()));
        for (name, row) in names.iter().zip(&found) {
            let row: Vec<_> = row.iter().map(|value| value.as_deref().unwrap()).collect();
            assert_eq!(row[..3], [*name, name, "-123456789012345678901234.000000000001"]);
            let dimensions: serde_json::Value = serde_json::from_str(row[3]).unwrap();
            assert_eq!(dimensions, serde_json::json!({*name: name, "none": null, "nul": "a\u{fffd}b"}));
        }
        assert_eq!(found.len(), names.len());
    }
    let huge = row_of(UsageRow { event_count: u64::MAX, ..usage("c1", 1, 0) });
    let (failure, reason) = failed(runtime.block_on(sink(&server, TABLE).send(&message(7, vec![huge]))));
    assert_eq!(failure, Failure::Refused);
    assert!(reason.contains("does not fit a bigint"), "{reason}");
}

#[test]
fn five_thousand_rows_with_long_names_go_in_one_message_and_all_or_none() {
    let Some(server) = postgres::start() else { return };
    let (runtime, sink) = (runtime(), sink(&server, TABLE));
    let long = "ü".repeat(120);
    let dimensions: Vec<_> = (0..16).map(|at| (format!("{long}{at}"), Some(long.clone()))).collect();
    let of = |customer: &str| row_of(UsageRow { dimensions: dimensions.clone(), ..usage(customer, 1, 0) });
    let rows: Vec<_> = (0..5_000).map(|at| of(&format!("{long}{at}"))).collect();
    let mut poisoned = rows.clone();
    poisoned[4_999] = of("nul\0");
    assert_eq!(failed(runtime.block_on(sink.send(&message(6, poisoned)))).0, Failure::Refused);
    assert_eq!(one(&server, "SELECT count(*) FROM billing_rows"), "0");
    assert_eq!(runtime.block_on(sink.send(&message(7, rows))), Sent::delivered());
    assert_eq!(one(&server, "SELECT count(*) || ' ' || sum(value) FROM billing_rows"), "5000 5000000");
}

#[test]
fn sinks_that_start_at_once_make_one_table() {
    let Some(server) = postgres::start() else { return };
    let sinks: Vec<_> = (0..8).map(|_| sink(&server, TABLE)).collect();
    runtime().block_on(async {
        let mut sends = tokio::task::JoinSet::new();
        for (at, sink) in sinks.into_iter().enumerate() {
            sends.spawn(async move { sink.send(&message(at as u64, vec![row(&format!("c{at}"), 1, 0)])).await });
        }
        assert!(sends.join_all().await.into_iter().all(|sent| sent == Sent::delivered()));
    });
    assert_eq!(one(&server, "SELECT count(*) FROM billing_rows"), "8");
    assert_eq!(one(&server, "SELECT count(*) FROM pg_indexes WHERE tablename = 'billing_rows'"), "2");
}
