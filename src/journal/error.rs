//! What can go wrong with the journal: a variant per decision of the caller.

use std::io;

use super::StoreId;
use crate::model::Seq;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed. If this came from a `Journal`, it is poisoned now.
    #[error("cannot {operation} {file}: {source}")]
    Io { operation: &'static str, file: String, source: io::Error },
    /// Bytes that were durable are not what was written: refuse to start. `seq` is the first record in doubt.
    #[error("the journal is corrupt: {file} at byte {offset}, record {seq}: {reason}")]
    Corrupt { file: String, offset: u64, seq: Seq, reason: &'static str },
    /// Records that are needed are in no segment: refuse to start.
    #[error("the journal has a gap: record {expected} is missing, {file} begins with record {found}")]
    MissingSegment { file: String, expected: Seq, found: Seq },
    /// The segment belongs to another data directory: refuse to start.
    #[error("{file} belongs to another store: its id is {found}, this one's is {expected}")]
    WrongStore { file: String, expected: StoreId, found: StoreId },
    /// A newer meterd wrote it: refuse to start.
    #[error("{file} has format version {version}, which is newer than this program's")]
    OtherFormat { file: String, version: u16 },
    /// There is no segment: create the journal, unless a store says that there should be one.
    #[error("there is no journal in {}/", super::DIRECTORY)]
    NoJournal,
    /// There is a segment already: recover instead.
    #[error("there is a journal in {}/ already", super::DIRECTORY)]
    Exists,
    /// An earlier write or sync failed; what is durable is not known. Exit, and recover.
    #[error("the journal failed earlier and takes nothing more")]
    Poisoned,
    /// The caller's mistake; nothing was written.
    #[error("a frame's payload has {bytes} bytes, more than {}", super::PAYLOAD_BYTES_MAX)]
    PayloadTooLarge { bytes: usize },
    /// The caller's mistake; nothing was written.
    #[error("a frame of {count} records at record {given} does not follow: record {expected} is next")]
    OutOfOrder { expected: Seq, given: Seq, count: u32 },
}

/// A replay ends because of the journal, or because the visitor said so.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Visit(E),
}

/// Names the operation and the file of an I/O error.
pub(super) fn io_error(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> JournalError {
    let file = file.to_owned();
    move |source| JournalError::Io { operation, file, source }
}
