//! What is taken back: single events, before and after their windows are final, and whole loads of history; with SIGKILLs in
//! between, and each checked against a model that knows nothing but the events that are left.

mod backfills;
mod model;
mod voids;
