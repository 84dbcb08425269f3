//! A sink that is a directory: a file for every delivery, and a manifest that says the file is whole.
//!
//! | name | holds |
//! | --- | --- |
//! | `<kind>-<delivery>.ndjson` or `.csv` | the rows, see `row` |
//! | the same and `.manifest.json` | the file's name, delivery, kind, rows, bytes, SHA-256, first and last position, time |
//! | either and `.tmp` | being written, or left by a crash: means nothing |
//!
//! 1. A file counts once its manifest is there; from then on it is whole, durable and as the manifest says.
//! 2. Sending a delivery again ends in the same two files, byte for byte, whatever a crash left behind. Someone who has
//!    taken the files away already gets them again, under the same names.
//! 3. Names are of deliveries, so that sinks can share a directory.
//! 4. Blocking calls have threads of their own, and never more than 16 at a time.

mod write;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, mem};

use parking_lot::Mutex;

use crate::delivery::row;
use crate::delivery::transport::{Failure, Limits, Message, Sending, Sent, Transport};
use crate::engine::outbox::ROWS_MAX;
use crate::engine::{DeliveryId, OutboxRow};
use crate::env::OsDisk;
use crate::model::RowKind;

/// Rows of a file unless the operator says otherwise, and at most.
pub const MAX_ROWS_DEFAULT: usize = ROWS_MAX;
/// A message is in memory while it is written.
const FILE_BYTES_MAX: usize = 32 << 20;
/// Attempts whose caller gave up go on until the disk answers; past this many, new ones are turned away.
const WRITING_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The directory; it is made if need be.
    pub path: PathBuf,
    pub format: Format,
    pub max_rows: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Ndjson,
    Csv,
}

impl Format {
    pub const ALL: [Format; 2] = [Format::Ndjson, Format::Csv];

    /// Also what a file's name ends with.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(())
    }
}

/// A directory that gets files.
pub struct Files {
    place: Arc<Place>,
    max_rows: usize,
}

/// What the threads that write share.
struct Place {
    path: PathBuf,
    format: Format,
    /// The directory was there, or was made, with its name durable.
    is_made: AtomicBool,
    writing: Mutex<HashSet<DeliveryId>>,
}

impl Files {
    pub fn new(options: Options) -> Self {
        let Options { path, format, max_rows } = options;
        let place = Place { path, format, is_made: AtomicBool::new(false), writing: Mutex::default() };
        Self { place: Arc::new(place), max_rows }
    }

    async fn deliver(&self, message: &Message) -> Sent {
        let turn = match Turn::take(&self.place, message.id) {
            Ok(turn) => turn,
            Err(reason) => return Sent::failed(Failure::Unavailable, reason),
        };
        let message = message.clone();
        let written = tokio::task::spawn_blocking(move || turn.place.write(&message)).await;
        match written {
            Ok(Ok(())) => Sent::delivered(),
            Ok(Err(reason)) => Sent::failed(Failure::Unavailable, reason),
            Err(_) => Sent::failed(Failure::Unavailable, "the thread that wrote the file ended early"),
        }
    }
}

impl Transport for Files {
    fn limits(&self, _kind: RowKind) -> Limits {
        Limits { rows: self.max_rows.clamp(1, MAX_ROWS_DEFAULT), bytes: FILE_BYTES_MAX }
    }

    fn row_bytes(&self, row: &OutboxRow) -> usize {
        let mut bytes = Vec::with_capacity(512);
        match self.place.format {
            Format::Ndjson => row::put_line(&mut bytes, row),
            Format::Csv => row::put_csv(&mut bytes, row),
        }
        bytes.len()
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(self.deliver(message))
    }
}

impl Place {
    fn write(&self, message: &Message) -> Result<(), String> {
        let disk = self.disk().map_err(|error| said(&self.path, &error))?;
        let files = write::Files::of(self.format, message);
        files.put(&disk).map_err(|(name, error)| {
            // Perhaps the directory went away: the next attempt makes it again.
            self.is_made.store(error.kind() != io::ErrorKind::NotFound, Ordering::Relaxed);
            said(&self.path.join(name), &error)
        })
    }

    fn disk(&self) -> io::Result<OsDisk> {
        if !self.is_made.load(Ordering::Relaxed) {
            match OsDisk::create(&self.path) {
                Ok(_) => {}
                // A directory that others made, in one that this process may not read.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && self.path.is_dir() => {}
                Err(error) => return Err(error),
            }
            self.is_made.store(true, Ordering::Relaxed);
        }
        Ok(OsDisk::new(&self.path))
    }
}

fn said(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// The right to write one delivery's files; an attempt that was given up keeps it until the disk has answered.
struct Turn {
    place: Arc<Place>,
    id: DeliveryId,
}

impl Turn {
    fn take(place: &Arc<Place>, id: DeliveryId) -> Result<Self, String> {
        let mut writing = place.writing.lock();
        if writing.len() >= WRITING_MAX {
            return Err(said(&place.path, &io::Error::other(format!("{WRITING_MAX} writes do not come to an end"))));
        }
        if !writing.insert(id) {
            return Err(said(&place.path, &io::Error::other("an earlier attempt is still writing")));
        }
        mem::drop(writing);
        Ok(Self { place: Arc::clone(place), id })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.place.writing.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
