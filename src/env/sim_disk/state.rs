//! The simulated directories and files behind all handles, and the planned faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::inode::Inode;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Directory,
    File(u64),
}

/// A change of a directory's entries that is not durable yet.
pub enum EntryChange {
    Add(PathBuf, Node),
    Rename(PathBuf, PathBuf, Node),
    Remove(PathBuf),
}

#[derive(Default)]
pub struct Faults {
    pub lie_on_sync_data: bool,
    pub lie_on_sync_dir: bool,
    /// Calls left until the one that fails; 0 is never.
    pub sync_data_in: u64,
    pub sync_dir_in: u64,
    pub write_in: u64,
    pub power_off_in: u64,
}

pub struct State {
    pub rng: Rng,
    pub epoch: u64,
    pub powered: bool,
    pub inodes: BTreeMap<u64, Inode>,
    pub entries: BTreeMap<PathBuf, Node>,
    pub durable_entries: BTreeMap<PathBuf, Node>,
    /// Oldest first, each with the directory that must be synced for it.
    pub pending: Vec<(PathBuf, EntryChange)>,
    pub locks: BTreeSet<PathBuf>,
    pub capacity_bytes: u64,
    pub changes: u64,
    pub faults: Faults,
}

impl State {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            epoch: 0,
            powered: true,
            inodes: BTreeMap::new(),
            entries: BTreeMap::new(),
            durable_entries: BTreeMap::new(),
            pending: Vec::new(),
            locks: BTreeSet::new(),
            capacity_bytes: 1 << 40,
            changes: 0,
            faults: Faults::default(),
        }
    }

    pub fn check(&self, epoch: u64) -> io::Result<()> {
        match (self.powered, self.epoch == epoch) {
            (_, false) => Err(io::Error::other("handle from before a crash")),
            (false, true) => Err(power_is_off()),
            (true, true) => Ok(()),
        }
    }

    pub fn crash(&mut self) {
        for (_, change) in std::mem::take(&mut self.pending) {
            if self.rng.bool() {
                change.apply(&mut self.durable_entries);
            }
        }
        // What hangs below a lost directory is lost with it.
        let durable = &self.durable_entries;
        let reachable = |path: &Path| {
            let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            parents.into_iter().all(|parent| durable.get(parent) == Some(&Node::Directory))
        };
        self.entries = durable.iter().filter(|(path, _)| reachable(path)).map(|(p, n)| (p.clone(), *n)).collect();
        self.durable_entries.clone_from(&self.entries);
        let named: BTreeSet<u64> = self.entries.values().filter_map(|node| node.inode()).collect();
        self.inodes.retain(|id, _| named.contains(id));
        for inode in self.inodes.values_mut() {
            inode.crash(&mut self.rng);
        }
    }

    pub fn add_inode(&mut self, inode: Inode) -> u64 {
        let id = self.inodes.last_key_value().map_or(1, |(last, _)| last + 1);
        self.inodes.insert(id, inode);
        id
    }

    pub fn file(&self, path: &Path) -> io::Result<u64> {
        self.entries.get(path).and_then(|node| node.inode()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn inode_at(&mut self, path: &Path) -> io::Result<&mut Inode> {
        let id = self.file(path)?;
        self.inode(id)
    }

    pub fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn directory(&self, path: &Path) -> io::Result<()> {
        match path.as_os_str().is_empty() || self.entries.get(path) == Some(&Node::Directory) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub fn change_entry(&mut self, parent: &Path, change: EntryChange) {
        change.apply(&mut self.entries);
        self.pending.push((parent.to_owned(), change));
    }

    pub fn sync_dir(&mut self, dir: &Path) {
        for (parent, change) in std::mem::take(&mut self.pending) {
            if parent == dir {
                change.apply(&mut self.durable_entries);
            } else {
                self.pending.push((parent, change));
            }
        }
    }

    pub fn used_bytes(&self) -> u64 {
        let files = self.entries.values().filter_map(|node| node.inode());
        files.filter_map(|id| self.inodes.get(&id)).map(|inode| inode.cached.len() as u64).sum()
    }
}

impl Node {
    pub fn inode(self) -> Option<u64> {
        match self {
            Node::File(id) => Some(id),
            Node::Directory => None,
        }
    }
}

impl EntryChange {
    fn apply(&self, entries: &mut BTreeMap<PathBuf, Node>) {
        match self {
            EntryChange::Add(path, node) => {
                entries.insert(path.clone(), *node);
            }
            EntryChange::Rename(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
            EntryChange::Remove(path) => {
                entries.remove(path);
            }
        }
    }
}

/// Counts down to the call that fails: true for that one, false before and after.
pub fn strikes(calls_left: &mut u64) -> bool {
    let due = *calls_left == 1;
    *calls_left = calls_left.saturating_sub(1);
    due
}

pub fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

pub fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
