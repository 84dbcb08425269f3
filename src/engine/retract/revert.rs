//! A backfill is taken back: its events are scanned from the journal, summed up by window, and retracted slice by slice.
//!
//! ```text
//! pass: scan first_seq..=last_seq ─▶ the next windows behind `reverted_to` that fit PASS_BYTES ─▶ slices ─▶ the writer
//! again, while windows were left out; then BackfillReverted
//! ```
//!
//! 1. Slices follow each other in the order of (series, window's start), each is one record, and that record says how far the
//!    revert is: after a crash it goes on behind the last durable one.
//! 2. Memory is bounded by `PASS_BYTES`, however many windows there are: a pass keeps those that come first in the order, and
//!    the journal is scanned once more for the others. A window is about 300 bytes, and 24 for each different member.
//! 3. An outdated slice is planned again, half as long: a window that is being used all the time does not hold up the others.
//! 4. If the journal does not hold all of the backfill any more nothing more is taken back, and it stays as it is.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use super::plan::name_of;
use super::taken::TakenWindow;
use super::{PlanError, Planner};
use crate::engine::admission::Refusal;
use crate::engine::corrections::{
    Backfill, BackfillState, Cause, RETRACTED_WINDOWS_MAX, Retraction, RetractionRefused,
};
use crate::engine::evidence::EvidenceEvent;
use crate::engine::outbox::Done;
use crate::engine::state::counter_key;
use crate::engine::{Answer, Engine};

/// What one pass keeps in memory.
const PASS_BYTES: usize = 64 << 20;
/// Between slices: a void whose plan reads evidence must find a moment without a retraction.
const PAUSE: StdDuration = StdDuration::from_millis(5);
/// How long is waited when the engine is overloaded.
const OVERLOADED: StdDuration = StdDuration::from_millis(50);
/// How often a slice of one window is planned again.
const OUTDATED_MAX: usize = 1_000;

/// Why a backfill is not taken back yet.
#[derive(Debug, thiserror::Error)]
pub enum RevertError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Refused(#[from] RetractionRefused),
    #[error(transparent)]
    Turned(#[from] Refusal),
    #[error("the engine has ended, or is about to")]
    Stopped,
    #[error("the writer answered with something else: {0}")]
    Unexpected(String),
}

/// Where a revert is done.
pub trait Target {
    fn retract(&mut self, retraction: Retraction) -> Result<Done, RevertError>;
    fn finish(&mut self, number: u32) -> Result<Done, RevertError>;
    /// Whether to leave off.
    fn is_stopped(&self) -> bool;
    /// Lets others have their turn.
    fn pause(&self) {}
}

/// Takes all of a backfill back that is being reverted. Blocks until that is durable, or `is_stopped`.
pub fn revert(engine: &Engine, backfill: &Backfill, is_stopped: &dyn Fn() -> bool) -> Result<(), RevertError> {
    let planner = engine.planner();
    Revert::new(&planner, backfill, PASS_BYTES).run(&mut Live { engine, is_stopped })
}

struct Live<'a> {
    engine: &'a Engine,
    is_stopped: &'a dyn Fn() -> bool,
}

impl Live<'_> {
    fn ask(
        &self,
        ask: &dyn Fn() -> Result<tokio::sync::oneshot::Receiver<Answer>, Refusal>,
    ) -> Result<Done, RevertError> {
        loop {
            match ask() {
                Ok(answer) => {
                    return answer.blocking_recv().map(|answer| answer.done).map_err(|_| RevertError::Stopped);
                }
                Err(Refusal::Overloaded) if !self.is_stopped() => std::thread::sleep(OVERLOADED),
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }
}

impl Target for Live<'_> {
    fn retract(&mut self, retraction: Retraction) -> Result<Done, RevertError> {
        self.ask(&|| self.engine.retract(retraction.clone(), None))
    }

    fn finish(&mut self, number: u32) -> Result<Done, RevertError> {
        self.ask(&|| self.engine.finish_revert(number))
    }

    fn is_stopped(&self) -> bool {
        (self.is_stopped)()
    }

    fn pause(&self) {
        std::thread::sleep(PAUSE);
    }
}

pub struct Revert<'a> {
    planner: &'a Planner,
    backfill: &'a Backfill,
    pass_bytes: usize,
    /// The counter up to which it is done.
    done: Option<Vec<u8>>,
}

/// The windows of one pass, by the names of their counters.
type Windows = BTreeMap<Vec<u8>, TakenWindow>;

impl<'a> Revert<'a> {
    pub fn new(planner: &'a Planner, backfill: &'a Backfill, pass_bytes: usize) -> Self {
        let done = backfill.reverted_to.as_ref().map(name_of);
        Self { planner, backfill, pass_bytes, done }
    }

    pub fn run(mut self, target: &mut dyn Target) -> Result<(), RevertError> {
        loop {
            let (windows, is_last) = self.pass(target)?;
            let windows: Vec<(Vec<u8>, TakenWindow)> = windows.into_iter().collect();
            self.take_back(&windows, target)?;
            match windows.last() {
                Some((name, _)) if !is_last => self.done = Some(name.clone()),
                _ => break,
            }
        }
        match target.finish(self.backfill.number)? {
            Done::Backfill(known) if known.state == BackfillState::Reverted => Ok(()),
            other => Err(RevertError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Sums up what the next windows lose; and whether these are the last.
    fn pass(&self, target: &dyn Target) -> Result<(Windows, bool), RevertError> {
        let Backfill { first_seq, last_seq, .. } = *self.backfill;
        let (mut pass, mut is_stopped) = (Pass::new(self), false);
        if self.backfill.events == 0 {
            return Ok((pass.windows, true));
        }
        let source = &self.planner.source;
        if !source.wait_for(last_seq) {
            return Err(PlanError::NotDurable(last_seq).into());
        }
        let tenant = self.backfill.tenant.as_str();
        let scanned = source.scan(tenant, (first_seq, last_seq), &mut |event| {
            is_stopped = target.is_stopped();
            if is_stopped {
                return std::ops::ControlFlow::Break(());
            }
            pass.add(event);
            std::ops::ControlFlow::Continue(())
        });
        scanned.map_err(PlanError::from)?;
        if is_stopped {
            return Err(RevertError::Stopped);
        }
        // Asked afterwards: segments may have gone meanwhile.
        if source.oldest().map_err(PlanError::from)? > first_seq {
            return Err(RetractionRefused::EvidenceExpired.into());
        }
        Ok((pass.windows, pass.end.is_none()))
    }

    fn take_back(&self, windows: &[(Vec<u8>, TakenWindow)], target: &mut dyn Target) -> Result<(), RevertError> {
        let cause = Cause::Revert { backfill: self.backfill.number };
        let (mut at, mut limit, mut outdated) = (0, RETRACTED_WINDOWS_MAX, 0);
        while at < windows.len() {
            if target.is_stopped() {
                return Err(RevertError::Stopped);
            }
            let next = &windows[at..windows.len().min(at + limit)];
            let planned = self.planner.plan_slice(&self.backfill.tenant, &cause, next);
            let done = match planned {
                Ok((retraction, took)) => (target.retract(retraction)?, took),
                Err(PlanError::Refused(refused)) => (Done::RetractionRefused(refused), 0),
                Err(error) => return Err(error.into()),
            };
            match done {
                (Done::Retracted(_), took) => {
                    (at, outdated) = (at + took, 0);
                    limit = (limit * 2).min(RETRACTED_WINDOWS_MAX);
                    target.pause();
                }
                (Done::RetractionRefused(RetractionRefused::Outdated), _) if outdated < OUTDATED_MAX => {
                    outdated += usize::from(limit == 1);
                    limit = (limit / 2).max(1);
                }
                (Done::RetractionRefused(refused), _) => return Err(refused.into()),
                (other, _) => return Err(RevertError::Unexpected(format!("{other:?}"))),
            }
        }
        Ok(())
    }
}

struct Pass<'r> {
    revert: &'r Revert<'r>,
    windows: Windows,
    bytes: usize,
    /// Windows from here on are left to the next pass.
    end: Option<Vec<u8>>,
    name: Vec<u8>,
}

impl<'r> Pass<'r> {
    fn new(revert: &'r Revert<'r>) -> Self {
        Self { revert, windows: Windows::new(), bytes: 0, end: None, name: Vec::with_capacity(128) }
    }

    fn add(&mut self, event: &EvidenceEvent<'_>) {
        let Revert { planner, backfill, done, .. } = self.revert;
        if event.backfill != Some(backfill.number) || planner.view.is_taken_back(event.seq) {
            return;
        }
        let Self { windows, bytes, end, name, .. } = self;
        planner.each_feed(event, &mut |series, feed, at| {
            counter_key(name, series, feed.window.start);
            let is_done = done.as_ref().is_some_and(|done| *name <= *done);
            if is_done || end.as_ref().is_some_and(|end| *name >= *end) {
                return;
            }
            let window = match windows.get_mut(name) {
                Some(window) => window,
                None => {
                    let window = windows.entry(name.clone()).or_insert_with(|| TakenWindow::new(feed.meter));
                    *bytes += window.bytes(name);
                    window
                }
            };
            *bytes += window.add(feed.value, at);
        });
        while self.bytes > self.revert.pass_bytes && self.windows.len() > 1 {
            let Some((name, window)) = self.windows.pop_last() else { return };
            self.bytes -= window.bytes(&name);
            self.end = Some(name);
        }
    }
}
