//! The config file: read once, checked whole, turned into each component's own options.
//!
//! ```text
//! bytes ──► Source ──► toml tree with spans ──► tables of keys (sections, meters, caps, sinks) ► Config
//!                            │                          │                    │
//!                      syntax errors            unknown keys, types,   rules over several keys
//!                            └──────────────────────────┴────────────────────┴──► Report: all of them
//! ```
//!
//! 1. A config is taken whole or refused whole. Nothing is guessed, clamped or ignored: a misspelt key is an error.
//! 2. A `Report` holds every error that can be told apart, in file order, each with the place that caused it.
//! 3. Every key but a meter's `slug`, a cap's `meter` and what a sink cannot do without has a default, and
//!    `Config::default()` is what an empty file says.
//! 4. Secrets are read here, and show in no report and no `Debug`.
//! 5. What a meter counts never changes under its slug (`check_against`): its totals may have been billed.
//!
//! The tree is walked by hand from tables of keys, because serde stops at the first error; the same tables answer
//! "did you mean", and let a test prove that `config/meterd.toml` leaves no option out.

mod caps;
mod item;
mod mask;
mod meters;
mod reader;
mod recorded;
mod report;
mod sections;
mod sinks;
mod source;
mod suggest;
mod syntax;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::model::Duration;
use crate::{engine, http, journal, meter, store};

pub use report::{ConfigError, Report};
pub use sinks::{Destination, Kind as SinkKind, Sink};
pub use source::{Position, Source};

/// The largest config file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything `meterd run` is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub http: http::Options,
    pub engine: engine::Options,
    pub journal: journal::Options,
    pub store: store::Options,
    /// In the order of the file; slugs are unique.
    pub meters: Vec<meter::Definition>,
    /// In the order of the file; names are unique. `engine.sinks` has their definitions.
    pub sinks: Vec<Sink>,
    /// What every definition says too.
    pub billing: Billing,
    /// Plans that no cap names. `http.plans` has these and those.
    pub plans: Vec<String>,
    /// Where the journal and the store live. A relative path starts at the working directory.
    pub data_dir: PathBuf,
    pub log: LogOptions,
    pub metrics: MetricsOptions,
    /// How long `meterd run` waits for requests under way once it was told to stop.
    pub shutdown_timeout: Duration,
    /// How long clients may go on retrying an event. Only a promise to check the dedupe retention against.
    pub retry_horizon: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: http::Options::default(),
            engine: engine::Options::default(),
            journal: journal::Options::default(),
            store: store::Options::default(),
            meters: Vec::new(),
            sinks: Vec::new(),
            billing: Billing::default(),
            plans: Vec::new(),
            data_dir: PathBuf::from("data"),
            log: LogOptions::default(),
            metrics: MetricsOptions::default(),
            shutdown_timeout: Duration::from_secs(30),
            retry_horizon: Duration::from_secs(3 * 86_400),
        }
    }
}

/// The billing periods of every meter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Billing {
    pub period: meter::PeriodKind,
    /// Whose calendar they follow. None: each meter's own zone.
    pub time_zone: Option<String>,
}

/// What the daemon logs, and how it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// The least severe events that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As tracing's `LevelFilter` reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
}

/// What `/metrics` shows beyond what it always shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsOptions {
    /// How many customers have a time series of their own, those nearest to their caps; at most 100.
    pub top_customers: usize,
}

/// Command line flags that win over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Where the journal and the store live, instead of storage.data_dir
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen, instead of server.listen; port 0 picks one
    #[arg(long, value_name = "ADDR", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Reads and checks a file. The source comes back too: `check_against` points into it.
    pub fn load(path: &Path) -> Result<(Config, Source), Report> {
        let source = Source::read(path)?;
        let config = Config::parse(&source)?;
        Ok((config, source))
    }

    /// Checks a text that has been read already.
    pub fn parse(source: &Source) -> Result<Config, Report> {
        let (config, errors) = reader::read(source);
        if errors.is_empty() { Ok(config) } else { Err(Report::new(source.clone(), errors)) }
    }

    /// Puts the flags' values in place of the file's.
    #[must_use]
    pub fn overridden_by(mut self, flags: &Overrides) -> Config {
        if let Some(data_dir) = &flags.data_dir {
            self.data_dir.clone_from(data_dir);
        }
        if let Some(listen) = flags.listen {
            self.http.listen = listen;
        }
        self
    }
}

/// Compares the file's meters with those a data directory has recorded. One error per changed key that must not change.
pub fn check_against(config: &Config, recorded: &[meter::Definition], source: &Source) -> Vec<ConfigError> {
    recorded::changed(config, recorded, source)
}

/// Reads the `--listen` flag under the rule that `server.listen` obeys.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    sections::listen(text).map_err(|refusal| match refusal.help {
        Some(help) => format!("{} ({help})", refusal.message),
        None => refusal.message,
    })
}
