//! What time alone decides: windows and periods are closed, ids forgotten; and whether the clock is believed.
//!
//! 1. Closing goes in slices, between batches: neither a batch nor a reader waits for more than one.
//! 2. A slice waits while the store is behind, so that what is closed does not pile up in memory.
//! 3. Effective time in the log is at most a second behind while events arrive, and `IDLE_TICK` while none do.

use super::{GROUP_BYTES, Writer, apply_own};
use crate::engine::clock_guard::{Change, Resumed};
use crate::engine::record::{self, ClosedKind, Record};
use crate::engine::state::State;
use crate::metrics::{CLOCK_JUMPS, CLOCK_PAUSED, CLOSE_LAG_SECONDS, PERIODS_FINALIZED, WINDOWS_FINALIZED};
use crate::model::{Duration, Seq, Timestamp};

/// Counters that may become final, or be called back, in one epoch.
pub const CLOSES_PER_EPOCH: usize = 100_000;
/// The least that effective time can be behind.
pub(super) const ANY_LAG: Duration = Duration::from_micros(1);
/// The most that effective time is behind while events arrive.
pub(super) const BUSY_TICK: Duration = Duration::from_secs(1);
/// The most that effective time is behind while nothing happens.
const IDLE_TICK: Duration = Duration::from_secs(60);

/// What the engine makes of the machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStatus {
    pub wall: Timestamp,
    /// Effective time, by which windows close; none before the writer's first look.
    pub effective: Option<Timestamp>,
    pub paused: Option<Paused>,
}

/// A jump that is not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paused {
    /// What the clock should have shown when it jumped, and what it showed.
    pub expected: Timestamp,
    pub since_wall: Timestamp,
}

/// Metrics that say nothing has happened yet, from the start.
pub fn zero_metrics() {
    [CLOCK_JUMPS, WINDOWS_FINALIZED, PERIODS_FINALIZED].iter().for_each(|name| metrics::counter!(*name).increment(0));
    [CLOCK_PAUSED, CLOSE_LAG_SECONDS].iter().for_each(|name| metrics::gauge!(*name).set(0.0));
}

impl<R> Writer<R> {
    /// Looks at the clocks. Before a batch is taken it says what is late.
    pub fn observe(&mut self, wall: Timestamp, monotonic: Duration) {
        let observed = self.clock.observe(wall, monotonic);
        self.paused = observed.trusted.is_none();
        self.latest = observed.trusted.map_or(self.latest, |trusted| trusted.max(self.latest));
        match observed.change {
            Some(Change::Paused { expected, wall }) => {
                metrics::counter!(CLOCK_JUMPS).increment(1);
                metrics::gauge!(CLOCK_PAUSED).set(1.0);
                tracing::error!(%expected, %wall, "closing is paused: the clock jumped ahead by more than clock.max_step");
            }
            Some(Change::Resumed { wall, why }) => {
                metrics::gauge!(CLOCK_PAUSED).set(0.0);
                let why = match why {
                    Resumed::ClockAgrees => "the clock is back where it was expected",
                    Resumed::Settled => "the new time has held for clock.settle",
                };
                tracing::warn!(%wall, "closing goes on: {why}");
            }
            None => {}
        }
    }

    /// The time by which things are decided.
    pub(super) fn believed(&self, state: &State) -> Timestamp {
        self.latest.max(state.clock().effective())
    }

    /// What a reader may know of the clock.
    pub fn clock_status(&self, wall: Timestamp) -> ClockStatus {
        let paused = self.clock.paused().map(|(expected, since_wall)| Paused { expected, since_wall });
        ClockStatus { wall, effective: Some(self.believed(&self.state.read())), paused }
    }

    /// Records what time alone decides, and how many events were not taken. The clocks must have been observed.
    pub fn tick(&mut self) {
        let state = self.state.clone();
        let mut state = state.write();
        self.put_tallies(&mut state);
        self.expire(&mut state);
        self.crossings.gauge(&state, self.believed(&state));
        if self.paused {
            // So that effective time stands still over a restart, too.
            self.put_time(&mut state, ANY_LAG);
            return;
        }
        state.set_now(self.latest);
        let now = self.believed(&state);
        if let Some(horizon) = state.clock().horizon_due(now, self.options.dedupe_retention) {
            self.put_tick(&mut state, now, horizon);
        } else {
            self.put_time(&mut state, self.idle_tick().max(BUSY_TICK));
        }
        let lag = state.closing_lag(now);
        metrics::gauge!(CLOSE_LAG_SECONDS).set(lag.micros() as f64 / 1e6);
        self.closing = lag > Duration::ZERO;
    }

    /// Far less than what a start would take for a jump of the clock.
    fn idle_tick(&self) -> Duration {
        IDLE_TICK.min(Duration::from_micros(self.options.clock.max_step.micros().unsigned_abs() / 4))
    }

    /// Closes a slice of what is due.
    pub fn close_due(&mut self) {
        if !self.closing || self.paused {
            return;
        }
        let state = self.state.clone();
        let mut state = state.write();
        let now = self.believed(&state);
        let mut left = self.options.close_slice;
        while left > 0 && state.leaving_len() < CLOSES_PER_EPOCH && self.payload.len() < GROUP_BYTES {
            let Some(slice) = state.next_slice(now, left) else {
                self.closing = false;
                return;
            };
            left = left.saturating_sub(slice.series.len());
            self.put_time(&mut state, ANY_LAG);
            let start = self.payload.len();
            record::put_closed(&mut self.payload, &state.closed_record(&slice));
            let bytes = self.payload[start..].to_vec();
            let record = record::records(&bytes).next().and_then(Result::ok).expect("just encoded");
            apply_own(&mut state, &record);
            let metric = match slice.kind {
                ClosedKind::Windows => WINDOWS_FINALIZED,
                ClosedKind::Periods => PERIODS_FINALIZED,
            };
            metrics::counter!(metric).increment(slice.series.len() as u64);
        }
    }

    /// A Tick with the present time, so that the next start knows how long the daemon was down.
    pub fn note_time(&mut self) {
        self.closing = false;
        let state = self.state.clone();
        self.put_time(&mut state.write(), BUSY_TICK);
    }

    /// A Tick with the present time, if effective time is at least so far behind it.
    pub(super) fn put_time(&mut self, state: &mut State, lag_min: Duration) {
        if self.latest >= state.clock().effective().saturating_add(lag_min) {
            let horizon = state.clock().horizon();
            self.put_tick(state, self.latest, horizon);
        }
    }

    fn put_tick(&mut self, state: &mut State, effective: Timestamp, horizon: Seq) {
        let held = state.caps().reservations().held_len();
        record::put_tick(&mut self.payload, effective, horizon);
        apply_own(state, &Record::Tick { effective, horizon });
        self.crossings.expired(held - state.caps().reservations().held_len());
    }
}
