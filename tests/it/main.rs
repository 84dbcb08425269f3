//! Integration tests: one binary, one module per subject.

mod billing;
mod caps;
mod clock;
mod config;
mod corrections;
mod crash;
mod delivery;
mod directory;
mod disk;
mod events;
mod harness;
mod http_daemon;
mod http_ingest;
mod http_query;
mod ids;
mod oracle;
mod power;
mod reads;
mod replay;
mod retention;
mod simulation;
mod sync;
mod trace;
mod windows;
