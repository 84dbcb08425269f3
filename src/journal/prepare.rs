//! Segments made ahead of use: a file full of zeros, synced, under a temporary name.
//!
//! A sync of bytes whose blocks were written before carries no metadata, and has several times the bandwidth. The work is done by the
//! [`Preparer`], on a thread of its own; the journal takes what is ready when it rolls, and does without when nothing is.
//!
//! 1. The lock guards the shelf (what is ready), never a write or a sync.
//! 2. A file whose write or sync failed is thrown away, so that nothing ever rests on it.
//! 3. At most one segment is ready ahead. A temporary file that no journal took is removed by the next recovery.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::DIRECTORY;
use super::error::{JournalError, io_error};
use super::segment;
use crate::env::{Disk, DiskFile};

/// Zeros are synced as often as this, so that the journal's own sync waits behind few of them.
const SYNC_EVERY_BYTES: u64 = 2 << 20;
/// After a failure the next attempt waits this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A file that waits for its header and its name.
pub struct Prepared {
    pub file: Box<dyn DiskFile>,
    /// Its temporary name within the journal's directory.
    pub name: String,
}

/// Where the preparer leaves a segment and the journal takes it.
pub struct Shelf {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Option<Prepared>,
    /// Temporary files made so far.
    made: u64,
    closed: bool,
}

/// Makes segments ahead of use. Its owner gives it a thread ([`Preparer::run`]), or calls [`Preparer::prepare`] itself.
/// It must have ended before the same directory is opened again.
pub struct Preparer {
    shelf: Arc<Shelf>,
    /// What it leaves free of the disk: room written ahead must not be what fills it.
    reserve_bytes: u64,
}

impl Shelf {
    pub fn new(disk: Arc<dyn Disk>, segment_bytes: u64) -> Arc<Self> {
        Arc::new(Self { disk, segment_bytes, state: Mutex::default(), changed: Condvar::new() })
    }

    /// What is ready, or else a new file without a byte in it.
    pub fn take(&self) -> Result<Prepared, JournalError> {
        let ready = self.state.lock().ready.take();
        self.changed.notify_all();
        match ready {
            Some(prepared) => Ok(prepared),
            None => self.create(),
        }
    }

    /// Wakes the preparer for the last time.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    fn create(&self) -> Result<Prepared, JournalError> {
        let made = {
            let mut state = self.state.lock();
            state.made += 1;
            state.made
        };
        let name = format!("next-{made}{}", segment::TEMPORARY_SUFFIX);
        let file = self.disk.create(&segment::path(&name)).map_err(io_error("create", &segment::display(&name)))?;
        Ok(Prepared { file, name })
    }

    fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        state.ready.is_none() && !state.closed
    }

    fn fill(&self, prepared: &Prepared) -> Result<(), JournalError> {
        let name = segment::display(&prepared.name);
        let mut done = 0;
        while done < self.segment_bytes && !self.state.lock().closed {
            let take = SYNC_EVERY_BYTES.min(self.segment_bytes - done);
            prepared.file.write_zeros_at(done, take).map_err(io_error("prepare", &name))?;
            prepared.file.sync_data().map_err(io_error("sync", &name))?;
            done += take;
        }
        Ok(())
    }
}

impl Preparer {
    pub(super) fn new(shelf: Arc<Shelf>, reserve_bytes: u64) -> Self {
        Self { shelf, reserve_bytes }
    }

    /// Prepares a segment if none is ready and the disk has room to spare. An error leaves the journal as it is: it can still roll, into a file
    /// that grows as it is written, whose syncs are slower.
    pub fn prepare(&mut self) -> Result<(), JournalError> {
        if !self.shelf.is_wanted() || !self.has_room()? {
            return Ok(());
        }
        let prepared = self.shelf.create()?;
        let filled = self.shelf.fill(&prepared);
        let mut state = self.shelf.state.lock();
        if filled.is_ok() && !state.closed {
            state.ready = Some(prepared);
            return Ok(());
        }
        drop(state);
        let name = segment::display(&prepared.name);
        let removed = self.shelf.disk.remove(&segment::path(&prepared.name)).map_err(io_error("remove", &name));
        filled.and(removed)
    }

    fn has_room(&self) -> Result<bool, JournalError> {
        let available = self.shelf.disk.available_bytes().map_err(io_error("measure", DIRECTORY))?;
        Ok(available >= self.reserve_bytes.saturating_add(self.shelf.segment_bytes))
    }

    /// Prepares whenever the journal has taken a segment, until the journal is dropped. A failure is told to
    /// `on_error`, and tried anew with another file after a second.
    pub fn run(mut self, on_error: &mut dyn FnMut(JournalError)) {
        loop {
            let result = self.prepare();
            let mut state = self.shelf.state.lock();
            match result {
                Ok(()) if state.ready.is_none() && !state.closed => {
                    self.shelf.changed.wait_for(&mut state, RETRY_AFTER);
                }
                Ok(()) => {
                    while state.ready.is_some() && !state.closed {
                        self.shelf.changed.wait(&mut state);
                    }
                }
                Err(error) => {
                    drop(state);
                    on_error(error);
                    state = self.shelf.state.lock();
                    if !state.closed {
                        self.shelf.changed.wait_for(&mut state, RETRY_AFTER);
                    }
                }
            }
            if state.closed {
                return;
            }
        }
    }
}
