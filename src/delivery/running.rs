//! All sinks' workers: started together, each on its own, ended together.
//!
//! 1. A worker that breaks down is started again after a moment; what it knew beyond the log is lost, and the log is all
//!    that matters.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::delivery::worker::log::Log;
use crate::delivery::worker::{ENDS_WITHIN, Worker};
use crate::delivery::{Policy, Transport};
use crate::engine::Engine;

#[cfg(test)]
mod tests;

const RESTART_AFTER: StdDuration = StdDuration::from_secs(1);
/// What workers may take beyond what they allow themselves.
const MARGIN: StdDuration = StdDuration::from_secs(1);

/// A sink as it is to be served.
#[derive(Clone)]
pub struct Sink {
    pub name: String,
    pub policy: Policy,
    pub transport: Arc<dyn Transport>,
}

/// Delivery, under way.
pub struct Running {
    stop: CancellationToken,
    tasks: Vec<(Arc<str>, JoinHandle<()>)>,
}

/// Starts delivery to each sink; call it inside a runtime. It ends with `shutdown`, with [`Running::stop`], or with the
/// engine.
pub fn start(engine: &Engine, sinks: Vec<Sink>, shutdown: CancellationToken) -> Running {
    start_on(&(Arc::new(engine.clone()) as Arc<dyn Log>), sinks, &shutdown, fastrand::Rng::new())
}

fn start_on(log: &Arc<dyn Log>, sinks: Vec<Sink>, shutdown: &CancellationToken, mut rng: fastrand::Rng) -> Running {
    let stop = shutdown.child_token();
    let start = |sink: Sink| {
        let name: Arc<str> = sink.name.as_str().into();
        let task = tokio::spawn(supervise(sink, name.clone(), log.clone(), rng.fork(), stop.clone()));
        (name, task)
    };
    let tasks = sinks.into_iter().map(start).collect();
    Running { stop, tasks }
}

async fn supervise(sink: Sink, name: Arc<str>, log: Arc<dyn Log>, mut rng: fastrand::Rng, stop: CancellationToken) {
    loop {
        let (policy, transport) = (sink.policy.clone(), sink.transport.clone());
        // Built inside the task: a transport may panic there too. A set, so that dropping this drops the worker.
        let (name_again, log_again, rng_again, stop_again) = (name.clone(), log.clone(), rng.fork(), stop.clone());
        let mut worker = JoinSet::new();
        worker.spawn(async move {
            Worker::new(name_again, policy, transport, log_again, rng_again, stop_again).run().await;
        });
        match worker.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(sink = &*name, %error, "delivery to a sink broke down; it starts again");
            }
            _ => return,
        }
        if stop.run_until_cancelled(tokio::time::sleep(RESTART_AFTER)).await.is_none() {
            return;
        }
    }
}

impl Running {
    /// Starts nothing new, gives what is under way a moment, and returns once all workers have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        let deadline = tokio::time::sleep(ENDS_WITHIN + MARGIN);
        tokio::pin!(deadline);
        for (sink, mut task) in self.tasks {
            tokio::select! {
                biased;
                _ = &mut task => {}
                () = &mut deadline => {
                    tracing::warn!(sink = &*sink, "delivery to a sink did not end in time and is cut off");
                    task.abort();
                }
            }
        }
    }
}
