//! Rows of the outbox reach their sinks: files, webhooks, PostgreSQL.
//!
//! | file | role |
//! | --- | --- |
//! | `policy` | PURE: when a failed attempt is tried again, and what limits hold |
//! | `breaker` | PURE: a sink that fails is cut off, and probed |
//! | `machine` | PURE: what one sink is to do next; what an attempt's outcome means |
//! | `worker` | one task per sink: does it |
//! | `running` | all workers: started, started again when one breaks down, ended |
//! | `transport` | what every sink can do |
//! | `row` | a row as JSON and CSV |
//! | `tls` | whom sinks trust |
//! | `file`, `webhook`, `postgres` | the sinks |
//!
//! 1. What is about to be sent is journaled before, what became of it after; this folder writes nothing durable itself.
//! 2. Only rows that the store has committed are sent.
//! 3. Sinks know nothing of each other: one that hangs costs the others nothing.

pub mod breaker;
pub mod file;
pub mod machine;
pub mod policy;
pub mod postgres;
pub mod row;
mod running;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod testing;
mod tls;
pub mod transport;
pub mod webhook;
mod worker;

pub use policy::{BreakerPolicy, Policy};
pub use running::{Running, Sink, start};
pub use transport::{Failure, Limits, Message, Outcome, Sent, Transport};
