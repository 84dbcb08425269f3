//! `meterd inspect`: what is on disk, decoded, for whoever has to find out what happened.
//!
//! | subcommand | shows |
//! | --- | --- |
//! | `segments` | the journal's files, and the base checkpoint |
//! | `frames SEGMENT` | the frames of one, and their records |
//! | `id USAGE_EVENT_ID` | what the index knows of an id, and where its event is |
//! | `window CUSTOMER METER START` | the rows of a window and of its billing period |
//!
//! 1. Nothing is locked and nothing changed: a daemon may be running. The store is shown as it was last persisted.
//! 2. Names and events come from outside: what could steer a terminal is escaped.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::Value;

use crate::app::{self, AppError, Directory};
use crate::cli::{ConfigArgs, EXIT_IO, check_config};
use crate::engine::inspect::{self, InspectError};
use crate::model::{Seq, Timestamp};

mod show;

const EXAMPLES: &str = "\
Examples:
  meterd inspect --config /etc/meterd/meterd.toml segments
  meterd inspect --config /etc/meterd/meterd.toml frames 52310 --records
  meterd inspect --config /etc/meterd/meterd.toml id req-8f2c --source api --tenant acme
  meterd inspect --config /etc/meterd/meterd.toml window c-17 tokens_in 2026-11-22T14:00:00Z --format json

Changes nothing; a daemon may be running on the directory. Exit codes: 0 found, 1 there is no such id or window, or a \
segment is damaged, 74 the directory cannot be read, 78 config refused.";

/// Look at segments, frames, ids and windows on disk
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    format: Format,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the journal's segments, and the base checkpoint
    Segments {
        /// Do not read the frames: names and lengths only, which is quick however long the journal is
        #[arg(long)]
        quick: bool,
    },
    /// List the frames of a segment
    Frames {
        /// The first record of the segment: its file's name, leading zeros or not
        #[arg(value_name = "SEGMENT")]
        segment: u64,
        /// Also list what each frame holds, a line for each record
        #[arg(long)]
        records: bool,
    },
    /// Show what the index knows of an id, and where its event is
    Id {
        #[arg(value_name = "USAGE_EVENT_ID")]
        usage_event_id: String,
        /// The event's source; an event without one has the empty source
        #[arg(long, value_name = "SOURCE", default_value = "")]
        source: String,
        #[arg(long, value_name = "TENANT", default_value = "default")]
        tenant: String,
    },
    /// Show the rows of a window, and of the billing period it lies in
    Window {
        #[arg(value_name = "CUSTOMER")]
        customer: String,
        #[arg(value_name = "METER")]
        meter: String,
        /// When the window starts: RFC 3339, or milliseconds since 1970
        #[arg(value_name = "START", value_parser = parse_time)]
        start: Timestamp,
        #[arg(long, value_name = "TENANT", default_value = "default")]
        tenant: String,
    },
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    let read = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Timestamp::parse_unix_millis(text),
        false => Timestamp::parse_rfc3339(text),
    };
    read.map_err(|error| error.to_string())
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Open(#[from] AppError),
    #[error(transparent)]
    Read(#[from] InspectError),
}

/// What was found: for programs, for people, and whether it is as it should be.
struct Shown {
    json: Value,
    text: String,
    fine: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let config = match args.config.load() {
        Ok((config, _)) => config,
        Err(report) => return check_config::refuse(&report, args.format == Format::Json),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let shown = app::look(&config).map_err(Failed::from).and_then(|directory| look(args, &directory, &mut out));
    // A reader that went away early (`| head`) is no error of ours.
    let _ = out.flush();
    match shown {
        Ok(fine) => ExitCode::from(u8::from(!fine)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(EXIT_IO)
        }
    }
}

/// Whether it is as it should be.
fn look(args: &Args, directory: &Directory, out: &mut dyn Write) -> Result<bool, Failed> {
    let disk = &directory.disk;
    let shown = match &args.what {
        What::Segments { quick } => {
            let segments = inspect::segments(disk, !quick)?;
            show::segments(&segments, directory.base.as_ref())
        }
        What::Frames { segment, records } => {
            let mut frames = show::Frames::new(out, args.format == Format::Json, *records);
            let end = inspect::frames(disk, Seq(*segment), *records, &mut |frame| frames.frame(&frame))?;
            return Ok(frames.end(&end));
        }
        What::Id { usage_event_id, source, tenant } => {
            show::id(&inspect::id(disk, &directory.store()?, (tenant, source, usage_event_id))?)
        }
        What::Window { customer, meter, start, tenant } => {
            let (position, lines) = inspect::windows(&directory.store()?, (tenant, customer, meter), *start)?;
            show::windows(position, &lines)
        }
    };
    let text = if args.format == Format::Json { format!("{:#}\n", shown.json) } else { shown.text };
    let _ = out.write_all(text.as_bytes());
    Ok(shown.fine)
}
