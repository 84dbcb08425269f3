//! meterd: a usage-metering daemon. An event counts once however often it arrives, and what was acknowledged is never lost.
//!
//! Folders are floors; each imports only from the floors below (`tests/tidy.rs` sees to it):
//!
//! | floor | folders |
//! | --- | --- |
//! | 0 | `model`, `env`, `metrics` |
//! | 1 | `journal`, `store`, `meter` |
//! | 2 | `engine` |
//! | 3 | `http` |
//! | 4 | `config`, `app`, `cli` |
//!
//! `docs/ARCHITECTURE.md` follows one event through them.

pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod env;
pub mod http;
pub mod journal;
pub mod meter;
pub mod metrics;
pub mod model;
pub mod store;
