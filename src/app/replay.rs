//! The parts of offline commands that read one directory's journal, and fill another directory.
//!
//! 1. The new directory is built beside its place, as `NEW.partial`, and gets its name once all of it is on disk: a directory that
//!    has its name is whole. What a crash leaves is never used again: it has to be removed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{AppError, STORE, entropy, io, log};
use crate::config::Config;
use crate::engine::replay::{self, Compared, MakeReread, Range, Replayed, Request, Side, Source, Survey};
use crate::engine::{self, Audited};
use crate::env::{Clock, DiskLock, OsDisk, SystemClock};
use crate::model::{Duration, Seq};
use crate::store::{RocksStore, Store};

/// A source, and where its replay goes.
pub struct Replay {
    source: Source,
    into: PathBuf,
    clock: SystemClock,
    _lock: Arc<dyn DiskLock>,
}

/// A directory that is not in use, opened to be read, and locked.
fn open_source(data_dir: &Path) -> Result<(Source, Arc<dyn DiskLock>), AppError> {
    let disk = OsDisk::new(data_dir);
    let lock = engine::lock(&disk)?;
    let store: Arc<dyn Store> = Arc::new(RocksStore::open_read_only(&data_dir.join(STORE))?);
    Ok((Source { disk: Arc::new(disk), store }, lock))
}

/// Says now and then which record has been reached.
fn reporter(clock: &SystemClock, what: &'static str, of: Option<Seq>) -> impl FnMut(Seq) {
    let mut reported = clock.monotonic();
    move |seq: Seq| {
        let now = clock.monotonic();
        if now >= reported.saturating_add(Duration::from_secs(1)) {
            reported = now;
            tracing::info!(record = seq.0, of = of.map(|of| of.0), "{what}");
        }
    }
}

/// The law of a directory that is not in use.
pub fn audit(config: &Config) -> Result<Audited, AppError> {
    log::init(config.log);
    let (source, _lock) = open_source(&config.data_dir)?;
    let clock = SystemClock::new();
    Ok(engine::audit(&source, &mut reporter(&clock, "reading the journal", None))?)
}

impl Replay {
    /// Opens the source, which must not be in use.
    pub fn open(config: &Config, into: &Path) -> Result<Self, AppError> {
        log::init(config.log);
        let (source, lock) = open_source(&config.data_dir)?;
        Ok(Self { source, into: into.to_owned(), clock: SystemClock::new(), _lock: lock })
    }

    /// The journal is whole, and holds this.
    pub fn survey(&self) -> Result<Survey, AppError> {
        Ok(replay::survey(&self.source, &mut reporter(&self.clock, "reading the journal", None))?)
    }

    /// Fills the new directory, which then has its name.
    pub fn fill(
        &self,
        survey: &Survey,
        (config, range): (&Config, Range),
        reissue: &[String],
        make: MakeReread<'_>,
    ) -> Result<Replayed, AppError> {
        let partial = partial(&self.into);
        let what = |path: &Path| format!("cannot use {}", path.display());
        if self.into.exists() {
            std::fs::remove_dir(&self.into).map_err(io(what(&self.into)))?;
        }
        if let Some(parent) = partial.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(io(what(parent)))?;
        }
        std::fs::create_dir(&partial).map_err(io(format!(
            "cannot make {}; if an earlier replay ended in the middle, remove it",
            partial.display()
        )))?;
        let replayed = {
            let disk = OsDisk::create(&partial).map_err(io(what(&partial)))?;
            let _lock = engine::lock(&disk)?;
            let store: Arc<dyn Store> = Arc::new(RocksStore::open(&partial.join(STORE), &config.store)?);
            let entropy = entropy().map_err(io("cannot read random bytes"))?;
            let sinks = config.engine.sinks.iter();
            let request = Request {
                definitions: config.meters.clone(),
                caps: config.engine.caps.clone(),
                range,
                reissue: sinks.filter(|sink| reissue.contains(&sink.name)).cloned().collect(),
                store_id: entropy.store_id,
                journal: config.journal,
                epoch_ids: config.engine.epoch_ids,
            };
            let mut progress = reporter(&self.clock, "replaying", Some(survey.last));
            replay::replay((&self.source, survey), (Arc::new(disk), store), &request, make, &mut progress)?
        };
        std::fs::rename(&partial, &self.into).map_err(io(what(&self.into)))?;
        let parent = self.into.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(io(what(parent)))?;
        Ok(replayed)
    }

    /// Compares the source with the directory that was filled.
    pub fn compare(&self, range: Range) -> Result<Compared, AppError> {
        let (replay, _lock) = open_source(&self.into)?;
        let (mut ours, mut theirs) = (Side::open(&self.source)?, Side::open(&replay)?);
        Ok(replay::compare(&mut ours, &mut theirs, range)?)
    }
}

/// Whether there is something in the directory.
pub fn is_filled(path: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where a directory is built.
fn partial(into: &Path) -> PathBuf {
    let mut name = OsString::from(into.file_name().unwrap_or_default());
    name.push(".partial");
    into.with_file_name(name)
}
