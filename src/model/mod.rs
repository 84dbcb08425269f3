//! The words of the trade, valid by type: ids, quantities, times, outcomes. And how they are written wherever they go
//! out: `csv`, `hex`, `units`.
//!
//! Nothing here does I/O, reads a clock or knows another folder.

pub mod csv;
pub mod hex;
pub mod id;
pub mod outbox;
pub mod outcome;
pub mod quantity;
pub mod time;
pub mod units;

pub use id::{CustomerName, EventKey, Fingerprint, IdEntry, Incarnation, MeterId, Seq, TenantId};
pub use outbox::{OutboxPosition, RowKind, RowKinds};
pub use outcome::{Code, Outcome};
pub use quantity::{Quantity, QuantityError};
pub use time::{Duration, Timestamp, TimestampError, Window};
