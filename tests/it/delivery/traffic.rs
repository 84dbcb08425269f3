//! The traffic of `windows` into all three sinks at once, and what must have arrived.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use meterd::cli::daemon::Daemon;
use serde_json::Value;

use crate::delivery::files;
use crate::delivery::rows::{Effects, compare, effects, expected, newest};
use crate::harness::postgres::{self, Postgres};
use crate::harness::receiver::{Answer, Receiver, Request, SECRET};
use crate::harness::{Home, client};
use crate::windows::billing::{Cell, Sum, millis, scaled};
use crate::windows::senders::Senders;

const TABLE: &str = "billing.usage_windows";
/// A daemon under load on a machine under load.
const DRAINED_WITHIN: Duration = Duration::from_secs(90);
/// Each failure is tried again so soon that the test does not take long, and so often that nothing becomes a dead letter.
const SCHEDULE: &str = "schedule = [\"0s\", \"100ms\", \"200ms\", \"500ms\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \
     \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"]\ntimeout = \"5s\"\nbreaker_failures = 100\n";
/// Notes each change of a row of the table, whoever creates it and whenever.
const AUDIT: &str = "
CREATE SCHEMA billing;
CREATE TABLE public.audit (number bigserial, content jsonb);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.audit (content) VALUES (to_jsonb(NEW));
  RETURN NEW;
END $$;
CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE found record; BEGIN
  FOR found IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' AND schema_name = 'billing' LOOP
    EXECUTE format('CREATE TRIGGER noted AFTER INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION public.note()',
                   found.object_identity);
  END LOOP;
END $$;
CREATE EVENT TRIGGER watched ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.watch();
";

pub struct Sinks {
    pub receiver: Receiver,
    /// Absent where there is no PostgreSQL.
    postgres: Option<Postgres>,
    files: tempfile::TempDir,
}

impl Sinks {
    pub fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let postgres = postgres::start();
        if let Some(postgres) = &postgres {
            postgres.query(AUDIT);
        }
        Self { receiver: Receiver::start(script), postgres, files: tempfile::tempdir().unwrap() }
    }

    pub fn config(&self) -> String {
        let common = format!("send = [\"windows\", \"adjustments\"]\n{SCHEDULE}");
        let mut config = format!(
            "[[sink]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
             allow_private_addresses = true\nmax_rows = 20\n{common}\
             [[sink]]\nname = \"files\"\nkind = \"file\"\npath = \"{}\"\nformat = \"ndjson\"\n{common}\
             [[sink]]\nname = \"sheets\"\nkind = \"file\"\npath = \"{}\"\nformat = \"csv\"\n{common}",
            self.receiver.url(),
            self.directory("files").display(),
            self.directory("sheets").display(),
        );
        if let Some(postgres) = &self.postgres {
            let url = postgres.url();
            config += &format!(
                "[[sink]]\nname = \"table\"\nkind = \"postgres\"\nurl = \"{url}\"\ntable = \"{TABLE}\"\n{common}"
            );
        }
        config
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Waits until no sink has anything to do. Rows count for a sink once the store has them.
    pub fn wait_until_drained(&self, daemon: &Daemon) {
        let (began, mut client) = (Instant::now(), client(daemon));
        loop {
            let verbose = client.get("/readyz?verbose").unwrap();
            let verbose = String::from_utf8_lossy(&verbose.body);
            let seq = |name| verbose.lines().find_map(|line: &str| line.strip_prefix(name)).expect("a line of it");
            let is_stored = seq("durable_seq ") == seq("indexed_seq ");
            let sinks: Value = client.get_json("/v1/sinks").unwrap_or_else(|error| panic!("{error}"));
            let sinks = sinks["data"].as_array().unwrap();
            assert!(sinks.iter().all(|sink| sink["dead_letters"] == 0), "nothing becomes a dead letter: {sinks:?}");
            let is_idle = |sink: &Value| sink["pending"] == 0 && sink["oldest_at"].is_null();
            if is_stored && sinks.iter().all(is_idle) {
                return println!("drained after {:?}", began.elapsed());
            }
            assert!(began.elapsed() < DRAINED_WITHIN, "the sinks are not drained: {sinks:?}");
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Holds each sink against the daemon's books, which were held against what was sent.
    pub fn check(&self, due: &Effects) {
        let requests = self.receiver.requests();
        let hook = effects(&requests).and_then(|found| compare("webhook", due, &found));
        hook.unwrap_or_else(|wrong| panic!("{wrong}"));
        for (format, directory) in [("ndjson", "files"), ("csv", "sheets")] {
            let found = files::read(&self.directory(directory), format);
            compare(format, due, &found).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        let ids = requests.iter().filter(|request| request.attempt == 0).count();
        println!("{} rows in {ids} messages, {} requests", due.len(), requests.len());
        if let Some(postgres) = &self.postgres {
            check_table(&Table::of(postgres), due).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
    }
}

/// What PostgreSQL holds, and every change that led to it.
struct Table {
    rows: Vec<Listed>,
    changes: Vec<Listed>,
}

type Listed = (Cell, u64, u64, Sum);

impl Table {
    fn of(postgres: &Postgres) -> Self {
        let read = |sql: &str| {
            let rows = postgres.query(sql);
            rows.iter().map(|row| listed(row[0].as_deref().unwrap())).collect()
        };
        Self {
            rows: read(&format!("SELECT to_jsonb(t)::text FROM {TABLE} t")),
            changes: read("SELECT content::text FROM public.audit ORDER BY number"),
        }
    }
}

fn listed(text: &str) -> Listed {
    // A number may have more digits than a float keeps: every one is read as it is written.
    let row: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(text).unwrap();
    let text = |name: &str| serde_json::from_str::<Option<String>>(row[name].get()).unwrap();
    let number = |name: &str| row[name].get().parse::<u64>().unwrap();
    let dimensions: Value = serde_json::from_str(row["dimensions"].get()).unwrap();
    let cell = Cell {
        meter: text("meter").unwrap(),
        customer: text("customer").unwrap(),
        model: dimensions["model"].as_str().map(str::to_owned),
        start_ms: millis(&text("window_start").unwrap()),
    };
    let sum = Sum { scaled: scaled(Some(row["value"].get())), events: number("event_count") };
    (cell, number("incarnation"), number("revision"), sum)
}

/// The table is the newest of each window; no change went back, and none was made twice.
fn check_table(table: &Table, due: &Effects) -> Result<(), String> {
    let newest = newest(due);
    let rows = table.rows.iter().map(|(cell, incarnation, revision, sum)| (cell, (*incarnation, *revision, *sum)));
    let rows = rows.collect::<BTreeMap<_, _>>();
    if rows.len() != table.rows.len() || rows.len() != newest.len() {
        return Err(format!("{} rows of {} windows, {} were due", table.rows.len(), rows.len(), newest.len()));
    }
    if let Some((cell, row)) = newest.iter().find(|(cell, row)| rows.get(cell) != Some(row)) {
        return Err(format!("PostgreSQL has {:?} where {row:?} was due: {cell:?}", rows.get(cell)));
    }
    let mut seen = BTreeMap::<&Cell, (u64, u64)>::new();
    for (cell, incarnation, revision, sum) in &table.changes {
        let version = (*incarnation, *revision);
        let before = seen.insert(cell, version);
        if before.is_some_and(|before| before >= version) {
            return Err(format!("{cell:?} became {version:?} after {before:?}"));
        }
        let key = crate::delivery::rows::Key { cell: cell.clone(), incarnation: version.0, revision: version.1 };
        if due.get(&key).is_none_or(|said| said.sum != *sum) {
            return Err(format!("{key:?} became {sum:?}, where {:?} was due", due.get(&key)));
        }
    }
    println!("PostgreSQL: {} rows by {} changes", table.rows.len(), table.changes.len());
    Ok(())
}

/// Waits until all is final and delivered, and holds everything against everything.
pub fn settle(home: &Home, daemon: Daemon, senders: &Senders, sinks: &Sinks) {
    let oracle = senders.oracle.lock();
    println!("{}; {} requests had no answer", oracle.summary(), senders.unanswered());
    crate::windows::wait_until_all_is_final(&mut client(&daemon));
    sinks.wait_until_drained(&daemon);
    let books = crate::windows::read(&daemon, &oracle);
    oracle.check_answers(books.adjustments.len()).unwrap_or_else(|wrong| panic!("{wrong}"));
    crate::windows::checks::all(&oracle.expected(), &books).unwrap_or_else(|wrong| panic!("{wrong}"));
    let due = expected(&books, 1);
    assert!(due.values().any(|said| said.delta.is_some()) && due.values().any(|said| said.delta.is_none()));
    sinks.check(&due);
    // A restart sends nothing again.
    let before = sinks.receiver.count();
    daemon.stop().unwrap();
    let daemon = home.start();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sinks.receiver.count(), before, "what is delivered is not sent again");
    daemon.stop().unwrap();
    home.verify();
}
