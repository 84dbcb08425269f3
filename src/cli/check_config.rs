//! `meterd check-config`: says everything that is wrong with a config file, or what it sets up.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::{ConfigArgs, EXIT_CONFIG, EXIT_IO};
use crate::config::{self, Config, Report};
use crate::engine::Rule;
use crate::meter::{CapPeriod, Definition, OnHardCap, PlanCap};
use crate::model::{Quantity, RowKind, units};

const EXAMPLES: &str = "\
Examples:
  meterd check-config --config /etc/meterd/meterd.toml
  meterd check-config --config new.toml --json | jq -r '.[].message'

Meters are also compared with those that the data directory has recorded, if there is one; a daemon may be running on it.
Exit codes: 0 valid, 78 refused or not readable, 74 the data directory cannot be read.";

/// Check a config file: every error at once, with its place
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the errors as a JSON array of {file, line, column, key, message, help}
    #[arg(long)]
    pub json: bool,
}

/// `recorded` reads the meters that the config's data directory knows; none where there is no such directory yet.
///
/// Exits 0 (valid), 78 (refused, or the file cannot be read), 74 (the data directory cannot be read).
pub fn run(args: &Args, recorded: impl FnOnce(&Config) -> anyhow::Result<Vec<Definition>>) -> ExitCode {
    let (config, source) = match args.config.load() {
        Ok(loaded) => loaded,
        Err(report) => return refuse(&report, args.json),
    };
    let meters = match recorded(&config) {
        Ok(meters) => meters,
        Err(error) => {
            complain(&format!("error: the meters recorded in {} cannot be read: {error:#}", config.data_dir.display()));
            return ExitCode::from(EXIT_IO);
        }
    };
    let changes = config::check_against(&config, &meters, &source);
    if !changes.is_empty() {
        return refuse(&Report::new(source, changes), args.json);
    }
    say(&if args.json { "[]\n".to_owned() } else { summary(&source.file, &config) });
    ExitCode::SUCCESS
}

/// Prints a report the way every command does, and gives the exit code that goes with it.
pub fn refuse(report: &Report, json: bool) -> ExitCode {
    if json {
        say(&format!("{:#}\n", report.to_json()));
    } else {
        complain(report.render(colour_is_wanted()).trim_end());
    }
    ExitCode::from(EXIT_CONFIG)
}

fn summary(file: &str, config: &Config) -> String {
    let meters = match config.meters.len() {
        0 => "no meters: every event will be rejected with unknown_meter".to_owned(),
        1 => "1 meter".to_owned(),
        count => format!("{count} meters"),
    };
    let (listen, data_dir) = (config.http.listen, config.data_dir.display());
    let mut text = format!("{file} is valid: {meters}; listens on {listen}, keeps its data in {data_dir}\n");
    let width = config.meters.iter().map(|meter| meter.slug.len()).max().unwrap_or(0);
    for meter in &config.meters {
        let (slug, aggregation, window) = (&meter.slug, meter.aggregation.as_str(), meter.window.to_string());
        let (zone, event_type) = (&meter.time_zone, &meter.event_type);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {slug:width$}  {aggregation:6}  per {window:3}  {zone}  from {event_type}");
    }
    if let Some(kept) = shown_retention(config.engine.retention.rule) {
        let _ = writeln!(text, "  journal: {kept}");
    }
    for (meter, caps) in &config.engine.caps {
        for cap in caps {
            let _ = writeln!(text, "  cap {} on {meter}, {}", cap.cap.id, shown_cap(cap, config));
        }
    }
    if let Some(plans) = &config.http.plans {
        let _ = writeln!(text, "  plans that a customer may have: {}", plans.join(", "));
    }
    for sink in &config.sinks {
        let kinds: Vec<&str> = sink.definition.kinds.iter().map(RowKind::as_str).collect();
        let (name, kind) = (&sink.definition.name, sink.destination.kind().as_str());
        let _ = writeln!(text, "  sink {name}: {kind}, gets {}", kinds.join(", "));
    }
    text
}

/// `records older than 400d go, and the oldest beyond 100GiB`; None: everything is kept.
fn shown_retention(Rule { age, bytes }: Rule) -> Option<String> {
    let age = age.map(|age| format!("records older than {} go", units::shown_duration(age)));
    let bytes = bytes.map(|bytes| format!("the oldest beyond {} go", units::shown_size(bytes)));
    match (age, bytes) {
        (Some(age), Some(bytes)) => Some(format!("{age}, and {bytes}")),
        (age, bytes) => age.or(bytes),
    }
}

/// `plan pro: 1000 a month (grace 10%), then reject; alerts at 80%, hard`.
fn shown_cap(PlanCap { plan, cap }: &PlanCap, config: &Config) -> String {
    let plan = plan.as_ref().map_or("every plan".to_owned(), |plan| format!("plan {plan}"));
    let period = match cap.period {
        CapPeriod::Billing => config.billing.period.as_str(),
        CapPeriod::Window => "window",
    };
    let alerts = cap.thresholds().map(|(threshold, _)| threshold.to_string()).collect::<Vec<_>>().join(", ");
    let Some(hard) = cap.hard else { return format!("{plan}: no hard cap; alerts at {alerts} a {period}") };
    let has_grace = cap.grace.of(cap.hard).is_some_and(|grace| grace > Quantity::ZERO);
    let grace = if has_grace { format!(" (grace {})", cap.grace) } else { String::new() };
    let then = match (cap.enforce, cap.on_hard_cap) {
        (false, _) => "not enforced",
        (true, OnHardCap::Allow) => "then allow",
        (true, OnHardCap::Reject) => "then reject",
    };
    format!("{plan}: {hard} a {period}{grace}, {then}; alerts at {alerts}")
}

/// Colours are for people: on a terminal, unless they asked for none (no-color.org).
fn colour_is_wanted() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A reader that went away early (`| head`) is no error of ours.
fn say(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn what_a_file_sets_up_is_shown_line_by_line() {
        let text = r#"
            [journal]
            retention = "400d"
            retention_bytes = "1TiB"
            [[meter]]
            slug = "tokens"
            [[cap]]
            meter = "tokens"
            hard = 1000
            soft = ["900", "80%"]
            grace = "10%"
            [[cap]]
            meter = "tokens"
            id = "try"
            plan = "pro"
            period = "window"
            hard = "2.5"
            enforce = false
            [[cap]]
            meter = "tokens"
            plan = "pro"
            soft = "5"
            [[cap]]
            meter = "tokens"
            plan = "free"
            hard = 1
            on_hard_cap = "allow"
            [[sink]]
            name = "files"
            kind = "file"
            path = "out"
            send = ["alerts"]
        "#;
        let config = Config::parse(&Source::new("a.toml", text)).unwrap();
        let shown = summary("a.toml", &config);
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            [
                "a.toml is valid: 1 meter; listens on 127.0.0.1:8080, keeps its data in data",
                "  tokens  sum     per 1h   UTC  from tokens",
                "  journal: records older than 400d go, and the oldest beyond 1TiB go",
                "  cap default on tokens, every plan: 1000 a month (grace 10%), then reject; alerts at 80%, 900, hard",
                "  cap default on tokens, plan free: 1 a month, then allow; alerts at hard",
                "  cap default on tokens, plan pro: no hard cap; alerts at 5 a month",
                "  cap try on tokens, plan pro: 2.5 a window, not enforced; alerts at hard",
                "  plans that a customer may have: free, pro",
                "  sink files: file, gets alerts",
            ]
        );
    }
}
