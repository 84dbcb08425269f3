//! `meterd audit`: the conservation law of every tenant, from the journal, beside what the store's counters say.

use std::io::Write;
use std::process::ExitCode;

use crate::app;
use crate::cli::text::{printable, table};
use crate::cli::{ConfigArgs, check_config, replay};
use crate::engine::{Audited, Law};
use serde_json::json;

pub const EXAMPLES: &str = "\
Examples:
  meterd audit --config /etc/meterd/meterd.toml
  meterd audit --config meterd.toml --data-dir /backup/meterd --format json | jq .holds

Per tenant: received = accepted + duplicate + conflict + rejected + capped, from the journal alone, and beside it what the store's \
counters say. The daemon must not run on the directory. Exit codes: 0 they agree, 1 they differ, 74 they cannot be read, or the \
journal's beginning is gone, 75 the directory is in use, 78 config refused.

";

/// Exits 0 (it holds), 1 (journal and counters differ), 74 (they cannot be read), 75 (in use), 78 (config refused).
pub fn run_law(config: &ConfigArgs, is_json: bool) -> ExitCode {
    let config = match config.load() {
        Ok((config, _)) => config,
        Err(report) => return check_config::refuse(&report, is_json),
    };
    let audited = match app::audit(&config) {
        Ok(audited) => audited,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::from(replay::code_of(&error));
        }
    };
    let text = if is_json { to_json(&audited) } else { to_text(&audited) };
    // A reader that went away early (`| head`) is no error of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(!audited.holds()))
}

fn to_json(audited: &Audited) -> String {
    let tenant = |(tenant, law): (&String, &Law)| {
        json!({
            "tenant": tenant, "received": law.received(), "accepted": law.accepted,
            "duplicate": law.not_taken.duplicate, "conflict": law.not_taken.conflict,
            "rejected": law.not_taken.rejected, "capped": law.not_taken.capped,
            "voided": law.voided, "reverted": law.reverted,
            "counters": {
                "accepted": law.store.accepted, "duplicate": law.store.not_taken.duplicate,
                "conflict": law.store.not_taken.conflict, "rejected": law.store.not_taken.rejected,
                "capped": law.store.not_taken.capped,
            },
            "holds": law.holds(),
        })
    };
    let json = json!({
        "journal_end": audited.last.0, "store": audited.store.0, "holds": audited.holds(),
        "tenants": audited.tenants.iter().map(tenant).collect::<Vec<_>>(),
    });
    format!("{json:#}\n")
}

fn to_text(audited: &Audited) -> String {
    let header = [
        "tenant",
        "received",
        "accepted",
        "duplicate",
        "conflict",
        "rejected",
        "capped",
        "voided",
        "reverted",
        "counters",
    ];
    let rows = audited.tenants.iter().map(|(tenant, law)| {
        let tally = law.not_taken;
        let numbers = [tally.duplicate, tally.conflict, tally.rejected, tally.capped, law.voided, law.reverted];
        let [duplicate, conflict, rejected, capped, voided, reverted] = numbers.map(|number| number.to_string());
        let (received, accepted) = (law.received().to_string(), law.accepted.to_string());
        let says = if law.holds() { "agree".to_owned() } else { counters(law) };
        [printable(tenant), received, accepted, duplicate, conflict, rejected, capped, voided, reverted, says]
    });
    let result = if audited.holds() { "the law holds" } else { "journal and counters differ" };
    format!(
        "{}\n{result}: received = accepted + duplicate + conflict + rejected + capped, to record {} (the store has {}); voided and \
         reverted events are among the accepted\n",
        table(header, rows, 1..9),
        audited.last,
        audited.store
    )
}

/// What the store's counters say instead.
fn counters(law: &Law) -> String {
    let (accepted, tally) = (law.store.accepted, law.store.not_taken);
    format!(
        "{accepted} accepted, {} duplicate, {} conflict, {} rejected, {} capped",
        tally.duplicate, tally.conflict, tally.rejected, tally.capped
    )
}
