//! What can go wrong with the store, one variant per decision of the caller.

use std::path::PathBuf;

use crate::model::Seq;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another store in this one, has the directory open. Try again later.
    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },
    /// There is no store to read (read-only opens never create one).
    #[error("there is no store at {path}")]
    Missing { path: PathBuf },
    /// Another meterd wrote this store. Run that version, or rebuild the store from the journal.
    #[error(
        "the store has format {found}, this version reads {supported}; a store that is removed is made again from the journal"
    )]
    OtherFormat { found: u32, supported: u32 },
    /// Bytes on disk are not what was written. Remove the store; it can be rebuilt from the journal.
    #[error("the store is corrupt: {detail}")]
    Corrupt { detail: String },
    /// The caller's mistake: positions only go forward.
    #[error("position {wanted} lies before the applied position {applied}")]
    Backwards { wanted: Seq, applied: Seq },
    /// The disk is full. Nothing is lost: the journal holds it.
    #[error("no space left for the store: {detail}")]
    NoSpace { detail: String },
    /// The store was opened to be read.
    #[error("the store was opened read-only")]
    ReadOnly,
    /// Anything else the disk or RocksDB refused. Stop; the journal holds what was not persisted.
    #[error("the store failed: {detail}")]
    Io { detail: String },
}
