//! Base checkpoints: what the journal was folded to before its oldest segments went.
//!
//! ```text
//! base-00000000000000052310/   a store at record 52310, complete from the moment it has its name
//! base.tmp/                    one that is being made
//! store.tmp/                   a store that is being made from a base
//! ```
//!
//! | step of `take` | after a crash before the next step |
//! | --- | --- |
//! | 1. a checkpoint of the store is made as `base.tmp` | `base.tmp`, which `tidy` removes |
//! | 2. it gets its name, and the directory is synced | two bases, both good: `tidy` removes the older one |
//! | 3. older bases are removed | – |
//!
//! 1. A base is never changed. Its files are links to the store's, which never change theirs either.
//! 2. The newest base is never removed: what it holds may be in no segment any more.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::model::Seq;

const PREFIX: &str = "base-";
const TEMPORARY: [&str; 2] = ["base.tmp", "base.tmp.tmp"];
const RESTORING: &str = "store.tmp";
const SEQ_DIGITS: usize = 20;

/// The data directory, as the place of bases.
#[derive(Clone, Debug)]
pub struct Bases {
    directory: PathBuf,
}

/// A base that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The last record that it holds the effects of.
    pub position: Seq,
    pub path: PathBuf,
}

impl Bases {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub fn newest(&self) -> Result<Option<Base>, StoreError> {
        Ok(self.list()?.pop())
    }

    /// Removes what an interrupted process left, and every base but the newest, which is returned.
    pub fn tidy(&self) -> Result<Option<Base>, StoreError> {
        for name in TEMPORARY {
            self.remove(&self.directory.join(name))?;
        }
        let mut bases = self.list()?;
        let newest = bases.pop();
        bases.iter().try_for_each(|older| self.remove(&older.path))?;
        Ok(newest)
    }

    /// Makes the store's state the new base, in place of any older one.
    pub fn take(&self, store: &dyn Store) -> Result<Base, StoreError> {
        self.tidy()?;
        let temporary = self.directory.join(TEMPORARY[0]);
        let position = store.checkpoint(&temporary)?;
        let path = self.directory.join(format!("{PREFIX}{:0SEQ_DIGITS$}", position.0));
        if path.exists() {
            self.remove(&temporary)?;
        } else {
            fs::rename(&temporary, &path).map_err(failed(&path))?;
        }
        sync(&self.directory)?;
        self.tidy()?;
        Ok(Base { position, path })
    }

    /// Makes a store out of a base, where there is none: `store` is a name in the data directory. It has its name once it
    /// is whole.
    pub fn restore(&self, base: &Base, store: &str) -> Result<(), StoreError> {
        let (temporary, path) = (self.directory.join(RESTORING), self.directory.join(store));
        self.remove(&temporary)?;
        fs::create_dir(&temporary).map_err(failed(&temporary))?;
        for entry in fs::read_dir(&base.path).map_err(failed(&base.path))? {
            let entry = entry.map_err(failed(&base.path))?;
            let target = temporary.join(entry.file_name());
            let is_table = target.extension().is_some_and(|extension| extension == "sst");
            // Tables are written once. The other files of a store change, and must be its own.
            if !is_table || fs::hard_link(entry.path(), &target).is_err() {
                fs::copy(entry.path(), &target).map_err(failed(&target))?;
                sync(&target)?;
            }
        }
        sync(&temporary)?;
        self.remove(&path)?;
        fs::rename(&temporary, &path).map_err(failed(&path))?;
        sync(&self.directory)
    }

    /// Oldest first.
    fn list(&self) -> Result<Vec<Base>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed(&self.directory))? {
            let entry = entry.map_err(failed(&self.directory))?;
            if let Some(position) = entry.file_name().to_str().and_then(position_of) {
                found.push(Base { position, path: entry.path() });
            }
        }
        found.sort_by_key(|base| base.position);
        Ok(found)
    }

    /// A directory, if it is there. Its name goes first, so that no base is ever there in part.
    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        if !path.exists() {
            return Ok(());
        }
        let temporary = self.directory.join(TEMPORARY[1]);
        if path != temporary {
            match fs::remove_dir_all(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&temporary)(error)),
                _ => fs::rename(path, &temporary).map_err(failed(path))?,
            }
            sync(&self.directory)?;
        }
        fs::remove_dir_all(&temporary).map_err(failed(&temporary))
    }
}

fn position_of(name: &str) -> Option<Seq> {
    let digits = name.strip_prefix(PREFIX)?;
    let well_formed = digits.len() == SEQ_DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    well_formed.then(|| digits.parse().ok().map(Seq))?
}

/// Makes a file's bytes, or a directory's entries, durable.
fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |error| {
        let detail = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull => StoreError::NoSpace { detail },
            _ => StoreError::Io { detail },
        }
    }
}

#[cfg(test)]
mod tests;
