//! By question: what the fold comes to, what an epoch brings to the store, and whether leaving memory can be noticed.

pub(in crate::engine) mod caps;
mod epochs;
pub(in crate::engine) mod fixture;
mod fold;
mod known_errors;
mod memory;
mod outbox;
