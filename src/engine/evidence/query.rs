//! A customer's events, from all segments, in one order.
//!
//! 1. Every segment gives its part in the order of (counted time, seq); they are merged as they are read, some at a time,
//!    so that a listing takes as much memory however long it is.
//! 2. A segment that is removed meanwhile gives nothing more.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::{Bound, ControlFlow};

use super::fetch::Fetch;
use super::live::{Sealed, Who};
use super::memory::{Place, Wanted};
use super::sidecar::{Rest, Sidecar, Unusable};
use super::{EvidenceError, EvidenceEvent, EvidenceQuery, Inner};
use crate::engine::key;
use crate::journal;
use crate::model::Seq;

/// Postings that are read from a sidecar at first, and at most.
const TAKE: (u32, u32) = (64, 1_024);

/// One segment's part of a listing.
struct Source {
    segment: Seq,
    /// Read, and to be handed out.
    places: VecDeque<Place>,
    left: Left,
    /// The newest that was handed out.
    last: Option<(i64, u64)>,
    take: u32,
}

enum Left {
    Nothing,
    /// In the sidecar, from here on; to be looked up if nowhere.
    Sidecar(Option<Rest>),
}

impl EvidenceQuery<'_> {
    fn wanted(&self) -> Wanted {
        let mut name = Vec::new();
        key::put_customer(&mut name, self.tenant, self.customer);
        let from = self.from.map_or(i64::MIN, |from| from.micros());
        let from = match self.after {
            Some((after, seq)) if after.micros() >= from => Bound::Excluded((after.micros(), seq.0)),
            _ => Bound::Included((from, 0)),
        };
        let meters = self.meter.map_or(u64::MAX, |meter| 1 << (meter.0 % 64));
        Wanted { name, meters, from, to: self.to.map_or(i64::MAX, |to| to.micros()) }
    }
}

impl Inner {
    pub fn list(
        &self,
        query: &EvidenceQuery<'_>,
        visit: &mut dyn FnMut(&EvidenceEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), EvidenceError> {
        let wanted = query.wanted();
        let mut sources = self.sources(&wanted)?;
        let mut heap = BinaryHeap::new();
        for (index, source) in sources.iter_mut().enumerate() {
            heap.extend(source.peek(self, &wanted)?.map(|at| Reverse((at, index))));
        }
        let mut fetch = Fetch::new(self);
        while let Some(Reverse((_, index))) = heap.pop() {
            let source = &mut sources[index];
            if let Some(place) = source.pop() {
                let mut flow = ControlFlow::Continue(());
                fetch.event(source.segment, &place, &mut |event| {
                    if query.meter.is_none_or(|meter| event.event.feeds.iter().any(|feed| feed.meter == meter)) {
                        flow = visit(event);
                    }
                })?;
                if flow.is_break() {
                    return Ok(());
                }
            }
            heap.extend(source.peek(self, &wanted)?.map(|at| Reverse((at, index))));
        }
        Ok(())
    }

    fn sources(&self, wanted: &Wanted) -> Result<Vec<Source>, EvidenceError> {
        let (live, _) = self.caught_up()?;
        let in_memory = live.pending.values().map(|pending| &*pending.index).chain(live.open());
        let mut sources: Vec<Source> =
            in_memory.map(|index| Source::in_memory(index.segment, index.places(wanted))).collect();
        let open = live.open().map(|open| open.segment);
        drop(live);
        let segments = journal::segments(&*self.disk)?;
        for segment in segments.into_iter().filter(|segment| open.is_none_or(|open| *segment < open)) {
            if sources.iter().all(|source| source.segment != segment) {
                sources.push(Source::sealed(segment));
            }
        }
        Ok(sources)
    }
}

impl Source {
    fn in_memory(segment: Seq, places: Vec<Place>) -> Self {
        Self { segment, places: places.into(), left: Left::Nothing, last: None, take: 0 }
    }

    fn sealed(segment: Seq) -> Self {
        Self { segment, places: VecDeque::new(), left: Left::Sidecar(None), last: None, take: TAKE.0 }
    }

    /// Where the next one stands in the order.
    fn peek(&mut self, inner: &Inner, wanted: &Wanted) -> Result<Option<(i64, u64)>, EvidenceError> {
        while self.places.is_empty() && matches!(self.left, Left::Sidecar(_)) {
            let sealed = inner.sealed(self.segment, Who::Reader)?;
            let Err(why) = self.fill(sealed, wanted) else { continue };
            (self.places, self.left) = (VecDeque::new(), Left::Sidecar(None));
            let sealed = inner.make_anew(self.segment, &why, Who::Reader)?;
            let segment = self.segment;
            self.fill(sealed, wanted).map_err(|why| EvidenceError::Sidecar { segment, why: why.to_string() })?;
        }
        Ok(self.places.front().map(|place| self.order(place)))
    }

    fn pop(&mut self) -> Option<Place> {
        let place = self.places.pop_front()?;
        self.last = Some(self.order(&place));
        Some(place)
    }

    fn order(&self, place: &Place) -> (i64, u64) {
        (place.posting.counted, self.segment.0 + u64::from(place.posting.seq))
    }

    fn fill(&mut self, sealed: Sealed, wanted: &Wanted) -> Result<(), Unusable> {
        let starting = Wanted { from: self.last.map_or(wanted.from, Bound::Excluded), ..wanted.clone() };
        match sealed {
            Sealed::Gone => self.left = Left::Nothing,
            Sealed::Memory(index) => {
                self.places = index.places(&starting).into();
                self.left = Left::Nothing;
            }
            Sealed::Sidecar(sidecar) => self.fill_from(&sidecar, &starting)?,
        }
        Ok(())
    }

    fn fill_from(&mut self, sidecar: &Sidecar, wanted: &Wanted) -> Result<(), Unusable> {
        if !wanted.overlaps(sidecar.header().earliest, sidecar.header().latest) {
            self.left = Left::Nothing;
            return Ok(());
        }
        let known = match std::mem::replace(&mut self.left, Left::Sidecar(None)) {
            Left::Sidecar(rest) => rest,
            Left::Nothing => None,
        };
        let mut rest = known.map_or_else(|| sidecar.find(wanted), Ok)?;
        let mut places = Vec::new();
        while places.is_empty() && !rest.is_empty() {
            sidecar.take(&mut rest, self.take, wanted, &mut places)?;
            self.take = (self.take * 2).min(TAKE.1);
        }
        self.places = places.into();
        self.left = if rest.is_empty() { Left::Nothing } else { Left::Sidecar(Some(rest)) };
        Ok(())
    }
}
