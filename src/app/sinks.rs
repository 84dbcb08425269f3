//! The config's sinks, made ready; and how far behind each is, for the metrics.

use std::sync::Arc;

use crate::config::{Config, Destination};
use crate::delivery::file::Files;
use crate::delivery::postgres::Postgres;
use crate::delivery::webhook::{SystemResolver, Webhook};
use crate::delivery::{Sink, Transport};
use crate::engine::Engine;
use crate::metrics::{DEAD_LETTERS_WAITING, OUTBOX_AGE_SECONDS};

use super::AppError;

/// Connects to nothing yet: a sink that cannot be reached does not keep the daemon from starting.
pub fn open(config: &Config) -> Result<Vec<Sink>, AppError> {
    let sinks = config.sinks.iter().map(|sink| {
        let name = sink.definition.name.clone();
        let transport: Arc<dyn Transport> = match sink.destination.clone() {
            Destination::File(options) => Arc::new(Files::new(options)),
            Destination::Postgres(options) => Arc::new(Postgres::new(options)),
            Destination::Webhook(options) => {
                let webhook = Webhook::new(options, Arc::new(SystemResolver));
                Arc::new(webhook.map_err(|source| AppError::Sink { name: name.clone(), source })?)
            }
        };
        let mut policy = sink.policy.clone();
        // One connection: attempts that wait for it would spend their time-out on that.
        if matches!(sink.destination, Destination::Postgres(_)) {
            policy.max_in_flight = 1;
        }
        Ok(Sink { name, policy, transport })
    });
    sinks.collect()
}

/// Notes how long each sink's oldest row has waited; answers with their names. Reads a row or two of the store for each.
pub fn measure(engine: &Engine, before: &[Arc<str>]) -> Vec<Arc<str>> {
    let (sinks, _) = engine.view().sinks();
    let now = engine.believed_now();
    // A gauge cannot be taken back: of one that was forgotten it says that nothing waits.
    for name in before.iter().filter(|name| sinks.iter().all(|sink| sink.name != **name)) {
        metrics::gauge!(OUTBOX_AGE_SECONDS, "sink" => name.to_string()).set(0.0);
        metrics::gauge!(DEAD_LETTERS_WAITING, "sink" => name.to_string()).set(0.0);
    }
    for sink in &sinks {
        let age = sink.oldest.map_or(0, |oldest| now.micros().saturating_sub(oldest.micros()).max(0));
        metrics::gauge!(OUTBOX_AGE_SECONDS, "sink" => sink.name.to_string()).set(age as f64 / 1e6);
        metrics::gauge!(DEAD_LETTERS_WAITING, "sink" => sink.name.to_string()).set(sink.dead as f64);
    }
    sinks.into_iter().map(|sink| sink.name).collect()
}
