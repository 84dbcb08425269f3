//! Ids that ran ahead of the store's position vouch for the journal's tail: damage there is no torn tail.

use std::path::Path;
use std::sync::Arc;

use meterd::engine::OpenError;
use meterd::env::{ManualClock, SimDisk};
use meterd::journal::JournalError;
use meterd::model::{Duration, Timestamp};
use meterd::store::MemStore;

use super::model::{Sent, WIDE};
use super::node::{CapsSetup, Node, Setup};

const SETUP: Setup = Setup { policy: WIDE, epoch_ids: 4, close_slice: 10, sinks: [None; 3], caps: CapsSetup::NONE };
const SEGMENT: &str = "journal/00000000000000000001.log";

fn event(id: u64) -> Sent {
    Sent { id, payload: 0, customer: 1, meters: vec![1], model: None, quantity: 1, timestamp: None }
}

#[test]
fn damage_below_an_indexed_id_is_refused_and_nothing_is_cut() {
    let clock = Arc::new(ManualClock::new(Timestamp::parse_rfc3339("2026-11-01T12:00:00Z").unwrap()));
    let disk = SimDisk::new(1);
    let store = Arc::new(MemStore::with_bulk_ids_min(2));
    let mut node = Node::open(&disk, store.clone(), &clock, SETUP).unwrap();
    let batch =
        node.batch(&[event(1), event(2), event(3)], Timestamp::parse_rfc3339("2026-11-01T12:00:00Z").unwrap(), None);
    node.running.writer.take(batch, 1).unwrap();
    assert!(node.append().unwrap());
    node.sync().unwrap();
    clock.advance(Duration::from_secs(1));
    node.hand_over();
    let commit = node.job.take().expect("an epoch is due").into_commit();
    assert!(store.commit_only_bulk_ids(&commit), "the process dies between the sorted file and the rows");

    let disk = disk.restart();
    let path = Path::new(SEGMENT);
    let last = disk.contents(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    assert!(disk.flip_bit(path, last * 8));
    let damaged = disk.contents(path).unwrap();
    let refused =
        Node::open(&disk, Arc::new(store.crash()), &clock, SETUP).err().expect("acknowledged events are damaged");
    assert!(matches!(refused, OpenError::Journal(JournalError::Corrupt { .. })), "{refused}");
    assert_eq!(disk.contents(path).unwrap(), damaged, "what a repair may still read is left alone");
}
