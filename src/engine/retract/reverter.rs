//! The thread that takes backfills back: those that are asked for, and those that an earlier process has left.
//!
//! 1. One at a time, in the order of their numbers. One that cannot go on is tried again later, and the others go on.
//! 2. It ends between two slices: what is left goes on with the next start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration as StdDuration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::PlanError;
use super::revert::{RevertError, revert};
use crate::engine::Engine;
use crate::engine::admission::Refusal;
use crate::engine::corrections::{Backfill, RetractionRefused};
use crate::metrics::BACKFILLS_REVERTING;
use crate::model::Duration;

/// How often it is looked for reverts.
const LOOK: StdDuration = StdDuration::from_millis(200);
/// When one that has failed is tried again: for what may pass, and for what will not.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(60);

/// The running thread.
pub struct Reverter {
    stopped: Arc<AtomicBool>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Reverter {
    pub fn start(engine: &Engine) -> std::io::Result<Self> {
        let (stop, stop_in) = bounded(0);
        let stopped = Arc::new(AtomicBool::new(false));
        let work = Work { engine: engine.clone(), stopped: stopped.clone(), again: BTreeMap::new() };
        let builder = std::thread::Builder::new().name("meterd-reverter".to_owned());
        let thread = builder.spawn(move || work.run(&stop_in))?;
        Ok(Self { stopped, stop, thread })
    }

    /// Ends it. Blocks until the slice under way is answered: to be called before the engine is stopped.
    pub fn stop(self) {
        let Self { stopped, stop, thread } = self;
        stopped.store(true, Ordering::Relaxed);
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the reverter has panicked; what it left goes on with the next start");
        }
    }
}

struct Work {
    engine: Engine,
    stopped: Arc<AtomicBool>,
    /// When those that have failed are tried again, by number.
    again: BTreeMap<u32, Duration>,
}

impl Work {
    fn run(mut self, stop: &Receiver<()>) {
        metrics::gauge!(BACKFILLS_REVERTING).set(0.0);
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(LOOK) {
            let reverting = self.engine.view().reverting_backfills();
            metrics::gauge!(BACKFILLS_REVERTING).set(reverting.len() as f64);
            self.again.retain(|number, _| reverting.iter().any(|backfill| backfill.number == *number));
            for backfill in reverting {
                let now = self.engine.monotonic();
                if self.again.get(&backfill.number).is_none_or(|again| *again <= now) {
                    self.revert(&backfill);
                }
            }
        }
    }

    fn revert(&mut self, backfill: &Backfill) {
        let stopped = self.stopped.clone();
        let reverted = revert(&self.engine, backfill, &|| stopped.load(Ordering::Relaxed));
        let Err(error) = reverted else { return };
        let wait = match &error {
            RevertError::Stopped | RevertError::Turned(Refusal::Stopping) => return,
            RevertError::Turned(_) | RevertError::Refused(RetractionRefused::Outdated) => SOON,
            RevertError::Refused(_) | RevertError::Unexpected(_) | RevertError::Plan(PlanError::Refused(_)) => LATE,
            RevertError::Plan(_) => LATE,
        };
        let (id, number) = (backfill.id.as_str(), backfill.number);
        if wait == LATE {
            tracing::error!(
                backfill = id,
                number,
                "the backfill cannot be taken back, and stays as it is for now: {error}"
            );
        } else {
            tracing::warn!(backfill = id, number, "the backfill is taken back later: {error}");
        }
        self.again.insert(number, self.engine.monotonic().saturating_add(wait));
    }
}
