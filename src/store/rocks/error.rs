//! RocksDB's errors, which are text, as decisions of the caller.

use std::path::Path;

use rocksdb::ErrorKind;

use crate::store::StoreError;

/// What RocksDB and the C library say (never translated: nothing here calls `setlocale`).
const NO_SPACE: &str = "No space left on device";
const LOCKED_BY_THIS_PROCESS: &str = "lock hold by current process";
const LOCKED_BY_ANOTHER: &str = "While lock file";

pub fn failed(error: rocksdb::Error) -> StoreError {
    let kind = error.kind();
    let detail = error.into_string();
    match kind {
        _ if detail.contains(NO_SPACE) => StoreError::NoSpace { detail },
        ErrorKind::Corruption => StoreError::Corrupt { detail },
        _ => StoreError::Io { detail },
    }
}

/// The same for an open, which may find the directory in use.
pub fn open_failed(path: &Path, error: rocksdb::Error) -> StoreError {
    let text = error.as_ref();
    if text.contains(LOCKED_BY_THIS_PROCESS) || text.contains(LOCKED_BY_ANOTHER) {
        return StoreError::Locked { path: path.to_owned() };
    }
    failed(error)
}

pub fn io_failed(path: &Path, error: &std::io::Error) -> StoreError {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::NoSpace { detail },
        _ => StoreError::Io { detail },
    }
}
