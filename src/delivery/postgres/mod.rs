//! A sink that is a table of a PostgreSQL database: one row for every window, as it is known by now. Alerts go to a second
//! table, see `alerts`.
//!
//! | column | type | holds |
//! | --- | --- | --- |
//! | `row_key` | `text`, the primary key | hex SHA-256 of the JSON array `[tenant, customer, meter, dimensions, window_start, window_end]`, no spaces, dimensions sorted by name |
//! | `tenant`, `customer`, `meter` | `text` | as sent |
//! | `dimensions` | `jsonb` | an object; null: not given; U+0000, which `jsonb` refuses, becomes U+FFFD |
//! | `window_start`, `window_end` | `timestamptz` | to the microsecond |
//! | `value` | `numeric` | exact and absolute, adjustments included; null: nothing to say |
//! | `event_count` | `bigint` | |
//! | `revision`, `incarnation` | `integer`, `bigint` | which state of the window this is |
//! | `hash` | `text` | the row's content hash |
//! | `delivery` | `text` | the delivery that wrote it |
//! | `updated_at` | `timestamptz` | when, by the database's clock |
//!
//! | file | role |
//! | --- | --- |
//! | `url` | where the database is; shown to nobody |
//! | `table` | a table's name |
//! | `shape` | PURE: whether a table fits |
//! | `batch` | PURE: the table of windows; rows to columns, newest state of each key only |
//! | `alerts` | PURE: the table of alerts |
//! | `session` | one connection, from connecting to what is written |
//! | `error` | PURE: what an error asks for, and how it is said |
//!
//! 1. A row is replaced only by a greater (incarnation, revision): sending twice, late or out of order changes nothing.
//! 2. A message is one statement: all of its rows, or none.
//! 3. A table that would bend a value (another type, a precision, a default that cuts) is refused before the first row.
//! 4. A table is made, or looked at, once rows come that go into it: a sink that never gets an alert has no table for them.
//! 5. An attempt that is dropped half way takes its connection with it; none is ever reused in an unknown state.
//!
//! Why a digest as the key: names may have 256 bytes each and dimensions are many, more than an index entry holds.

mod alerts;
mod batch;
mod error;
mod session;
mod shape;
mod table;
mod url;

use tokio::sync::Mutex;

use self::error::Problem;
use self::session::Session;
pub use self::table::TableName;
pub use self::url::Url;
use crate::delivery::row;
use crate::delivery::transport::{Failure, Limits, Message, Sending, Sent, Transport};
use crate::engine::OutboxRow;
use crate::engine::outbox::ROWS_MAX;
use crate::model::RowKind;

/// Rows of a statement unless the operator says otherwise.
pub const MAX_ROWS_DEFAULT: usize = 1_000;
/// A statement's parameters are in memory here and there.
const STATEMENT_BYTES_MAX: usize = 16 << 20;
/// Key, hash, delivery and numbers, beside what the JSON form holds.
const ROW_BYTES_MORE: usize = 128;

#[derive(Clone, Debug)]
pub struct Options {
    pub url: Url,
    pub table: TableName,
    pub max_rows: usize,
}

/// A table that gets rows.
pub struct Postgres {
    options: Options,
    /// Taken out while in use, and put back only in a known state.
    session: Mutex<Option<Session>>,
}

impl Postgres {
    pub fn new(options: Options) -> Self {
        Self { options, session: Mutex::new(None) }
    }

    async fn deliver(&self, message: &Message) -> Result<(), Problem> {
        let rows = self.rows_of(message)?;
        let mut slot = self.session.lock().await;
        if let Some(mut session) = slot.take().filter(Session::is_open) {
            match rows.write(&mut session).await {
                Err(problem) if problem.is_disconnected => {}
                result => return keep(&mut slot, session, result),
            }
        }
        // Nothing yet, or a connection that went away unnoticed: that is no failure of the database of now.
        let mut session = Session::open(&self.options).await?;
        let result = rows.write(&mut session).await;
        keep(&mut slot, session, result)
    }

    fn rows_of(&self, message: &Message) -> Result<Rows<'_>, Problem> {
        let table = &self.options.table;
        if message.kind == RowKind::Alerts {
            let misfit = |error| Problem::new(Failure::Misfit, format!("the name of table {table} {error}"));
            return Ok(Rows::Alerts(table.alerts().map_err(misfit)?, alerts::Batch::of(message)));
        }
        let batch = batch::Batch::of(message).map_err(|reason| Problem::new(Failure::Refused, reason))?;
        Ok(Rows::Usage(table, batch))
    }
}

/// A message's rows, and where they go.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Rows<'a> {
    Usage(&'a TableName, batch::Batch),
    Alerts(TableName, alerts::Batch),
}

impl Rows<'_> {
    async fn write(&self, session: &mut Session) -> Result<(), Problem> {
        match self {
            Rows::Usage(table, batch) => session.upsert(table, batch).await,
            Rows::Alerts(table, batch) => session.insert(table, batch).await,
        }
    }
}

/// Keeps the connection unless the result leaves doubts. A table that no longer fits is looked at anew.
fn keep(slot: &mut Option<Session>, session: Session, result: Result<(), Problem>) -> Result<(), Problem> {
    if result.as_ref().map_or_else(|problem| problem.failure == Failure::Refused, |()| true) {
        *slot = Some(session);
    }
    result
}

impl Transport for Postgres {
    fn limits(&self, _kind: RowKind) -> Limits {
        Limits { rows: self.options.max_rows.clamp(1, ROWS_MAX), bytes: STATEMENT_BYTES_MAX }
    }

    fn row_bytes(&self, row: &OutboxRow) -> usize {
        row::json_bytes(row) + ROW_BYTES_MORE
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(async {
            match self.deliver(message).await {
                Ok(()) => Sent::delivered(),
                Err(problem) => Sent::failed(problem.failure, problem.reason),
            }
        })
    }
}
