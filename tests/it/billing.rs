//! Billing over HTTP: totals, late usage and customers, against a daemon whose clock the test turns, and against the
//! real program through restarts and SIGKILLs.

mod bad_input;
mod changes;
mod customers;
mod edges;
mod forms;
mod late;
mod late_values;
mod periods;
mod restarts;
pub mod scene;
mod statement;
mod totals;
