//! A daemon whose wall clock the test sets, what it was sent, and what was seen of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meterd::cli::client::Client;
use meterd::cli::daemon::Daemon;
use meterd::env::{Clock, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{Home, METERD, SMALL, client, post};
use crate::windows::billing::{Books, Cell, DIMENSION, Row, WINDOW_MS, millis, month, usage};
use crate::windows::checks::Expected;

pub const HOUR_MS: i64 = 3_600_000;
/// The meter whose events say when they happened, and the one where the daemon's wall clock does.
pub const TIMED: &str = "timed";
pub const UNTIMED: &str = "untimed";
const CUSTOMERS: usize = 2;
const ONE: i128 = 1_000_000_000_000;
/// Far above the few ticks that anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The preloaded library that fakes the wall clock, if this machine has it.
pub fn library() -> Option<PathBuf> {
    let roots = ["/usr/lib", "/usr/local/lib", "/usr/lib64"];
    let below = roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten().map(|entry| entry.path());
    let folders = roots.iter().map(PathBuf::from).chain(below);
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

/// A place where the wall clock is `offset_ms` from this machine's.
pub struct Faked {
    home: Home,
    rate: PathBuf,
    offset_ms: i64,
}

impl Faked {
    pub fn new(library: &Path, settle: &str) -> Self {
        let meter = |slug: &str, aggregation: &str| {
            format!(
                "[[meter]]\nslug = \"{slug}\"\naggregation = \"{aggregation}\"\nwindow = \"2s\"\ngrace = \"1s\"\n\
                 dimensions = {{ {DIMENSION} = \"$.model\" }}\n"
            )
        };
        let clock = format!("[clock]\nmax_step = \"1h\"\nsettle = \"{settle}\"\n");
        let mut home = Home::new(&format!("{SMALL}{clock}{}{}", meter(TIMED, "sum"), meter(UNTIMED, "count")));
        let rate = home.place.config.with_file_name("clock");
        let mut program = vec!["env".into()];
        for (name, value) in [
            ("LD_PRELOAD", library.as_os_str()),
            ("FAKETIME_TIMESTAMP_FILE", rate.as_os_str()),
            ("FAKETIME_NO_CACHE", "1".as_ref()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
            ("NO_FAKE_STAT", "1".as_ref()),
        ] {
            let mut setting = std::ffi::OsString::from(format!("{name}="));
            setting.push(value);
            program.push(setting);
        }
        program.push(METERD.into());
        home.place.program = program;
        let mut faked = Self { home, rate, offset_ms: 0 };
        faked.set(0);
        faked
    }

    /// By rename, so that no read finds half a number.
    fn set(&mut self, offset_ms: i64) {
        let sign = if offset_ms < 0 { '-' } else { '+' };
        let magnitude = offset_ms.unsigned_abs();
        let next = self.rate.with_extension("next");
        fs::write(&next, format!("{sign}{}.{:03}\n", magnitude / 1_000, magnitude % 1_000)).unwrap();
        fs::rename(&next, &self.rate).unwrap();
        self.offset_ms = offset_ms;
    }
}

/// What `GET /v1/clock` says.
#[derive(Debug, Deserialize)]
struct Status {
    wall: String,
    effective: Option<String>,
    paused: bool,
}

pub type Rows = BTreeMap<Cell, Row>;

pub struct Scene {
    faked: Faked,
    /// None only between two daemons.
    daemon: Option<Daemon>,
    client: Client,
    /// By window: the events that said when they happened.
    pub sent: Expected,
    pub untimed_events: u64,
    /// As the answers said.
    pub late_events: u64,
    numbers: usize,
    /// The windows of the last look.
    seen: Rows,
}

impl Scene {
    pub fn start(faked: Faked) -> Self {
        let daemon = faked.home.start();
        let client = client(&daemon);
        Self {
            faked,
            daemon: Some(daemon),
            client,
            sent: Expected::new(),
            untimed_events: 0,
            late_events: 0,
            numbers: 0,
            seen: Rows::new(),
        }
    }

    pub fn offset_ms(&self) -> i64 {
        self.faked.offset_ms
    }

    /// What the daemon's wall clock shows.
    pub fn now_ms(&self) -> i64 {
        SystemClock::new().now().millis() + self.faked.offset_ms
    }

    pub fn step_to(&mut self, offset_ms: i64) {
        self.faked.set(offset_ms);
        let status = self.status();
        let off_ms = millis(&status.wall) - self.now_ms();
        assert!(off_ms.abs() < 5_000, "the daemon's clock is {off_ms} ms from where it was set: {status:?}");
    }

    /// Sends two events for each offset from the wall clock, and two that leave the time to the daemon. Returns how many
    /// there were and how many came late.
    pub fn feed(&mut self, offsets_ms: &[i64]) -> (u64, u64) {
        let (now, mut events) = (self.now_ms(), Vec::new());
        for customer in (0..CUSTOMERS).map(|n| format!("c{n}")) {
            for offset in offsets_ms {
                let model = (offset / 500 % 2 == 0).then(|| "even".to_owned());
                let start_ms = (now + offset).div_euclid(WINDOW_MS) * WINDOW_MS;
                let cell = Cell { meter: TIMED.into(), customer: customer.clone(), model, start_ms };
                events.push(self.event(&cell, now + offset));
            }
            self.numbers += 1;
            self.untimed_events += 1;
            let id = format!("e{}", self.numbers);
            events.push(json!({"usage_event_id": id, "customer": customer, "meter": UNTIMED}));
        }
        (events.len() as u64, self.post(&events.into()))
    }

    /// Sends an event for the start of a window; returns how many came late.
    pub fn send_one(&mut self, cell: &Cell) -> u64 {
        let event = self.event(cell, cell.start_ms);
        self.post(&event)
    }

    fn event(&mut self, cell: &Cell, timestamp_ms: i64) -> Value {
        self.numbers += 1;
        let quantity = self.numbers % 7 + 1;
        self.sent.entry(cell.clone()).or_default().add(quantity as i128 * ONE, 1);
        json!({
            "usage_event_id": format!("e{}", self.numbers), "customer": cell.customer, "meter": cell.meter,
            "quantity": quantity, "timestamp": timestamp_ms, "dimensions": { DIMENSION: cell.model },
        })
    }

    fn post(&mut self, events: &Value) -> u64 {
        let (status, answer) = post(&mut self.client, "/v1/events", events);
        let sent = events.as_array().map_or(1, Vec::len);
        assert_eq!((status, &answer["accepted"]), (200, &json!(sent)), "{answer}");
        let late = answer["late"].as_u64().unwrap();
        self.late_events += late;
        late
    }

    /// Feeds, and looks at the windows each time. Returns how many events there were and how many came late.
    pub fn feed_for(&mut self, span: Duration, offsets_ms: &[i64]) -> (u64, u64) {
        let (began, mut all) = (Instant::now(), (0, 0));
        while began.elapsed() < span {
            let (sent, late) = self.feed(offsets_ms);
            all = (all.0 + sent, all.1 + late);
            self.look();
            std::thread::sleep(Duration::from_millis(100));
        }
        all
    }

    /// All windows, held against the last look.
    pub fn look(&mut self) -> Rows {
        let mut rows = Rows::new();
        for meter in [TIMED, UNTIMED] {
            rows.extend(usage(&mut self.client, meter, &format!("group_by=customer,{DIMENSION}")));
        }
        for (cell, before) in &self.seen {
            let now = rows.get(cell).unwrap_or_else(|| panic!("{cell:?} is gone"));
            let is_less = now.revision < before.revision || now.sum.events < before.sum.events;
            let is_back = before.state == "finalized" && now.state != "finalized";
            let is_silent = before.state == "finalized" && now.sum != before.sum && now.revision == before.revision;
            assert!(!is_less && !is_back && !is_silent, "{cell:?} was {before:?} and is {now:?}");
        }
        self.seen.clone_from(&rows);
        rows
    }

    /// Looks until the windows and effective time are as they should be.
    pub fn wait_until(&mut self, what: &str, holds: impl Fn(&Rows, i64) -> bool) {
        let began = Instant::now();
        loop {
            let (rows, effective_ms) = (self.look(), self.effective_ms());
            if holds(&rows, effective_ms) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it never came to be that {what}: {:?}, {rows:?}", self.status());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn status(&mut self) -> Status {
        self.client.get_json("/v1/clock").unwrap_or_else(|error| panic!("{error}"))
    }

    /// Effective time; the year 1 before there is any.
    pub fn effective_ms(&mut self) -> i64 {
        self.status().effective.map_or(i64::MIN, |effective| millis(&effective))
    }

    pub fn is_paused(&mut self) -> bool {
        self.status().paused
    }

    /// Waits for the answer, the metric and the log to agree on it.
    pub fn wait_until_paused(&mut self, paused: bool) {
        let (began, due) = (Instant::now(), format!("meterd_clock_paused {}", u8::from(paused)));
        loop {
            let reply = self.client.get("/metrics").unwrap();
            let metrics = String::from_utf8_lossy(&reply.body).into_owned();
            if self.is_paused() == paused && metrics.lines().any(|line| line == due) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "paused is not {paused}: {:?}, {metrics}", self.status());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(self.faked.home.log().to_lowercase().contains("paus"), "a pause is logged");
    }

    pub fn reset(&mut self) {
        let reply = self.client.post("/v1/clock:reset", "application/json", "{}".into()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.problem());
    }

    pub fn books(&mut self) -> Books {
        let customers = (0..CUSTOMERS).map(|n| format!("c{n}")).collect::<Vec<_>>();
        let periods = self.look().keys().map(|cell| month(cell.start_ms)).collect();
        Books::read(&mut self.client, &[TIMED, UNTIMED], &customers, &periods)
    }

    pub fn kill_and_restart(&mut self) {
        self.daemon.take().unwrap().kill().unwrap();
        self.start_again();
    }

    pub fn restart(&mut self) {
        self.daemon.take().unwrap().stop().unwrap();
        self.start_again();
    }

    fn start_again(&mut self) {
        let daemon = self.faked.home.start();
        self.client = client(&daemon);
        self.daemon = Some(daemon);
    }

    /// Stops, and expects the store to be what the log says.
    pub fn verify(&mut self) {
        self.daemon.take().unwrap().stop().unwrap();
        self.faked.home.verify();
    }
}
