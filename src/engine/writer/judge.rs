//! Whether one event is to be counted, and where: a known id, its time, its windows, the limits on memory. Its caps come after.

use super::{Feeds, Writer};
use crate::engine::batch::{Batch, Feed as BatchFeed, Item};
use crate::engine::dedupe::Recent;
use crate::engine::state::caps::accounts::NONE;
use crate::engine::state::{Feed, FoldError, Located, State, StateLimits};
use crate::meter::Late;
use crate::model::{Code, IdEntry, Outcome, Timestamp};

impl<R> Writer<R> {
    /// Whether an event is to be counted, and where.
    pub(super) fn judge<'b>(
        &self,
        state: &mut State,
        (batch, item): (&'b Batch, &Item),
        found: &mut Found,
        (now, is_commit): (Timestamp, bool),
    ) -> Result<Result<Feeds<'b>, Outcome>, FoldError> {
        let horizon = state.clock().horizon();
        let corrections = state.corrections();
        let remembered = |entry: &IdEntry| entry.seq >= horizon && !corrections.is_reverted(entry.seq);
        let before = found.next_id();
        let in_batch = || self.recent.get_open(item.key);
        let known =
            [item.indexed, before].into_iter().flatten().find(remembered).or_else(|| in_batch().filter(remembered));
        if let Some(entry) = known.or(item.backfilled) {
            let same = entry.fingerprint == item.fingerprint;
            let is_voided = || corrections.voided(entry.seq).is_some();
            return Ok(Err(match same {
                true if is_voided() => Outcome::Voided(entry.seq),
                true => Outcome::Duplicate(entry.seq),
                false => Outcome::Conflict(entry.seq),
            }));
        }
        let is_history = batch.backfill.is_some() || batch.corrects;
        let (known, asked) = ((batch.received_at, now), (state.clock().forgotten(), is_history));
        if let Err(outcome) = self.check_time(item.timestamp, known, asked) {
            return Ok(Err(outcome));
        }
        let mut feeds = Feeds::new();
        for (number, place) in item.feeds.clone().enumerate() {
            let mut feed = borrow_feed(batch, &batch.feeds[place], number as u8);
            let mut located = state.locate_again(&feed, found.counters[place]);
            feed.late = state.is_late(&feed, &mut located, now)?;
            if feed.late {
                let definition = &state.definitions()[usize::from(feed.meter.0)];
                // What was set aside in time is never too late.
                if definition.late == Late::Reject && !is_commit && !is_history {
                    let (slug, end) = (&definition.slug, feed.window.end);
                    let detail = format!("meter {slug}: the window that ended at {end} is final");
                    return Ok(Err(Outcome::Rejected(Code::LateRejected, detail.into())));
                }
                state.recall(&feed)?;
                located = state.locate(&feed);
            }
            feeds.push((feed, located));
        }
        let limits = StateLimits {
            open_counters_max: self.options.open_counters_max,
            unique_members_max: self.options.unique_members_max,
        };
        let refused = |(code, detail): (Code, String)| Outcome::Rejected(code, detail.into());
        Ok(state.check(feeds.iter().copied(), &limits).map_err(refused).map(|()| feeds))
    }

    /// `now` is what is believed, `received_at` what the wall clock showed: after a jump ahead that may be right, events
    /// with the new time are taken.
    fn check_time(
        &self,
        timestamp: Timestamp,
        (received_at, now): (Timestamp, Timestamp),
        (forgotten, is_history): (Option<Timestamp>, bool),
    ) -> Result<(), Outcome> {
        if !is_history && Some(timestamp) <= forgotten {
            let detail =
                format!("{timestamp} lies where ids are forgotten by now (dedupe.retention): it may have counted");
            return Err(Outcome::Rejected(Code::TooLate, detail.into()));
        }
        if !is_history && timestamp < now.saturating_sub(self.options.accept_past) {
            let detail = format!("{timestamp} is further back from {now} than ingest.accept_past");
            return Err(Outcome::Rejected(Code::TooLate, detail.into()));
        }
        let latest = now.max(received_at);
        if timestamp > latest.saturating_add(self.options.accept_future) {
            let detail = format!("{timestamp} is further ahead of {latest} than ingest.accept_future");
            return Err(Outcome::Rejected(Code::TooEarly, detail.into()));
        }
        Ok(())
    }
}

/// What a batch's ids and counters come to, with the accounts fetched that they belong to, before its first event is decided.
///
/// Each answer is a chain of cache misses. Asked for one after another in a loop of their own, they overlap; asked for
/// between decisions, they would not.
pub(super) struct Found {
    ids: std::vec::IntoIter<Option<IdEntry>>,
    /// By feed.
    counters: Vec<Located>,
}

impl Found {
    pub fn look(state: &State, recent: &Recent, batch: &Batch) -> Self {
        let ids: Vec<_> = batch.items().map(|item| recent.get(item.key, batch.index_position)).collect();
        let counters: Vec<_> = batch.feeds.iter().map(|feed| state.locate(&borrow_feed(batch, feed, 0))).collect();
        let caps = state.caps();
        if !caps.accounts().is_empty() {
            let accounts =
                counters.iter().filter_map(Located::series_number).map(|series| state.series(series).account);
            let accounts = accounts.filter(|account| *account != NONE).map(|account| caps.account(account).touch());
            std::hint::black_box(accounts.fold(0, usize::wrapping_add));
        }
        Self { ids: ids.into_iter(), counters }
    }

    /// The entry of the next event, in order.
    fn next_id(&mut self) -> Option<IdEntry> {
        self.ids.next().flatten()
    }
}

fn borrow_feed<'b>(batch: &'b Batch, feed: &BatchFeed, number: u8) -> Feed<'b> {
    Feed {
        number,
        meter: feed.meter,
        late: false,
        window: feed.window,
        period: &batch.periods[feed.period as usize],
        value: feed.value,
        key: &batch.keys[feed.key.clone()],
        hash: feed.hash,
    }
}
