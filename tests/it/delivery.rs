//! Rows reach files, webhooks and PostgreSQL through the real program: once, whatever fails on the way.

mod breaker;
mod dead_letters;
mod failures;
mod files;
mod isolation;
mod kills;
mod limits;
mod minute;
mod operators;
mod postgres_alerts;
mod postgres_table;
mod restored;
mod rows;
mod scene;
mod secrets;
mod standard_webhooks;
mod traffic;
