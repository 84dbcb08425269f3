//! Rows to bytes: a JSON document, lines of JSON, or CSV.

use std::sync::Arc;

use crate::engine::{PeriodTotal, TotalsPage};
use crate::http::totals::csv;
use crate::http::totals::format::Format;
use crate::http::totals::row::{Instants, TotalRow};
use crate::meter::Meters;
use crate::model::Timestamp;

/// What a row takes, roughly.
const ROW_BYTES: usize = 512;

/// Writes rows, one page after the other.
pub struct Renderer {
    meters: Arc<Meters>,
    instants: Instants,
}

impl Renderer {
    pub fn new(meters: Arc<Meters>) -> Self {
        Self { meters, instants: Instants::default() }
    }

    /// `{"period","as_of","final","data":[…],"next_cursor"}`; `period` is what was asked for.
    pub fn document(&mut self, asked: &str, page: &TotalsPage, next_cursor: Option<&str>) -> Vec<u8> {
        let mut out = Vec::with_capacity(ROW_BYTES * (page.rows.len() + 1));
        let (period, as_of) = (json(Some(asked)), as_of(page));
        let head = format!("{{\"period\":{period},\"as_of\":\"{as_of}\",\"final\":{},\"data\":[", page.is_final);
        out.extend_from_slice(head.as_bytes());
        for (at, total) in page.rows.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.put(Format::Json, total, &mut out);
        }
        out.extend_from_slice(format!("],\"next_cursor\":{}}}", json(next_cursor)).as_bytes());
        out
    }

    /// A page of NDJSON or CSV by itself.
    pub fn rows(&mut self, format: Format, rows: &[PeriodTotal]) -> Vec<u8> {
        let mut out = Vec::with_capacity(ROW_BYTES * (rows.len() + 1));
        self.put_head(format, &mut out);
        rows.iter().for_each(|total| self.put(format, total, &mut out));
        out
    }

    /// What comes before the first row.
    pub fn put_head(&self, format: Format, out: &mut Vec<u8>) {
        if format == Format::Csv {
            out.extend_from_slice(csv::HEADER.as_bytes());
        }
    }

    /// One row, with what ends it.
    pub fn put(&mut self, format: Format, total: &PeriodTotal, out: &mut Vec<u8>) {
        let meter = self.meters.get(total.meter).expect("totals are of the engine's own meters");
        let row = TotalRow::new(total, &meter.definition, &mut self.instants);
        match format {
            Format::Csv => csv::put(out, &row),
            Format::Json | Format::Ndjson => {
                serde_json::to_writer(&mut *out, &row)
                    .expect("strings and numbers are JSON, and a Vec takes any bytes");
                if format == Format::Ndjson {
                    out.push(b'\n');
                }
            }
        }
    }
}

/// A JSON string, or null.
fn json(text: Option<&str>) -> serde_json::Value {
    text.into()
}

/// When a final page became what it is, so that the same rows are the same bytes; else when it was looked at.
fn as_of(page: &TotalsPage) -> Timestamp {
    let newest = page.rows.iter().map(|row| row.as_of).max();
    newest.filter(|_| page.version.is_some()).unwrap_or(page.as_of)
}

#[cfg(test)]
pub mod tests;
