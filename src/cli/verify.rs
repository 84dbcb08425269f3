//! `meterd verify`: refolds the journal and compares it with the store.

use std::io::Write;
use std::process::ExitCode;

use crate::app::{self, AppError};
use crate::cli::{ConfigArgs, EXIT_IN_USE, EXIT_IO, check_config};
use crate::engine::{OpenError, Verified};

const EXAMPLES: &str = "\
Examples:
  meterd verify --config /etc/meterd/meterd.toml
  meterd verify --config config/meterd.toml --data-dir /backup/meterd --json | jq .differences

The daemon must not run on the directory. Changes nothing. Where retention has removed the beginning of the journal, the fold \
starts from the base checkpoint, and the result says so. Exit codes: 0 equal, 1 something differs, 74 the journal or \
the store cannot be read, 75 the directory is in use, 78 config refused.";

/// Refold the journal and compare every counter and id with the store
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let config = match args.config.load() {
        Ok((config, _)) => config,
        Err(report) => return check_config::refuse(&report, args.json),
    };
    let verified = match app::verify(&config) {
        Ok(verified) => verified,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return match error {
                AppError::Open(OpenError::InUse) => ExitCode::from(EXIT_IN_USE),
                _ => ExitCode::from(EXIT_IO),
            };
        }
    };
    let text = if args.json { to_json(&verified) } else { to_text(&verified) };
    // A reader that went away early (`| head`) is no error of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(verified.difference_count > 0))
}

fn to_json(verified: &Verified) -> String {
    let difference = |difference: &crate::engine::Difference| serde_json::json!({ "what": difference.what, "journal": difference.journal, "store": difference.store });
    let json = serde_json::json!({
        "position": verified.position.0,
        "journal_end": verified.journal_end.0,
        "rebuildable_from": verified.rebuildable_from.0,
        "base": verified.base.map(|base| base.0),
        "counters": verified.counters,
        "rows": verified.rows,
        "ids": verified.ids,
        "difference_count": verified.difference_count,
        "differences": verified.differences.iter().map(difference).collect::<Vec<_>>(),
    });
    format!("{json:#}\n")
}

fn to_text(verified: &Verified) -> String {
    let Verified { position, journal_end, counters, rows, ids, difference_count, differences, .. } = verified;
    let mut text = String::new();
    for difference in differences {
        text += &format!("{}\n  journal: {}\n  store:   {}\n", difference.what, difference.journal, difference.store);
    }
    let result = if *difference_count == 0 { "equal".to_owned() } else { format!("{difference_count} differences") };
    text += &format!(
        "{result}: {counters} counters, {rows} rows in all and {ids} ids, compared at record {position} (the journal ends at {journal_end})\n"
    );
    if let Some(base) = verified.base {
        text += &format!(
            "rebuildable from record {}: what came before is in the base at {base}\n",
            verified.rebuildable_from
        );
    }
    text
}
