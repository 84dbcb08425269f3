//! Lists events, a page at a time, within a page's memory.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::engine::{Evidence, EvidenceEvent, EvidenceQuery, Hasher, View};
use crate::http::events::request::{Asked, Which, encode_log, encode_time};
use crate::http::events::shown::EventShown;
use crate::http::problem::Problem;
use crate::meter::Meters;
use crate::model::{MeterId, Seq, TenantId, Timestamp};

/// A page ends once its raw events come to so many bytes.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// What one request reads of the log where no index leads to what it wants.
const SCAN_BYTES_MAX: u64 = 16 << 20;
/// Events that are looked up in the state at once: the writer waits meanwhile.
const STANDINGS_MAX: usize = 1_000;

#[derive(Debug, Serialize)]
pub struct EventsPage {
    data: Vec<EventShown>,
    next_cursor: Option<String>,
    /// When the oldest event that is kept was received, if older ones were removed.
    evidence_from: Option<String>,
}

/// Events as they are read.
pub struct Collector<'m> {
    meters: &'m Meters,
    hasher: Hasher,
    limit: usize,
    bytes: usize,
    pub rows: Vec<EventShown>,
    /// The last one's place.
    pub last: Option<(Timestamp, Seq)>,
    /// There is one that the page has no room for.
    pub is_full: bool,
}

impl<'m> Collector<'m> {
    pub fn new((meters, hasher): (&'m Meters, Hasher), limit: usize) -> Self {
        Self { meters, hasher, limit, bytes: 0, rows: Vec::new(), last: None, is_full: false }
    }

    pub fn take(&mut self, event: &EvidenceEvent<'_>) -> ControlFlow<()> {
        if self.rows.len() == self.limit || self.bytes >= PAGE_BYTES_MAX {
            self.is_full = true;
            return ControlFlow::Break(());
        }
        self.bytes += event.event.raw.len();
        self.last = Some((event.counted_at, event.seq));
        self.rows.push(EventShown::new(event, self.meters, self.hasher));
        ControlFlow::Continue(())
    }
}

fn feeds(event: &EvidenceEvent<'_>, meter: Option<MeterId>) -> bool {
    meter.is_none_or(|meter| event.event.feeds.iter().any(|feed| feed.meter == meter))
}

/// A page, and the record that what it says rests on. `named`: the record of the event that was asked for by its id.
pub fn page(
    (evidence, view): (&Evidence, &View),
    (tenant, meters, hasher): (&TenantId, &Meters, Hasher),
    asked: &Asked,
    named: Option<Seq>,
) -> Result<(EventsPage, Seq), Problem> {
    let Asked { which, meter, limit } = asked;
    let mut found = Collector::new((meters, hasher), *limit);
    let next_cursor = match which {
        Which::Named { .. } => {
            let mut visit = |event: &EvidenceEvent<'_>| {
                if feeds(event, *meter) {
                    // It has room: it is the only one.
                    let _ = found.take(event);
                }
            };
            named.map(|seq| evidence.event(seq, &mut visit)).transpose()?;
            None
        }
        Which::OfCustomer { customer, span, after } => {
            let (tenant, meter, after) = (tenant.as_str(), *meter, *after);
            let query = EvidenceQuery { tenant, customer, meter, from: span.from, to: span.to, after };
            evidence.events(&query, &mut |event| found.take(event))?;
            found.last.filter(|_| found.is_full).map(|(at, seq)| encode_time(at, seq))
        }
        Which::Logged { span, after } => {
            let mut visit = |event: &EvidenceEvent<'_>| {
                let is_wanted = span.contains(event.counted_at) && feeds(event, *meter);
                if is_wanted { found.take(event) } else { ControlFlow::Continue(()) }
            };
            let end = Seq(u64::MAX);
            let scanned = evidence.scan(Some(tenant.as_str()), *after, end, SCAN_BYTES_MAX, &mut visit)?;
            let last = found.last.map(|(_, seq)| seq);
            (if found.is_full { last } else { scanned }).map(encode_log)
        }
    };
    let (mut data, mut seq) = (found.rows, Seq::ZERO);
    for rows in data.chunks_mut(STANDINGS_MAX) {
        let seqs: Vec<Seq> = rows.iter().map(EventShown::seq).collect();
        let (standings, as_of) = view.standings(tenant, &seqs)?;
        rows.iter_mut().zip(standings).for_each(|(row, standing)| row.stands(standing));
        seq = as_of;
    }
    let evidence_from = evidence.kept_from()?.map(|at| at.to_string());
    Ok((EventsPage { data, next_cursor, evidence_from }, seq))
}
