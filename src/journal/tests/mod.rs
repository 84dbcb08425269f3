//! What the journal promises, by question: the bytes, the damage it notices, rolling, crashes.

mod crashes;
mod damage;
mod follower;
mod golden;
mod rolling;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Compression, Journal, JournalError, Options, Recovered, ReplayError, Start, StoreId};
use crate::env::{Disk, SimDisk};
use crate::model::{Seq, hex};

const STORE_ID: StoreId = StoreId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100);

/// A frame as it was appended, or as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    first_seq: Seq,
    count: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn last_seq(&self) -> Seq {
        Seq(self.first_seq.0 + u64::from(self.count) - 1)
    }
}

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, compression: Compression::None }
}

fn create(disk: &SimDisk, options: Options) -> Journal {
    Journal::create(Arc::new(disk.clone()), options, STORE_ID, Seq(1)).unwrap()
}

fn append(journal: &mut Journal, count: u32, payload: &[u8]) -> Frame {
    let first_seq = journal.last().next();
    journal.append(first_seq, count, payload).unwrap();
    Frame { first_seq, count, payload: payload.to_vec() }
}

/// Recovers, and collects what was visited.
fn recover(disk: &SimDisk, options: Options, start: Start) -> Result<(Journal, Recovered, Vec<Frame>), JournalError> {
    let mut frames = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let result = Journal::recover(disk, options, start, &mut |view| -> Result<(), Infallible> {
        frames.push(Frame { first_seq: view.first_seq, count: view.count, payload: view.payload.to_vec() });
        Ok(())
    });
    match result {
        Ok((journal, recovered)) => Ok((journal, recovered, frames)),
        Err(ReplayError::Journal(error)) => Err(error),
        Err(ReplayError::Visit(never)) => match never {},
    }
}

fn recover_all(disk: &SimDisk) -> Result<(Journal, Recovered, Vec<Frame>), JournalError> {
    recover(disk, options(4096), Start::default())
}

fn after(seq: u64) -> Start {
    Start { after: Seq(seq), floor: Seq(seq), store_id: None }
}

fn segment_path(first_seq: u64) -> PathBuf {
    Path::new("journal").join(format!("{first_seq:020}.log"))
}

/// The names in the journal's directory.
fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new("journal")).unwrap()
}
