//! Integration tests: one binary, one module per subject.

mod config;
mod crash;
mod directory;
mod disk;
mod harness;
mod http_daemon;
mod http_ingest;
mod http_query;
mod ids;
mod power;
mod reads;
mod simulation;
mod sync;
mod trace;
