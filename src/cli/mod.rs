//! The command line: one file per command.
//!
//! | exit code | means |
//! | --- | --- |
//! | 0 | done |
//! | 1 | done, and something is not as it should be (a total differs, an event was rejected) |
//! | 2 | the command line cannot be understood |
//! | 74 | input or output failed, or what is on disk is damaged |
//! | 75 | the data directory is in use; try again when it is not |
//! | 78 | the config is refused |

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Overrides, Report, Source};

pub mod answer;
mod audit;
mod audit_law;
mod audit_trail;
mod backfills;
mod bench;
mod check_config;
pub mod client;
pub mod daemon;
mod deliveries;
mod demo;
mod evidence;
mod explain;
pub mod generate;
mod inspect;
mod listing;
pub mod load;
mod operator;
mod process;
mod reconcile;
mod replay;
pub mod retry;
mod run;
mod scrape;
mod send;
mod sinks;
mod statement;
mod text;
pub mod totals;
mod verify;
mod void;

/// EX_IOERR of sysexits.h.
pub const EXIT_IO: u8 = 74;
/// EX_TEMPFAIL of sysexits.h.
pub const EXIT_IN_USE: u8 = 75;
/// EX_CONFIG of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// The config file, and the flags that win over it.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

impl ConfigArgs {
    fn load(&self) -> Result<(Config, Source), Report> {
        let (config, source) = Config::load(&self.config)?;
        Ok((config.overridden_by(&self.overrides), source))
    }
}

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 done, and something is not as it should be · 2 usage · 74 input or output failed, or data \
is damaged · 75 the data directory is in use · 78 the config is refused";

/// Usage metering that engineers trust with money: an event counts once however often it arrives
#[derive(Debug, Parser)]
#[command(name = "meterd", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    CheckConfig(check_config::Args),
    Send(send::Args),
    Statement(statement::Args),
    Explain(explain::Args),
    Reconcile(reconcile::Args),
    Void(void::Args),
    Backfills(backfills::Args),
    Audit(audit::Args),
    Deliveries(deliveries::Args),
    Sinks(sinks::Args),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Replay(replay::Args),
    Bench(bench::Args),
    Demo(demo::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::CheckConfig(args) => check_config::run(&args, crate::app::recorded_meters),
        Command::Send(args) => send::run(args),
        Command::Statement(args) => statement::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Void(args) => void::run(&args),
        Command::Backfills(args) => backfills::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Deliveries(args) => deliveries::run(&args),
        Command::Sinks(args) => sinks::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args),
    }
}
