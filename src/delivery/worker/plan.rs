//! What waits in the outbox becomes deliveries.

use std::collections::HashMap;

use tokio::task::spawn_blocking;

use super::fill::{Filled, clamped, fill};
use super::{EngineEnded, Worker};
use crate::engine::{DeliveryId, DeliveryOperation, Done, OutboxRow, ReadError, SinkWork};
use crate::model::Seq;

/// Rows read of each kind at a time, unless one message takes more.
const ROWS_READ: usize = 1_000;
/// Rows kept in memory for the first attempt.
const ROWS_KEPT_MAX: usize = 5_000;

/// Messages in order of position, and whether rows are left.
struct Found {
    filled: Vec<Filled>,
    more: bool,
}

impl Worker {
    /// Plans at most so many deliveries; answers with whether there were any.
    pub(super) async fn plan(&mut self, work: &SinkWork, most: usize) -> Result<bool, EngineEnded> {
        let found = match self.find(work, most).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(sink = &*self.sink, %error, "the outbox cannot be read");
                return Ok(false);
            }
        };
        self.rows_wait = found.more;
        if found.filled.is_empty() {
            return Ok(false);
        }
        let (sink, plans) = (self.sink.to_string(), found.filled.iter().map(|filled| filled.plan).collect());
        let operation = DeliveryOperation::Plan { sink, plans, at: self.log.now() };
        let done = self.record(vec![operation]).await?.pop();
        let Some(Done::Planned(ids)) = done else {
            self.rows_wait = true;
            return Ok(false);
        };
        for (id, filled) in ids.into_iter().zip(found.filled) {
            self.kept.keep(id, filled.rows);
        }
        Ok(true)
    }

    async fn find(&self, work: &SinkWork, most: usize) -> Result<Found, ReadError> {
        let (log, transport, cursors) = (self.log.clone(), self.transport.clone(), work.cursors.clone());
        let find = move || {
            let mut found = Found { filled: Vec::new(), more: false };
            for (kind, from) in cursors {
                let limits = clamped(transport.limits(kind));
                let limit = most.saturating_mul(limits.rows).min(ROWS_READ).max(limits.rows);
                let rows = log.outbox(kind, from, limit)?;
                let more = rows.len() >= limit;
                found.more |= more;
                found.filled.extend(fill(rows, more, limits, |row| transport.row_bytes(row)));
            }
            // Of several kinds the oldest rows first.
            found.filled.sort_by_key(|filled| filled.plan.first);
            found.more |= found.filled.len() > most;
            found.filled.truncate(most);
            Ok(found)
        };
        match spawn_blocking(find).await {
            Ok(found) => found,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => Ok(Found { filled: Vec::new(), more: true }),
            },
        }
    }
}

/// Rows of deliveries that are about to be sent for the first time.
#[derive(Default)]
pub(super) struct Kept {
    rows: HashMap<Seq, Vec<OutboxRow>>,
    total: usize,
}

impl Kept {
    /// Keeps them if there is room.
    fn keep(&mut self, id: DeliveryId, rows: Vec<OutboxRow>) {
        if self.total + rows.len() <= ROWS_KEPT_MAX {
            self.total += rows.len();
            self.rows.insert(id.seq, rows);
        }
    }

    pub fn take(&mut self, id: DeliveryId) -> Option<Vec<OutboxRow>> {
        let rows = self.rows.remove(&id.seq)?;
        self.total -= rows.len();
        Some(rows)
    }
}
