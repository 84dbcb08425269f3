//! The index of one segment in memory: of the open one, and of one whose sidecar is being made.
//!
//! ```text
//! customers: name ─▶ newest posting ─▶ the one before ─▶ … ─▶ the first
//! ```
//!
//! 1. An event takes 48 bytes, a record 40, a customer its name and 12: nothing is allocated per event but by growth.
//! 2. A frame is added whole, or the index is thrown away.

use std::ops::Bound;

use hashbrown::HashTable;

use super::format::{Posting, RecordEntry};
use crate::engine::hash::TableHasher;
use crate::engine::key;
use crate::engine::record::{EventsAt, RecordError, Skim, events_at};
use crate::journal::FrameView;
use crate::model::Seq;

/// Which of a customer's postings.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `key::put_customer`.
    pub name: Vec<u8>,
    /// One of these bits must be set.
    pub meters: u64,
    /// Counted time and seq.
    pub from: Bound<(i64, u64)>,
    /// Counted before this.
    pub to: i64,
}

/// A posting with what is needed to read its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub posting: Posting,
    pub record: RecordEntry,
}

#[derive(Clone)]
struct Node {
    posting: Posting,
    /// One more than the customer's earlier posting; 0 if it is the first.
    before: u32,
}

#[derive(Clone)]
struct CustomerPostings {
    name_at: usize,
    name_bytes: u16,
    newest: u32,
    count: u32,
}

#[derive(Clone)]
pub struct MemoryIndex {
    pub segment: Seq,
    hasher: TableHasher,
    names: Vec<u8>,
    customers: Vec<CustomerPostings>,
    table: HashTable<u32>,
    nodes: Vec<Node>,
    records: Vec<RecordEntry>,
    pub earliest: i64,
    pub latest: i64,
    scratch: Vec<u8>,
}

impl Wanted {
    pub fn holds(&self, segment: Seq, posting: &Posting) -> bool {
        let at = (posting.counted, segment.0 + u64::from(posting.seq));
        let is_after = match self.from {
            Bound::Included(from) => at >= from,
            Bound::Excluded(from) => at > from,
            Bound::Unbounded => true,
        };
        is_after && posting.counted < self.to && posting.meters & self.meters != 0
    }

    /// Whether events that count within these times may be among them.
    pub fn overlaps(&self, earliest: i64, latest: i64) -> bool {
        let begins = match self.from {
            Bound::Included((from, _)) | Bound::Excluded((from, _)) => latest >= from,
            Bound::Unbounded => true,
        };
        begins && earliest < self.to
    }
}

impl MemoryIndex {
    pub fn new(segment: Seq, hasher: TableHasher) -> Self {
        Self {
            segment,
            hasher,
            names: Vec::new(),
            customers: Vec::new(),
            table: HashTable::new(),
            nodes: Vec::new(),
            records: Vec::new(),
            earliest: i64::MAX,
            latest: i64::MIN,
            scratch: Vec::new(),
        }
    }

    pub fn add_frame(&mut self, frame: &FrameView<'_>, is_packed: bool) -> Result<(), RecordError> {
        for record in events_at(frame.payload) {
            self.add_record(frame, is_packed, &record?)?;
        }
        Ok(())
    }

    fn add_record(&mut self, frame: &FrameView<'_>, is_packed: bool, at: &EventsAt<'_>) -> Result<(), RecordError> {
        let header = &frame.payload[at.offset..at.offset + at.header_bytes];
        let mut seq = narrow(frame.first_seq.0 + at.first - self.segment.0);
        let record = narrow(self.records.len() as u64);
        self.records.push(RecordEntry {
            frame: frame.at.offset,
            received_at: at.events.received_at.micros(),
            first: seq,
            offset: narrow(at.offset as u64),
            header_bytes: narrow(header.len() as u64),
            is_packed,
            header_crc: crc32c::crc32c(header),
        });
        let mut offset = narrow((at.offset + header.len()) as u64);
        self.scratch.clear();
        key::put_text(&mut self.scratch, at.events.tenant);
        let tenant_bytes = self.scratch.len();
        for event in at.events.slices() {
            let event = event?;
            let skim = Skim::read(event).ok_or(RecordError::Malformed(offset as usize))?;
            let bytes = narrow(event.len() as u64);
            let counted = counted_at(&skim);
            let (meters, crc) = (skim.meters, crc32c::crc32c(event));
            self.scratch.truncate(tenant_bytes);
            self.scratch.extend_from_slice(&(skim.customer.len() as u16).to_be_bytes());
            self.scratch.extend_from_slice(skim.customer);
            self.add_posting(Posting { counted, meters, seq, record, offset, bytes, crc });
            (seq, offset) = (seq + 1, offset + bytes);
        }
        Ok(())
    }

    /// Of the customer whose name is in `scratch`.
    fn add_posting(&mut self, posting: Posting) {
        let number = self.customer_in_scratch();
        let customer = &mut self.customers[number as usize];
        self.nodes.push(Node { posting, before: customer.newest });
        customer.newest = narrow(self.nodes.len() as u64);
        customer.count += 1;
        self.earliest = self.earliest.min(posting.counted);
        self.latest = self.latest.max(posting.counted);
    }

    fn customer_in_scratch(&mut self) -> u32 {
        let (names, customers, hasher, name) = (&self.names, &self.customers, &self.hasher, &self.scratch);
        let name_of = |number: u32| name_in(names, &customers[number as usize]);
        let hash = hasher.hash(name);
        if let Some(number) = self.table.find(hash, |number| name_of(*number) == name) {
            return *number;
        }
        let number = narrow(customers.len() as u64);
        self.table.insert_unique(hash, number, |number| hasher.hash(name_of(*number)));
        let name_bytes = u16::try_from(name.len()).expect("a tenant and a customer take at most 256 bytes each");
        self.customers.push(CustomerPostings { name_at: self.names.len(), name_bytes, newest: 0, count: 0 });
        self.names.extend_from_slice(&self.scratch);
        number
    }

    /// A customer's postings that are wanted, in order.
    pub fn places(&self, wanted: &Wanted) -> Vec<Place> {
        let hash = self.hasher.hash(&wanted.name);
        let found = self.table.find(hash, |number| self.name(*number) == wanted.name);
        let Some(number) = found else { return Vec::new() };
        let postings = self.postings(*number).filter(|posting| wanted.holds(self.segment, posting));
        let mut places: Vec<Place> =
            postings.map(|posting| Place { posting, record: self.records[posting.record as usize] }).collect();
        places.sort_unstable_by_key(|place| (place.posting.counted, place.posting.seq));
        places
    }

    /// Newest first.
    fn postings(&self, customer: u32) -> impl Iterator<Item = Posting> + '_ {
        let mut at = self.customers[customer as usize].newest;
        std::iter::from_fn(move || {
            let node = self.nodes.get((at as usize).checked_sub(1)?)?;
            at = node.before;
            Some(node.posting)
        })
    }

    /// A customer's postings in order, into `out`.
    pub fn sorted_postings(&self, customer: u32, out: &mut Vec<Posting>) {
        out.clear();
        out.extend(self.postings(customer));
        out.sort_unstable_by_key(|posting| (posting.counted, posting.seq));
    }

    pub fn name(&self, customer: u32) -> &[u8] {
        name_in(&self.names, &self.customers[customer as usize])
    }

    pub fn posting_count(&self, customer: u32) -> u32 {
        self.customers[customer as usize].count
    }

    /// The customers' numbers in the order of their names.
    pub fn customers_by_name(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..narrow(self.customers.len() as u64)).collect();
        numbers.sort_unstable_by(|left, right| self.name(*left).cmp(self.name(*right)));
        numbers
    }

    pub fn records(&self) -> &[RecordEntry] {
        &self.records
    }

    pub fn postings_total(&self) -> u32 {
        narrow(self.nodes.len() as u64)
    }

    /// The newest record that begins with this seq or before.
    pub fn record_before(&self, seq: Seq) -> Option<RecordEntry> {
        let after = self.records.partition_point(|record| self.segment.0 + u64::from(record.first) <= seq.0);
        after.checked_sub(1).map(|index| self.records[index])
    }
}

fn name_in<'a>(names: &'a [u8], customer: &CustomerPostings) -> &'a [u8] {
    &names[customer.name_at..][..usize::from(customer.name_bytes)]
}

fn counted_at(skim: &Skim<'_>) -> i64 {
    let micros = skim.timestamp.micros();
    // A window is never empty.
    skim.window.map_or(micros, |window| micros.min(window.end.micros() - 1).max(window.start.micros()))
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("a segment is at most 4 GiB, and has fewer records than that")
}
