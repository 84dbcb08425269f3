//! `meterd audit`: who changed what.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::cli::audit_trail;

/// See who changed what: the trail of operators' actions and of changed caps, customers and configs
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = audit_trail::EXAMPLES)]
pub struct Args {
    /// Show the trail of a running daemon
    #[arg(long, required = true)]
    trail: bool,
    #[command(flatten)]
    of_trail: audit_trail::TrailArgs,
}

/// Exits 0 when it is written, 1 when the daemon cannot be asked.
pub fn run(args: &Args) -> ExitCode {
    audit_trail::run_trail(&args.of_trail)
}
