//! A disk in memory that loses, tears and reorders all that it may, by a seed.
//!
//! | fault | how | what it does |
//! | --- | --- | --- |
//! | power loss | [`SimDisk::crash`] | each 512-byte sector of each unsynced write is kept or dropped; so is each change of a file's length, and each create, rename and remove whose directory is not synced |
//! | process death | [`SimDisk::restart`] | nothing is lost but locks and open files |
//! | power loss in an operation | [`SimDisk::power_off_in`] | the n-th change fails (it may be kept in part), and so does all after it |
//! | failed fdatasync | [`SimDisk::fail_sync_data_in`] | an error once; some pending sectors are kept, the rest is forgotten while reads still show it; later syncs succeed and do not bring it back |
//! | failed directory fsync | [`SimDisk::fail_sync_dir_in`] | an error once; the changes stay pending |
//! | failed write | [`SimDisk::fail_write_in`] | an error once, after part of the bytes |
//! | full disk | [`SimDisk::set_capacity_bytes`] | what fits is written, then `StorageFull` |
//! | bit rot | [`SimDisk::flip_bit`] | one bit of a file, in cache and on the platter |
//! | lying hardware | [`SimDisk::lie_on_sync_data`], [`SimDisk::lie_on_sync_dir`] | success without effect: a harness must notice (positive controls) |
//!
//! 1. The same seed and the same calls give the same disk, byte for byte.
//! 2. A file or lock opened before a crash or restart is of another epoch, and fails ever after.
//! 3. A rename is atomic: after a crash there is the old name or the new, never both or neither.
//! 4. A sector is written whole or not at all, and a write leaves the sector's other bytes alone.

mod files;
mod inode;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use self::inode::Inode;
pub use self::inode::SECTOR_BYTES;
use self::state::{Faults, Node, State, power_is_off, strikes};

/// A handle to the disk as one run of a process sees it. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    epoch: u64,
}

impl SimDisk {
    /// An empty disk of 1 TiB.
    pub fn new(seed: u64) -> Self {
        let state = State::new(seed);
        Self { state: Arc::new(Mutex::new(state)), epoch: 0 }
    }

    /// Cuts the power, and returns the disk as the next start finds it. Older handles fail from now on.
    /// Planned faults are forgotten; lies go on.
    #[must_use]
    pub fn crash(&self) -> SimDisk {
        let mut state = self.state.lock();
        state.crash();
        self.next_epoch(&mut state)
    }

    /// Ends the process but not the machine: the page cache stays. Older handles fail from now on.
    #[must_use]
    pub fn restart(&self) -> SimDisk {
        self.next_epoch(&mut self.state.lock())
    }

    /// From now on `sync_data` answers success and does nothing.
    pub fn lie_on_sync_data(&self, lie: bool) {
        self.state.lock().faults.lie_on_sync_data = lie;
    }

    /// From now on `sync_dir` answers success and does nothing.
    pub fn lie_on_sync_dir(&self, lie: bool) {
        self.state.lock().faults.lie_on_sync_dir = lie;
    }

    /// Fails the `calls`-th `sync_data` from now; 1 is the next one, 0 none.
    pub fn fail_sync_data_in(&self, calls: u64) {
        self.state.lock().faults.sync_data_in = calls;
    }

    /// Fails the `calls`-th `sync_dir` from now; 1 is the next one, 0 none.
    pub fn fail_sync_dir_in(&self, calls: u64) {
        self.state.lock().faults.sync_dir_in = calls;
    }

    /// Fails the `calls`-th write from now, after part of its bytes; 1 is the next one, 0 none.
    pub fn fail_write_in(&self, calls: u64) {
        self.state.lock().faults.write_in = calls;
    }

    /// Cuts the power in the `changes`-th change from now (see [`SimDisk::changes`]); 1 is the next one, 0 none.
    /// What survives is decided by [`SimDisk::crash`].
    pub fn power_off_in(&self, changes: u64) {
        self.state.lock().faults.power_off_in = changes;
    }

    /// Calls so far that change or sync something: the places where [`SimDisk::power_off_in`] can strike.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Files may hold this many bytes in sum.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Flips one bit of a file, counted from its start. False if there is no such file or bit.
    pub fn flip_bit(&self, path: &Path, bit: usize) -> bool {
        let mut state = self.state.lock();
        match state.inode_at(path) {
            Ok(inode) if bit / 8 < inode.cached.len() => {
                inode.flip_bit(bit);
                true
            }
            _ => false,
        }
    }

    /// A file's bytes as a read would see them.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.state.lock().inode_at(path).map(|inode| inode.cached.clone())
    }

    /// Puts a file in place, durable with its directories, as if it had always been there.
    pub fn set_contents(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state.lock();
        for directory in path.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty()) {
            state.entries.insert(directory.to_owned(), Node::Directory);
            state.durable_entries.insert(directory.to_owned(), Node::Directory);
        }
        let mut inode = Inode::default();
        inode.write(0, bytes);
        inode.sync();
        let id = state.add_inode(inode);
        state.entries.insert(path.to_owned(), Node::File(id));
        state.durable_entries.insert(path.to_owned(), Node::File(id));
    }

    fn next_epoch(&self, state: &mut State) -> SimDisk {
        state.epoch += 1;
        state.powered = true;
        state.locks.clear();
        let lies = (state.faults.lie_on_sync_data, state.faults.lie_on_sync_dir);
        state.faults = Faults { lie_on_sync_data: lies.0, lie_on_sync_dir: lies.1, ..Faults::default() };
        SimDisk { state: Arc::clone(&self.state), epoch: state.epoch }
    }

    /// Runs an operation that changes nothing.
    fn look<T>(&self, look: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        state.check(self.epoch)?;
        look(&mut state)
    }

    /// Runs an operation that changes something. If the power goes in it, it leaves at most pending changes.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        state.check(self.epoch)?;
        state.changes += 1;
        if strikes(&mut state.faults.power_off_in) {
            state.powered = false;
        }
        let result = change(&mut state);
        if state.powered { result } else { Err(power_is_off()) }
    }
}
