//! `meterd replay`: a directory's history once more, in another directory; to fill a new meter, to compare, or to send again.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::app::{self, AppError, Replay};
use crate::cli::{ConfigArgs, EXIT_CONFIG, EXIT_IN_USE, EXIT_IO, check_config};
use crate::config::Config;
use crate::engine::replay::{Range, ReplayFailed, Reread, RowCounts, Survey};
use crate::engine::{Hasher, OpenError};
use crate::http::Again;
use crate::meter::Meters;
use crate::model::{MeterId, Timestamp};

mod text;

const EXIT_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  meterd replay --config meterd.toml --into /var/lib/meterd-new --diff
  meterd replay --config meterd.toml --new-config next.toml --into /var/lib/meterd-new --diff
  meterd replay --config meterd.toml --new-config next.toml --fill tokens_by_team=tokens --into new
  meterd replay --config meterd.toml --into november --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --diff
  meterd replay --config meterd.toml --into again --reissue billing

The daemon must not run on the source, which is only read. Nothing is sent, and nothing listens. Meters that are new in \
--new-config count the CloudEvents of their event_type; native events name their meter, so a new one gets them by --fill. \
The new directory is built as NEW.partial: what an interrupted replay leaves there has to be removed. Run on it, meterd begins \
a new incarnation with every sink paused.

Exit codes: 0 done, 1 --diff found a difference, 2 usage, or --reissue was not confirmed, 74 the journal or the store cannot be \
read or written, 75 a directory is in use, 78 config refused.";

/// Rebuild everything in a new directory, without any side effect
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The new directory: must be empty, or not be there
    #[arg(long, value_name = "NEW")]
    into: PathBuf,
    /// Replay only usage whose window starts at or after this time; the new directory is then for comparing
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Replay only usage whose window starts before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
    /// The config of the new directory; that of the source if not given
    #[arg(long, value_name = "FILE")]
    new_config: Option<PathBuf>,
    /// Native events of meter OLD feed the new meter NEW, too
    #[arg(long, value_name = "NEW=OLD", value_parser = fill)]
    fill: Vec<(String, String)>,
    /// Compare every window and billing period with the source; alone, if NEW has been filled before
    #[arg(long)]
    diff: bool,
    /// Queue everything for these sinks of the config, to be sent once more when they are resumed
    #[arg(long, value_name = "SINK", value_delimiter = ',', conflicts_with_all = ["from", "to"])]
    reissue: Vec<String>,
    /// Do not ask before --reissue
    #[arg(long)]
    yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).map_err(|error| format!("{error}; write it like 2026-11-01T00:00:00Z"))
}

fn fill(text: &str) -> Result<(String, String), String> {
    let (new, old) = text.split_once('=').ok_or("write NEW=OLD, the new meter's slug first")?;
    Ok((new.to_owned(), old.to_owned()))
}

/// Why there is no result.
enum Failed {
    App(AppError),
    /// What was asked for cannot be done, or was not confirmed.
    Usage(String),
}

impl From<AppError> for Failed {
    fn from(error: AppError) -> Self {
        Failed::App(error)
    }
}

pub fn run(args: &Args) -> ExitCode {
    let config = match args.config.load() {
        Ok((config, _)) => config,
        Err(report) => return check_config::refuse(&report, args.json),
    };
    let new = match args.new_config.as_deref().map(Config::load).transpose() {
        Ok(new) => new.map_or_else(|| config.clone(), |(new, _)| new),
        Err(report) => return check_config::refuse(&report, args.json),
    };
    match act(args, &config, &new) {
        Ok(code) => code,
        Err(failed) => {
            let (text, code) = match failed {
                Failed::Usage(text) => (text, EXIT_USAGE),
                Failed::App(error) => (error.to_string(), code_of(&error)),
            };
            let _ = writeln!(std::io::stderr(), "error: {text}");
            ExitCode::from(code)
        }
    }
}

/// What an error of reading or filling a directory exits with.
pub fn code_of(error: &AppError) -> u8 {
    let (AppError::Open(open) | AppError::Replay(ReplayFailed::Open(open))) = error else { return EXIT_IO };
    match open {
        OpenError::InUse => EXIT_IN_USE,
        OpenError::MeterChanged { .. } | OpenError::Meters(_) => EXIT_CONFIG,
        _ => EXIT_IO,
    }
}

fn act(args: &Args, config: &Config, new: &Config) -> Result<ExitCode, Failed> {
    let range = Range { from: args.from, to: args.to };
    check(args, (config, new))?;
    let usage = |error: std::io::Error| Failed::Usage(format!("{}: {error}", args.into.display()));
    let is_filled = app::is_filled(&args.into).map_err(usage)?;
    if is_filled && !args.diff {
        return Err(Failed::Usage(format!("{} is not empty; with --diff it is compared", args.into.display())));
    }
    if is_filled && !args.reissue.is_empty() {
        return Err(Failed::Usage(format!("{} is not empty: nothing can be queued in it", args.into.display())));
    }
    let replay = Replay::open(config, &args.into)?;
    let replayed = if is_filled {
        None
    } else {
        let survey = replay.survey()?;
        check_fills(args, &survey, new)?;
        confirm(args, &survey)?;
        let make = |meters: Arc<Meters>, hasher: Hasher| reread(meters, hasher, &args.fill);
        Some(replay.fill(&survey, (new, range), &args.reissue, &make)?)
    };
    let compared = if args.diff { Some(replay.compare(range)?) } else { None };
    let shown = if args.json { text::to_json } else { text::to_text };
    // A reader that went away early (`| head`) is no error of ours.
    let _ = std::io::stdout().write_all(shown(replayed.as_ref(), compared.as_ref()).as_bytes());
    Ok(ExitCode::from(u8::from(compared.is_some_and(|compared| compared.difference_count > 0))))
}

fn check(args: &Args, (config, new): (&Config, &Config)) -> Result<(), Failed> {
    let place =
        |path: &Path| std::path::absolute(path).map_err(|error| Failed::Usage(format!("{}: {error}", path.display())));
    if args.into.file_name().is_none() || place(&args.into)?.starts_with(place(&config.data_dir)?) {
        return Err(Failed::Usage("--into must name a directory outside the source".to_owned()));
    }
    let names: Vec<&str> = new.engine.sinks.iter().map(|sink| sink.name.as_str()).collect();
    for name in &args.reissue {
        if !names.contains(&name.as_str()) {
            return Err(Failed::Usage(format!("the config has no sink {name:?}: it has {names:?}")));
        }
    }
    if let (Some(from), Some(to)) = (args.from, args.to)
        && to <= from
    {
        return Err(Failed::Usage("--to must lie after --from".to_owned()));
    }
    Ok(())
}

fn check_fills(args: &Args, survey: &Survey, new: &Config) -> Result<(), Failed> {
    for (slug, old) in &args.fill {
        let is_new = new.meters.iter().any(|meter| meter.slug == *slug) && !survey.has_meter(slug);
        if !is_new {
            return Err(Failed::Usage(format!("--fill {slug}={old}: {slug:?} is not a new meter of the config")));
        }
        if !survey.has_meter(old) {
            return Err(Failed::Usage(format!("--fill {slug}={old}: the journal has no meter {old:?}")));
        }
    }
    Ok(())
}

fn reread(meters: Arc<Meters>, hasher: Hasher, fills: &[(String, String)]) -> Reread {
    let id = |slug: &str| meters.by_slug(slug).map(|meter| meter.id);
    let fills: Vec<(String, MeterId)> = fills.iter().filter_map(|(new, old)| Some((old.clone(), id(new)?))).collect();
    let again = Again { meters, hasher, fills };
    Box::new(move |event| again.read(event))
}

/// Asks before anything is queued to be sent again.
fn confirm(args: &Args, survey: &Survey) -> Result<(), Failed> {
    if args.reissue.is_empty() || args.yes {
        return Ok(());
    }
    let RowCounts { windows, adjustments, alerts } = survey.rows;
    let refused = |why: &str| Failed::Usage(format!("--reissue was not confirmed: {why}"));
    if !std::io::stdin().is_terminal() {
        return Err(refused(&format!(
            "there is no terminal to ask on; {windows} windows, {adjustments} adjustments and {alerts} alerts would be sent \
             again; --yes does not ask"
        )));
    }
    for sink in &args.reissue {
        let _ = write!(
            std::io::stderr(),
            "Once it is resumed, sink {sink:?} gets again what it takes of {windows} windows, {adjustments} adjustments and \
             {alerts} alerts, and those of new meters.\nType its name to go on: "
        );
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        if answer.trim() != sink {
            return Err(refused("another name was typed"));
        }
    }
    Ok(())
}
