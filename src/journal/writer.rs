//! The one that appends: frames, syncs, rolls, and removes what the store no longer needs.
//!
//! 1. A frame is appended by one write, and durable after the next [`Journal::sync`]. Bytes before a sync are not touched again.
//! 2. A frame is never split. If it does not fit, the segment is sealed: cut to its frames and synced, so that all
//!    before a segment is durable by the time the segment has its name. A frame longer than a segment gets one of its own.
//! 3. A segment's header is synced before the file gets its name, and the name is synced before a frame is appended.
//! 4. After any failed write, sync or directory change the journal is poisoned: every later call fails. No sync is
//!    ever tried again, because after a failed one a success means nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::error::{JournalError, ReplayError, io_error};
use super::frame::{self, Header, Link, Seed};
use super::prepare::{Prepared, Preparer, Shelf};
use super::recovery;
use super::segment::{self, SegmentHeader};
use super::{DIRECTORY, FrameAt, FrameView, Options, PAYLOAD_BYTES_MAX, Recovered, SegmentInfo, Start, StoreId};
use crate::env::{Disk, DiskFile};
use crate::model::Seq;

const PAGE_BYTES: u64 = 4_096;
/// What the buffer that a frame is built in keeps beyond this is given back before the next frame.
const BUFFER_BYTES_KEPT: usize = 16 << 20;

/// An open journal. One owner, who appends and syncs.
pub struct Journal {
    disk: Arc<dyn Disk>,
    options: Options,
    store_id: StoreId,
    seed: Seed,
    /// Oldest first.
    sealed: Vec<SegmentInfo>,
    newest: Newest,
    last: Seq,
    durable: Seq,
    poisoned: bool,
    buffer: Vec<u8>,
    shelf: Arc<Shelf>,
}

/// The segment that is appended to.
struct Newest {
    file: Box<dyn DiskFile>,
    name: String,
    first_seq: Seq,
    /// Where the next frame begins.
    offset: u64,
    link: Link,
    durable_bytes: u64,
    /// Whether the newest frame holds records, so that no later header calls them durable yet.
    ends_with_records: bool,
}

impl Journal {
    /// Whether there is a journal: then [`Journal::recover`] it, else [`Journal::create`] one.
    pub fn exists(disk: &dyn Disk) -> Result<bool, JournalError> {
        recovery::exists(disk)
    }

    /// Makes the first segment, durable, with its blocks written ahead. `first_seq` is at least 1.
    pub fn create(
        disk: Arc<dyn Disk>,
        options: Options,
        store_id: StoreId,
        first_seq: Seq,
    ) -> Result<Journal, JournalError> {
        if recovery::exists(disk.as_ref())? {
            return Err(JournalError::Exists);
        }
        if first_seq == Seq::ZERO {
            return Err(JournalError::OutOfOrder { expected: Seq(1), given: first_seq, count: 0 });
        }
        let directory = Path::new(DIRECTORY);
        disk.create_dir_all(directory).map_err(io_error("create", DIRECTORY))?;
        disk.sync_dir(Path::new("")).map_err(io_error("sync", "."))?;
        recovery::remove_temporary(disk.as_ref())?;
        let shelf = Shelf::new(Arc::clone(&disk), options.segment_bytes);
        Preparer::new(Arc::clone(&shelf), 0).prepare()?;
        let header = SegmentHeader { store_id, first_seq, previous: Link(0) };
        let newest = Newest::start(disk.as_ref(), shelf.take()?, &header)?;
        let last = Seq(first_seq.0 - 1);
        Ok(Self::new(disk, options, store_id, shelf, Vec::new(), newest, last))
    }

    /// Replays the frames that hold a seq > `start.after`, in order, each once and whole; cuts a torn tail; makes all
    /// that is left durable; and opens for appending. What is bad but no torn tail is an error.
    /// A frame is visited before it is known to be durable: act on it only once this returns.
    pub fn recover<E>(
        disk: Arc<dyn Disk>,
        options: Options,
        start: Start,
        visit: &mut dyn FnMut(FrameView<'_>) -> Result<(), E>,
    ) -> Result<(Journal, Recovered), ReplayError<E>> {
        let scan = recovery::scan(disk.as_ref(), start, &|path| disk.open(path), visit)?;
        scan.settle(disk.as_ref())?;
        let newest = Newest {
            file: scan.file,
            name: segment::display(&scan.newest_name),
            first_seq: scan.newest_first_seq,
            offset: scan.cursor.offset,
            link: scan.cursor.link,
            durable_bytes: scan.cursor.offset,
            ends_with_records: scan.cursor.ends_with_records,
        };
        let shelf = Shelf::new(Arc::clone(&disk), options.segment_bytes);
        let journal = Self::new(disk, options, scan.store_id, shelf, scan.sealed, newest, scan.recovered.last);
        Ok((journal, scan.recovered))
    }

    fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        store_id: StoreId,
        shelf: Arc<Shelf>,
        sealed: Vec<SegmentInfo>,
        newest: Newest,
        last: Seq,
    ) -> Self {
        let seed = Seed::new(store_id);
        let buffer = Vec::new();
        Self { disk, options, store_id, seed, sealed, newest, last, durable: last, poisoned: false, buffer, shelf }
    }

    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// The newest record appended; one before the first if there is none.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Every record up to here is durable.
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// Appends one frame of `count` ≥ 1 records, the first of which is `last().next()`. It is not durable before
    /// [`Journal::sync`] (rolling to a new segment makes all *earlier* frames durable).
    pub fn append(&mut self, first_seq: Seq, count: u32, payload: &[u8]) -> Result<FrameAt, JournalError> {
        self.check()?;
        let expected = self.last.next();
        if first_seq != expected || count == 0 {
            return Err(JournalError::OutOfOrder { expected, given: first_seq, count });
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(JournalError::PayloadTooLarge { bytes: payload.len() });
        }
        let result = self.append_frame(count, payload);
        self.poison_on_error(result)
    }

    /// Makes everything appended durable; returns the last seq of it.
    pub fn sync(&mut self) -> Result<Seq, JournalError> {
        self.check()?;
        let result = self.sync_newest();
        self.poison_on_error(result)?;
        Ok(self.durable)
    }

    /// Syncs, then appends an empty frame that calls everything before it durable, and syncs that. Does nothing
    /// if the newest frame is such a one already. For idle moments and shutdown.
    pub fn append_watermark(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        if !self.newest.ends_with_records {
            return Ok(());
        }
        let result = self.append_frame(0, &[]).and_then(|_| self.sync_newest());
        self.poison_on_error(result)
    }

    /// The one who makes segments ahead of use. Without it the journal works, with slower syncs.
    ///
    /// It leaves at least `reserve_bytes` of the disk free.
    pub fn preparer(&self, reserve_bytes: u64) -> Preparer {
        Preparer::new(Arc::clone(&self.shelf), reserve_bytes)
    }

    /// All segments, oldest first; the last one is being appended to.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let Newest { first_seq, offset, .. } = self.newest;
        let newest = SegmentInfo { first_seq, last_seq: self.last, bytes: offset };
        self.sealed.iter().copied().chain([newest]).collect()
    }

    /// The oldest segment, unless it is the newest too.
    pub fn oldest_sealed(&self) -> Option<SegmentInfo> {
        self.sealed.first().copied()
    }

    /// Removes segments that hold only records up to `persisted`, oldest first, but never the newest.
    /// Returns the bytes that this freed.
    pub fn remove_below(&mut self, persisted: Seq) -> Result<u64, JournalError> {
        self.check()?;
        let result = self.remove_sealed(persisted);
        self.poison_on_error(result)
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.poisoned { Err(JournalError::Poisoned) } else { Ok(()) }
    }

    fn poison_on_error<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        self.poisoned |= result.is_err();
        result
    }

    /// The payload is copied once, into the buffer (or compressed into it), and written with its header in one go.
    fn append_frame(&mut self, count: u32, payload: &[u8]) -> Result<FrameAt, JournalError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        buffer.resize(frame::HEADER_BYTES, 0);
        let stored = frame::pack(payload, self.options.compression, &mut buffer);
        let frame_bytes = buffer.len() as u64;
        let is_full = self.newest.offset + frame_bytes > self.options.segment_bytes;
        // An empty frame goes past the limit rather than open a segment, whose header would say the same.
        if is_full && count > 0 && self.newest.has_frames() {
            self.roll()?;
        }
        let header = Header {
            previous: self.newest.link,
            payload_crc: self.seed.checksum(&buffer[frame::HEADER_BYTES..][..stored.stored_bytes as usize]),
            stored_bytes: stored.stored_bytes,
            payload_bytes: stored.payload_bytes,
            first_seq: self.last.next(),
            count,
            codec: stored.codec,
            durable: self.durable,
            durable_bytes: self.newest.durable_bytes,
            offset: self.newest.offset,
        };
        let (bytes, link) = header.encode(self.seed);
        buffer[..frame::HEADER_BYTES].copy_from_slice(&bytes);
        let at = FrameAt { segment: self.newest.first_seq, offset: self.newest.offset, bytes: frame_bytes };
        // Zeros to the end of the page, over zeros: a page that is written whole is not read first.
        let page_end = (at.offset + frame_bytes).next_multiple_of(PAGE_BYTES);
        buffer.resize((page_end - at.offset) as usize, 0);
        self.newest.file.write_all_at(at.offset, &buffer).map_err(io_error("append to", &self.newest.name))?;
        self.newest.offset += frame_bytes;
        self.newest.link = link;
        self.newest.ends_with_records = count > 0;
        self.last = self.last.plus(u64::from(count));
        self.buffer = buffer;
        Ok(at)
    }

    fn sync_newest(&mut self) -> Result<(), JournalError> {
        if self.newest.durable_bytes < self.newest.offset {
            self.newest.file.sync_data().map_err(io_error("sync", &self.newest.name))?;
            self.newest.durable_bytes = self.newest.offset;
        }
        self.durable = self.last;
        Ok(())
    }

    /// Seals the newest segment and starts the next.
    fn roll(&mut self) -> Result<(), JournalError> {
        let Newest { file, name, first_seq, offset, .. } = &self.newest;
        file.set_len(*offset).map_err(io_error("cut", name))?;
        file.sync_data().map_err(io_error("sync", name))?;
        let sealed = SegmentInfo { first_seq: *first_seq, last_seq: self.last, bytes: *offset };
        self.durable = self.last;
        let header = SegmentHeader { store_id: self.store_id, first_seq: self.last.next(), previous: self.newest.link };
        self.newest = Newest::start(self.disk.as_ref(), self.shelf.take()?, &header)?;
        self.sealed.push(sealed);
        Ok(())
    }

    /// Each removal is synced before the next, so that a crash leaves no gap.
    fn remove_sealed(&mut self, persisted: Seq) -> Result<u64, JournalError> {
        let mut freed = 0;
        while let Some(oldest) = self.sealed.first().copied().filter(|segment| segment.last_seq <= persisted) {
            self.remove_sidecar(oldest.first_seq)?;
            let name = segment::file_name(oldest.first_seq);
            self.disk.remove(&segment::path(&name)).map_err(io_error("remove", &segment::display(&name)))?;
            self.disk.sync_dir(Path::new(DIRECTORY)).map_err(io_error("sync", DIRECTORY))?;
            self.sealed.remove(0);
            freed += oldest.bytes;
        }
        Ok(freed)
    }

    /// Before its segment, so that none stays behind.
    fn remove_sidecar(&self, first_seq: Seq) -> Result<(), JournalError> {
        let name = segment::sidecar_name(first_seq);
        match self.disk.remove(&segment::path(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &segment::display(&name))(error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shelf.close();
    }
}

impl Newest {
    /// Writes a segment's header, gives the file its name, and makes both durable, in this order.
    fn start(disk: &dyn Disk, prepared: Prepared, header: &SegmentHeader) -> Result<Self, JournalError> {
        let file_name = segment::file_name(header.first_seq);
        let name = segment::display(&file_name);
        let (bytes, link) = header.encode();
        prepared.file.write_all_at(0, &bytes).map_err(io_error("write the header of", &name))?;
        prepared.file.sync_data().map_err(io_error("sync", &name))?;
        disk.rename(&segment::path(&prepared.name), &segment::path(&file_name)).map_err(io_error("name", &name))?;
        disk.sync_dir(Path::new(DIRECTORY)).map_err(io_error("sync", DIRECTORY))?;
        let offset = segment::HEADER_BYTES as u64;
        let first_seq = header.first_seq;
        let file = prepared.file;
        Ok(Self { file, name, first_seq, offset, link, durable_bytes: offset, ends_with_records: false })
    }

    fn has_frames(&self) -> bool {
        self.offset > segment::HEADER_BYTES as u64
    }
}
