//! `meterd audit`: whether every event is accounted for, offline; and who changed what, of a running daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::cli::{ConfigArgs, audit_law, audit_trail};
use crate::config::Overrides;

/// Check that every event is accounted for; or, with --trail, see who changed what
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = [audit_law::EXAMPLES, audit_trail::EXAMPLES].concat())]
pub struct Args {
    /// The config file: the law of its data directory, which no daemon may use meanwhile
    #[arg(long, value_name = "FILE", required_unless_present = "trail", conflicts_with = "trail")]
    config: Option<PathBuf>,
    /// Where the journal and the store live, instead of storage.data_dir
    #[arg(long, value_name = "DIR", conflicts_with = "trail")]
    data_dir: Option<PathBuf>,
    /// Show the trail of a running daemon: operators' actions, and changed caps, customers and configs
    #[arg(long)]
    trail: bool,
    #[command(flatten)]
    of_trail: audit_trail::TrailArgs,
}

/// Exits 0 when all is well, 1 when a number is not accounted for or the daemon cannot be asked.
pub fn run(args: &Args) -> ExitCode {
    let Some(config) = args.config.clone().filter(|_| !args.trail) else {
        return audit_trail::run_trail(&args.of_trail);
    };
    let overrides = Overrides { data_dir: args.data_dir.clone(), listen: None };
    audit_law::run_law(&ConfigArgs { config, overrides }, args.of_trail.is_json())
}
