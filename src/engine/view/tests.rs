//! By question: which windows a reader sees, billing period totals, adjustments, and what one customer comes to.

use super::*;
use crate::engine::batch::Context;
use crate::engine::calendars::Calendars;
use crate::engine::dedupe::Index;
use crate::engine::hash::Hasher;
use crate::engine::state::tests::fixture::Log;

mod adjustments;
mod customers;
mod known_errors;
mod totals;
mod windows;

/// A reader of the log's state.
fn view(log: &Log) -> View {
    let context = Context {
        meters: Arc::new(log.meters.clone()),
        hasher: Hasher::new(&[3; 16]),
        table_hasher: log.hasher.clone(),
        index: Arc::new(Index::load(log.store.clone()).unwrap().0),
        calendars: Calendars::of(log.state.read().customers()),
    };
    let durable = watch::Sender::new(Seq::ZERO).subscribe();
    View::new(log.state.clone(), Batches(Arc::new(context)), durable)
}
