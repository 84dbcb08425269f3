//! Reads: meters, and usage by window.
//!
//! | file | does |
//! | --- | --- |
//! | `request` | query parameters to a plan: which windows, merged how, which page |
//! | `fold` | windows to rows, within a page's memory |
//! | `cursor` | where the next page begins, as opaque text |
//! | `rows` | rows to JSON |
//!
//! 1. A read is answered once everything it saw is durable: it never shows what could still be lost.
//! 2. A read holds one page of rows at a time, whatever the number of windows it folds.

mod cursor;
mod fold;
mod meters;
mod request;
mod rows;
mod usage;

pub use cursor::{decode_text, encode_text};
pub use meters::{Page, get_meter, list_meters};
pub use usage::{customer_usage, meter_usage};

/// Entries of a page unless the client says otherwise.
const PAGE_DEFAULT: usize = 1_000;
/// The largest page.
const PAGE_MAX: usize = 10_000;
