//! Threads that parse large bodies, so that nobody else's request waits behind one.
//!
//! 1. There are as many as processors, and never one alone: a body whose ids must be read from the disk does not hold up the
//!    others.
//! 2. What waits is bounded twice: by the room that its body has taken in the engine's queue, and by the connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use crate::http::problem::Problem;

type Job = Box<dyn FnOnce() + Send>;

/// They end when it is dropped.
pub struct Parsers(Sender<Job>);

impl Parsers {
    /// `connections`: each has one body at a time.
    pub fn start(connections: usize) -> Self {
        let (jobs, waiting) = bounded(connections);
        let processors = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors.max(2) {
            let waiting = waiting.clone();
            let thread = thread::Builder::new().name("meterd-parse".into());
            thread.spawn(move || parse(&waiting)).expect("a thread can be started");
        }
        Self(jobs)
    }

    /// Runs `work` on one of the threads.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        let job = move || drop(answer.send(work()));
        self.0.try_send(Box::new(job)).map_err(|_| Problem::EngineFailed)?;
        answered.await.map_err(|_| Problem::EngineFailed)
    }
}

fn parse(waiting: &Receiver<Job>) {
    for job in waiting {
        // The panic has been reported; whoever waits hears of it by the answer that does not come.
        drop(catch_unwind(AssertUnwindSafe(job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_a_failure_of_its_own_alone() {
        let parsers = Parsers::start(2);
        let panics = parsers.run(|| panic!("expected: of a test")).await;
        assert!(matches!(panics, Err::<(), _>(Problem::EngineFailed)));
        assert_eq!(parsers.run(|| 1 + 1).await.unwrap(), 2);
    }
}
