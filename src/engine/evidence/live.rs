//! Keeps the index up with the journal: the open segment in memory, sealed ones as sidecars.
//!
//! ```text
//! journal ──follower──▶ open ──sealed──▶ pending ──written──▶ sidecar
//!                                                              ▲
//!                        a sidecar that is missing or damaged ─┘ made anew from its segment
//! ```
//!
//! 1. Whoever needs what is durable catches up himself, in small steps under one lock; the thread only does so ahead.
//! 2. In memory are the open segment, at most [`PENDING_MAX`] + 1 sealed ones, and one that is made anew.
//! 3. `writing` is taken before `live`, and `live` is never held while a sidecar is written.
//! 4. The thread has the priority of all others, and pauses instead: see decision 23.
//! 5. A sidecar that cannot be written (the disk is full) is no error: its index is made again when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration as StdDuration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use parking_lot::MutexGuard;

use super::memory::MemoryIndex;
use super::sidecar::{self, Sidecar, Unusable};
use super::{EvidenceError, Inner};
use crate::engine::hash::TableHasher;
use crate::journal::{self, Followed, Follower, FrameMark, JournalError, SegmentFile, SegmentInfo};
use crate::model::Seq;

/// Sealed segments that may wait for their sidecars before whoever seals the next must write one.
const PENDING_MAX: usize = 1;
/// The thread gives the lock away after so much of the journal, and pauses.
const STEP_BYTES: u64 = 1 << 20;
/// A millisecond or two of work, and then this: a busy machine's processors are for ingest.
const PAUSE: StdDuration = StdDuration::from_millis(20);
/// How often the thread looks for something to do.
const PACE: StdDuration = StdDuration::from_millis(200);
/// After a failure the thread waits so long.
const RETRY_AFTER: StdDuration = StdDuration::from_secs(10);

/// How far the journal is indexed.
#[derive(Default)]
pub struct Live {
    following: Option<Following>,
    pub pending: BTreeMap<Seq, Pending>,
}

struct Following {
    follower: Follower,
    open: MemoryIndex,
}

/// A sealed segment whose sidecar is not written yet.
#[derive(Clone)]
pub struct Pending {
    pub index: Arc<MemoryIndex>,
    sealed: (SegmentInfo, Option<FrameMark>),
}

/// A sealed segment's index.
pub enum Sealed {
    Sidecar(Sidecar),
    Memory(Arc<MemoryIndex>),
    /// The segment was removed.
    Gone,
}

/// Who does the work: readers are in a hurry, the thread pauses between its steps unless a reader waits for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Reader,
    Thread,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    UpToDate,
    /// There is more, but somebody else may want the lock, or a sidecar must be written.
    More,
}

impl Live {
    /// The index of the open segment. There is one once `caught_up` has returned.
    pub fn open(&self) -> Option<&MemoryIndex> {
        self.following.as_ref().map(|following| &following.open)
    }
}

impl Inner {
    /// The index, with all in it that is durable now; and up to where that is.
    pub fn caught_up(&self) -> Result<(MutexGuard<'_, Live>, Seq), EvidenceError> {
        let durable = *self.durable.borrow();
        loop {
            let mut live = self.live.lock();
            if self.follow(&mut live, durable, u64::MAX)? == Progress::UpToDate {
                return Ok((live, durable));
            }
            drop(live);
            self.write_pending(Who::Reader);
        }
    }

    /// Adds what the journal holds up to `durable`, about `bytes` of it.
    fn follow(&self, live: &mut Live, durable: Seq, bytes: u64) -> Result<Progress, EvidenceError> {
        let followed = self.follow_on(live, durable, bytes);
        if followed.is_err() {
            // A frame may have been added in part.
            live.following = None;
        }
        followed
    }

    fn follow_on(&self, live: &mut Live, durable: Seq, bytes: u64) -> Result<Progress, EvidenceError> {
        if live.following.is_none() {
            live.following = self.start_following(&live.pending)?;
        }
        let Some(Following { follower, open }) = &mut live.following else { return Ok(Progress::UpToDate) };
        let mut added = 0;
        loop {
            if live.pending.len() > PENDING_MAX || added >= bytes {
                return Ok(Progress::More);
            }
            match follower.next(durable)? {
                Followed::UpToDate => return Ok(Progress::UpToDate),
                Followed::Frame { frame, is_packed } => {
                    if open.segment != frame.at.segment {
                        *open = MemoryIndex::new(frame.at.segment, TableHasher::default());
                    }
                    added += frame.at.bytes;
                    let added = open.add_frame(&frame, is_packed);
                    added.map_err(|source| EvidenceError::record(frame.at.segment, frame.at.offset, source))?;
                }
                Followed::Sealed { segment, mark } => {
                    let next = MemoryIndex::new(follower.segment(), TableHasher::default());
                    let index = Arc::new(std::mem::replace(open, next));
                    live.pending.insert(segment.first_seq, Pending { index, sealed: (segment, mark) });
                }
            }
        }
    }

    /// From the newest segment on; what is sealed already gets its sidecar otherwise.
    fn start_following(&self, pending: &BTreeMap<Seq, Pending>) -> Result<Option<Following>, JournalError> {
        let newest = journal::segments(&*self.disk)?.into_iter().next_back();
        let Some(newest) = newest.filter(|newest| !pending.contains_key(newest)) else { return Ok(None) };
        let follower = Follower::open(self.disk.clone(), self.store_id, newest)?;
        let open = MemoryIndex::new(newest, TableHasher::default());
        Ok(follower.map(|follower| Following { follower, open }))
    }

    /// Writes the sidecar of the segment that has waited longest, if any does.
    fn write_pending(&self, who: Who) {
        let _writing = self.writing(who);
        let first = self.live.lock().pending.first_key_value().map(|(first, pending)| (*first, pending.clone()));
        let Some((first, pending)) = first else { return };
        self.write(&pending.index, pending.sealed, who);
        self.live.lock().pending.remove(&first);
    }

    /// The right to make a sidecar.
    fn writing(&self, who: Who) -> MutexGuard<'_, ()> {
        if who == Who::Thread {
            return self.writing.lock();
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let writing = self.writing.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        writing
    }

    fn pause(&self, who: Who) {
        if who == Who::Thread && self.waiting.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(PAUSE);
        }
    }

    fn write(&self, index: &MemoryIndex, (segment, mark): (SegmentInfo, Option<FrameMark>), who: Who) {
        let is_there = || SegmentFile::open(&*self.disk, self.store_id, segment.first_seq);
        let Some(mark) = mark.filter(|_| !matches!(is_there(), Ok(None))) else { return };
        let target =
            sidecar::Target { disk: &*self.disk, reserve_bytes: self.reserve_bytes, pause: &|| self.pause(who) };
        let written = sidecar::write(&target, self.store_id, index, (segment, mark));
        if let Err(error) = written {
            tracing::warn!(segment = segment.first_seq.0, "cannot write a segment's sidecar: {error}");
        }
    }

    /// The index of a sealed segment; made anew if it has to be.
    pub fn sealed(&self, first_seq: Seq, who: Who) -> Result<Sealed, EvidenceError> {
        if let Some(pending) = self.live.lock().pending.get(&first_seq) {
            return Ok(Sealed::Memory(pending.index.clone()));
        }
        match self.usable(first_seq)? {
            Ok(sealed) => Ok(sealed),
            Err(why) => self.make_anew(first_seq, &why, who),
        }
    }

    /// Makes a sealed segment's sidecar anew, unless somebody just has.
    pub fn make_anew(&self, first_seq: Seq, why: &Unusable, who: Who) -> Result<Sealed, EvidenceError> {
        let _writing = self.writing(who);
        if matches!(why, Unusable::Missing)
            && let Ok(sealed) = self.usable(first_seq)?
        {
            return Ok(sealed);
        }
        match why {
            Unusable::Missing => tracing::info!(segment = first_seq.0, "making a segment's sidecar"),
            _ => tracing::warn!(segment = first_seq.0, "a segment's sidecar is made anew: {why}"),
        }
        self.checked.lock().remove(&first_seq);
        let Some((index, sealed)) = self.index_of(first_seq, who)? else { return Ok(Sealed::Gone) };
        self.write(&index, sealed, who);
        let made = Sidecar::open(&*self.disk, self.store_id, first_seq);
        Ok(made.map_or_else(|_| Sealed::Memory(Arc::new(index)), Sealed::Sidecar))
    }

    /// A segment's sidecar if there is a good one.
    fn usable(&self, first_seq: Seq) -> Result<Result<Sealed, Unusable>, EvidenceError> {
        let opened = Sidecar::open(&*self.disk, self.store_id, first_seq);
        if opened.is_ok() && self.checked.lock().contains(&first_seq) {
            return Ok(opened.map(Sealed::Sidecar));
        }
        let Some(segment) = SegmentFile::open(&*self.disk, self.store_id, first_seq)? else {
            return Ok(Ok(Sealed::Gone));
        };
        Ok(opened.and_then(|sidecar| {
            if !sidecar.is_of(&segment) {
                return Err(Unusable::Damaged("it was made of another segment"));
            }
            self.checked.lock().insert(first_seq);
            Ok(Sealed::Sidecar(sidecar))
        }))
    }

    /// Reads a sealed segment from end to end; none if it is gone.
    #[expect(clippy::type_complexity, reason = "what `write` takes")]
    fn index_of(
        &self,
        first_seq: Seq,
        who: Who,
    ) -> Result<Option<(MemoryIndex, (SegmentInfo, Option<FrameMark>))>, EvidenceError> {
        let follower = Follower::open(self.disk.clone(), self.store_id, first_seq)?;
        let Some(mut follower) = follower else { return Ok(None) };
        let mut index = MemoryIndex::new(first_seq, TableHasher::default());
        let mut step_bytes = 0;
        loop {
            if step_bytes >= STEP_BYTES {
                step_bytes = 0;
                self.pause(who);
            }
            match follower.next(Seq(u64::MAX))? {
                Followed::Frame { frame, is_packed } => {
                    step_bytes += frame.at.bytes;
                    let added = index.add_frame(&frame, is_packed);
                    added.map_err(|source| EvidenceError::record(first_seq, frame.at.offset, source))?;
                }
                Followed::Sealed { segment, mark } => return Ok(Some((index, (segment, mark)))),
                Followed::UpToDate => return Ok(None),
            }
        }
    }

    /// The thread: indexes ahead of who asks, until the other end of `stop` is gone.
    pub fn run(&self, stop: &Receiver<()>) {
        let (mut known, mut pace) = (None, PACE);
        loop {
            match stop.recv_timeout(pace) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            }
            pace = PACE;
            if let Err(error) = self.work(stop, &mut known) {
                tracing::error!("the journal cannot be indexed: {error}");
                pace = RETRY_AFTER;
            }
        }
    }

    /// `known` is the open segment at the time when those before it were last looked after.
    fn work(&self, stop: &Receiver<()>, known: &mut Option<Seq>) -> Result<(), EvidenceError> {
        let goes_on = || stop.try_recv() != Err(TryRecvError::Disconnected);
        let durable = *self.durable.borrow();
        while goes_on() {
            let progress = self.follow(&mut self.live.lock(), durable, STEP_BYTES)?;
            let is_pending = !self.live.lock().pending.is_empty();
            self.pause(Who::Thread);
            if is_pending {
                self.write_pending(Who::Thread);
            } else if progress == Progress::UpToDate {
                break;
            }
        }
        let open = self.live.lock().open().map(|open| open.segment);
        if open == *known {
            return Ok(());
        }
        let segments = journal::segments(&*self.disk)?;
        for orphan in journal::orphaned_sidecars(&*self.disk)? {
            // Somebody else may have removed it.
            let _ = self.disk.remove(&journal::sidecar_paths(orphan).0);
        }
        self.checked.lock().retain(|first| segments.binary_search(first).is_ok());
        for first_seq in segments.iter().rev().filter(|first| Some(**first) < open) {
            if !goes_on() {
                return Ok(());
            }
            self.sealed(*first_seq, Who::Thread)?;
        }
        *known = open;
        Ok(())
    }
}
