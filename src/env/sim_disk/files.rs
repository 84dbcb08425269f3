//! What a process sees of the simulated disk: the two traits.

use std::io;
use std::path::{Path, PathBuf};

use super::SimDisk;
use super::inode::Inode;
use super::state::{EntryChange, Node, parent, strikes};
use crate::env::{Disk, DiskFile, DiskLock};

struct SimFile {
    disk: SimDisk,
    inode: u64,
    writable: bool,
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl SimDisk {
    fn open_with(&self, path: &Path, writable: bool) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.look(|state| state.file(path))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode, writable }))
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let mut missing: Vec<&Path> = path.ancestors().filter(|p| state.directory(p).is_err()).collect();
            missing.reverse();
            for directory in missing {
                state.change_entry(parent(directory), EntryChange::Add(directory.to_owned(), Node::Directory));
            }
            Ok(())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.change(|state| {
            state.directory(parent(path))?;
            if state.entries.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = state.add_inode(Inode::default());
            state.change_entry(parent(path), EntryChange::Add(path.to_owned(), Node::File(id)));
            Ok(id)
        })?;
        Ok(Box::new(SimFile { disk: self.clone(), inode, writable: true }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open_with(path, true)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open_with(path, false)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.look(|state| {
            state.directory(dir)?;
            let inside = state.entries.keys().filter(|path| parent(path) == dir);
            Ok(inside.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            if parent(from) != parent(to) {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            let node = Node::File(state.file(from)?);
            state.change_entry(parent(to), EntryChange::Rename(from.to_owned(), to.to_owned(), node));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.file(path)?;
            state.change_entry(parent(path), EntryChange::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|state| {
            state.directory(dir)?;
            if strikes(&mut state.faults.sync_dir_in) {
                return Err(input_output_error());
            }
            if state.powered && !state.faults.lie_on_sync_dir {
                state.sync_dir(dir);
            }
            Ok(())
        })
    }

    fn available_bytes(&self) -> io::Result<u64> {
        self.look(|state| Ok(state.capacity_bytes.saturating_sub(state.used_bytes())))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.look(|state| match state.locks.insert(path.to_owned()) {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        })?;
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.epoch == self.disk.epoch {
            state.locks.remove(&self.path);
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.disk.look(|state| {
            let bytes = &state.inode(self.inode)?.cached;
            let rest = bytes.get(index(offset)..).unwrap_or_default();
            let read = rest.len().min(buf.len());
            buf[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(|state| {
            self.check_writable()?;
            let len = state.inode(self.inode)?.cached.len() as u64;
            let free = state.capacity_bytes.saturating_sub(state.used_bytes());
            let room = index((len + free).saturating_sub(offset));
            let (written, result) = if strikes(&mut state.faults.write_in) {
                (state.rng.usize(..=bytes.len()).min(room), Err(input_output_error()))
            } else if bytes.len() > room {
                (room, Err(io::ErrorKind::StorageFull.into()))
            } else {
                (bytes.len(), Ok(()))
            };
            state.inode(self.inode)?.write(index(offset), &bytes[..written]);
            result
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change(|state| {
            self.check_writable()?;
            let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            if strikes(&mut state.faults.sync_data_in) {
                inode.fail_sync(&mut state.rng);
                return Err(input_output_error());
            }
            if state.powered && !state.faults.lie_on_sync_data {
                inode.sync();
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.inode(self.inode)?.cached.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(|state| {
            self.check_writable()?;
            let old = state.inode(self.inode)?.cached.len() as u64;
            if len.saturating_sub(old) > state.capacity_bytes.saturating_sub(state.used_bytes()) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.inode(self.inode)?.set_len(index(len));
            Ok(())
        })
    }
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// Simulated files are far smaller than memory, so that an offset past `usize` is past the end as well.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn input_output_error() -> io::Error {
    rustix::io::Errno::IO.into()
}
