//! `meterd run`: the daemon itself.

use std::process::ExitCode;

use crate::app::{self, AppError};
use crate::cli::{ConfigArgs, EXIT_CONFIG, EXIT_IN_USE, EXIT_IO, check_config};
use crate::config::{self, Report};
use crate::engine::OpenError;

const EXAMPLES: &str = "\
Examples:
  meterd run --config /etc/meterd/meterd.toml
  meterd run --config config/meterd.toml --data-dir /tmp/meterd --listen 127.0.0.1:0

Prints one line with its address once it serves. SIGTERM or SIGINT: takes nothing new, answers what is under way, brings \
the store up to date, exits 0. Exit codes: 74 damaged data or a failed disk, 75 directory in use, 78 config refused.";

/// Run the daemon
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
}

pub fn run(args: &Args) -> ExitCode {
    let (config, source) = match args.config.load() {
        Ok(loaded) => loaded,
        Err(report) => return check_config::refuse(&report, false),
    };
    match app::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(AppError::Open(OpenError::MeterChanged { .. })) => {
            // With the place in the file, if the store can still be read; the log has the plain sentence.
            let recorded = app::recorded_meters(&config).unwrap_or_default();
            let changes = config::check_against(&config, &recorded, &source);
            if changes.is_empty() {
                ExitCode::from(EXIT_CONFIG)
            } else {
                check_config::refuse(&Report::new(source, changes), false)
            }
        }
        Err(AppError::Open(OpenError::InUse)) => ExitCode::from(EXIT_IN_USE),
        Err(_) => ExitCode::from(EXIT_IO),
    }
}
