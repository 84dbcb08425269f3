//! A sealed segment's index as a file beside it: written once, read piece by piece.
//!
//! 1. Written under another name, synced, named, and the name synced: a sidecar is whole, or it is not there.
//! 2. Nothing of it stays in memory. What is read is checked; what does not check is [`Unusable`], and the sidecar is
//!    made anew from its segment.

use std::io;
use std::ops::{Bound, Range};
use std::path::Path;

use super::format::{
    self, HEADER_BYTES, Header, OFFSET_BYTES, POSTING_BYTES, Posting, RECORD_BYTES, RecordEntry, Seed,
};
use super::memory::{self, MemoryIndex, Wanted};
use crate::env::disk::read_full_at;
use crate::env::{Disk, DiskFile};
use crate::journal::{self, FrameMark, SegmentFile, SegmentInfo, StoreId};
use crate::model::Seq;

/// Written and synced by so much, so that the journal's own sync waits behind little of it.
const WRITE_BYTES: usize = 1 << 20;

/// Why a sidecar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is not there")]
    Missing,
    #[error("{0}")]
    Damaged(&'static str),
}

/// An open sidecar.
pub struct Sidecar {
    file: Box<dyn DiskFile>,
    header: Header,
    seed: Seed,
}

/// Where to go on among a customer's postings.
#[derive(Clone, Debug)]
pub struct Rest(Range<u32>);

impl Sidecar {
    /// Opens a segment's sidecar. Its header and its length are checked.
    pub fn open(disk: &dyn Disk, store_id: StoreId, first_seq: Seq) -> Result<Self, Unusable> {
        let file = match disk.open_read_only(&journal::sidecar_paths(first_seq).0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Missing),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = [0; HEADER_BYTES];
        let read = read_full_at(file.as_ref(), 0, &mut bytes)?;
        let header = Header::decode(&bytes, store_id, first_seq).filter(|_| read == HEADER_BYTES);
        let header = header.ok_or(Unusable::Damaged("its header does not check"))?;
        if file.len()? != header.bytes() {
            return Err(Unusable::Damaged("it has not the length that its header says"));
        }
        Ok(Self { file, header, seed: Seed::new(store_id, first_seq) })
    }

    /// Whether it was made of this very segment.
    pub fn is_of(&self, segment: &SegmentFile) -> bool {
        let newest = segment.frame(self.header.newest.offset);
        newest.is_ok_and(|frame| frame.crc == self.header.newest.crc)
            && segment.bytes().is_ok_and(|bytes| bytes == self.header.segment.bytes)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// A customer's postings from the first that is wanted on.
    pub fn find(&self, wanted: &Wanted) -> Result<Rest, Unusable> {
        let Some(postings) = self.customer(&wanted.name)? else { return Ok(Rest(0..0)) };
        let first_seq = self.header.segment.first_seq;
        let is_before = |posting: &Posting| {
            let at = (posting.counted, first_seq.0 + u64::from(posting.seq));
            match wanted.from {
                Bound::Included(from) => at < from,
                Bound::Excluded(from) => at <= from,
                Bound::Unbounded => false,
            }
        };
        let start = partition_point(postings.clone(), |number| Ok(is_before(&self.posting(number)?)))?;
        Ok(Rest(start..postings.end))
    }

    /// Up to `limit` of the postings that are left, those that are not wanted left out; with their records.
    pub fn take(
        &self,
        rest: &mut Rest,
        limit: u32,
        wanted: &Wanted,
        out: &mut Vec<memory::Place>,
    ) -> Result<(), Unusable> {
        let Range { start, end } = rest.0;
        let count = limit.min(end - start);
        let mut bytes = vec![0; POSTING_BYTES * count as usize];
        self.read(self.header.posting_at(start), &mut bytes)?;
        let (entries, _) = bytes.as_chunks::<POSTING_BYTES>();
        let mut record: Option<(u32, RecordEntry)> = None;
        for (number, entry) in (start..).zip(entries) {
            let posting =
                Posting::read(self.seed, number, entry).ok_or(Unusable::Damaged("a posting does not check"))?;
            if posting.counted >= wanted.to {
                rest.0 = end..end;
                return Ok(());
            }
            rest.0.start = number + 1;
            if !wanted.holds(self.header.segment.first_seq, &posting) {
                continue;
            }
            let entry = match record {
                Some((number, entry)) if number == posting.record => entry,
                _ => self.record(posting.record)?,
            };
            record = Some((posting.record, entry));
            out.push(memory::Place { posting, record: entry });
        }
        Ok(())
    }

    /// The newest record that begins with this seq or before.
    pub fn record_before(&self, seq: Seq) -> Result<Option<RecordEntry>, Unusable> {
        let first_seq = self.header.segment.first_seq;
        let is_before = |number| Ok(first_seq.0 + u64::from(self.record(number)?.first) <= seq.0);
        let after = partition_point(0..self.header.records, is_before)?;
        after.checked_sub(1).map(|number| self.record(number)).transpose()
    }

    /// The segment's first record.
    pub fn first_record(&self) -> Result<Option<RecordEntry>, Unusable> {
        if self.header.records == 0 { Ok(None) } else { self.record(0).map(Some) }
    }

    fn record(&self, number: u32) -> Result<RecordEntry, Unusable> {
        let mut entry = [0; RECORD_BYTES];
        self.read(self.header.record_at(number), &mut entry)?;
        RecordEntry::read(self.seed, number, &entry).ok_or(Unusable::Damaged("a record's entry does not check"))
    }

    fn posting(&self, number: u32) -> Result<Posting, Unusable> {
        let mut entry = [0; POSTING_BYTES];
        self.read(self.header.posting_at(number), &mut entry)?;
        Posting::read(self.seed, number, &entry).ok_or(Unusable::Damaged("a posting does not check"))
    }

    fn customer(&self, name: &[u8]) -> Result<Option<Range<u32>>, Unusable> {
        let mut buf = Vec::new();
        let is_before = |number| Ok(self.customer_entry(number, &mut buf)?.0 < name);
        let number = partition_point(0..self.header.customers, is_before)?;
        if number == self.header.customers {
            return Ok(None);
        }
        let (found, postings) = self.customer_entry(number, &mut buf)?;
        Ok((found == name).then_some(postings))
    }

    fn customer_entry<'b>(&self, number: u32, buf: &'b mut Vec<u8>) -> Result<(&'b [u8], Range<u32>), Unusable> {
        let mut offsets = [0; 2 * OFFSET_BYTES];
        self.read(self.header.offset_at(number), &mut offsets)?;
        let [start, end] = [0, OFFSET_BYTES].map(|at| format::u32_at(&offsets, at));
        let bytes = end.checked_sub(start).filter(|_| end <= self.header.customer_bytes);
        let bytes = bytes.ok_or(Unusable::Damaged("a customer's offset does not check"))?;
        buf.resize(bytes as usize, 0);
        self.read(self.header.customers_at() + u64::from(start), buf)?;
        let entry = format::read_customer(self.seed, number, buf);
        let entry = entry.filter(|(_, postings)| postings.end <= self.header.postings);
        entry.ok_or(Unusable::Damaged("a customer's entry does not check"))
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Unusable> {
        let read = read_full_at(self.file.as_ref(), offset, buf)?;
        if read < buf.len() { Err(Unusable::Damaged("it ends too early")) } else { Ok(()) }
    }
}

impl Rest {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first number that is not before.
fn partition_point(
    mut range: Range<u32>,
    mut is_before: impl FnMut(u32) -> Result<bool, Unusable>,
) -> Result<u32, Unusable> {
    while !range.is_empty() {
        let middle = range.start + (range.end - range.start) / 2;
        if is_before(middle)? {
            range.start = middle + 1;
        } else {
            range.end = middle;
        }
    }
    Ok(range.start)
}

/// Where a sidecar is written, and how.
pub struct Target<'a> {
    pub disk: &'a dyn Disk,
    /// Stays free, or nothing is written.
    pub reserve_bytes: u64,
    /// Called between two pieces.
    pub pause: &'a dyn Fn(),
}

/// Writes a segment's sidecar.
pub fn write(
    target: &Target<'_>,
    store_id: StoreId,
    index: &MemoryIndex,
    (segment, newest): (SegmentInfo, FrameMark),
) -> io::Result<()> {
    let disk = target.disk;
    let customers = index.customers_by_name();
    let entry_bytes = |number: &u32| 2 + index.name(*number).len() + 3 * 4;
    let header = Header {
        store_id,
        segment,
        newest,
        records: u32::try_from(index.records().len()).map_err(io::Error::other)?,
        customers: u32::try_from(customers.len()).map_err(io::Error::other)?,
        customer_bytes: u32::try_from(customers.iter().map(entry_bytes).sum::<usize>()).map_err(io::Error::other)?,
        postings: index.postings_total(),
        earliest: index.earliest,
        latest: index.latest,
    };
    if disk.available_bytes()? < target.reserve_bytes.saturating_add(header.bytes()) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let (path, temporary) = journal::sidecar_paths(segment.first_seq);
    let written = write_file(target, &temporary, index, &header, &customers)
        .and_then(|()| disk.rename(&temporary, &path))
        .and_then(|()| disk.sync_dir(Path::new(journal::DIRECTORY)));
    if written.is_err() {
        // What is left of it goes with the next start at the latest.
        let _ = disk.remove(&temporary);
    }
    written
}

fn write_file(
    target: &Target<'_>,
    temporary: &Path,
    index: &MemoryIndex,
    header: &Header,
    customers: &[u32],
) -> io::Result<()> {
    if let Err(error) = target.disk.remove(temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = target.disk.create(temporary)?;
    let seed = Seed::new(header.store_id, header.segment.first_seq);
    let mut out = Out { file: file.as_ref(), pause: target.pause, at: 0, buf: header.encode().to_vec() };
    for (number, record) in (0..).zip(index.records()) {
        record.put(seed, number, &mut out.buf);
        out.spill(WRITE_BYTES)?;
    }
    let (mut start, mut offsets, mut bytes) = (0, Vec::with_capacity(OFFSET_BYTES * (customers.len() + 1)), 0_u32);
    for (number, customer) in (0..).zip(customers) {
        offsets.extend_from_slice(&bytes.to_le_bytes());
        let (before, end) = (out.buf.len(), start + index.posting_count(*customer));
        format::put_customer(index.name(*customer), start..end, seed, number, &mut out.buf);
        (start, bytes) = (end, bytes + (out.buf.len() - before) as u32);
        out.spill(WRITE_BYTES)?;
    }
    offsets.extend_from_slice(&bytes.to_le_bytes());
    out.buf.append(&mut offsets);
    let (mut number, mut postings) = (0, Vec::new());
    for customer in customers {
        index.sorted_postings(*customer, &mut postings);
        for posting in &postings {
            posting.put(seed, number, &mut out.buf);
            number += 1;
            out.spill(WRITE_BYTES)?;
        }
    }
    out.spill(1)
}

/// Gathers what is to be written.
struct Out<'a> {
    file: &'a dyn DiskFile,
    pause: &'a dyn Fn(),
    at: u64,
    buf: Vec<u8>,
}

impl Out<'_> {
    /// Writes and syncs once there is as much as this.
    fn spill(&mut self, bytes: usize) -> io::Result<()> {
        if self.buf.len() >= bytes {
            self.file.write_all_at(self.at, &self.buf)?;
            self.file.sync_data()?;
            self.at += self.buf.len() as u64;
            self.buf.clear();
            (self.pause)();
        }
        Ok(())
    }
}
