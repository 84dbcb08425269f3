//! A daemon's list, read page by page as it is needed.
//!
//! 1. One page is held, whatever there is. A page may be empty and have a next one.
//! 2. A list that does not go on is an error, not an end.

use std::collections::VecDeque;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::client::{Client, percent_encode};

/// Entries per page of lists with short entries: the most that the daemon gives.
pub const PAGE_ROWS: usize = 10_000;

#[derive(Deserialize)]
struct Page<T> {
    data: VecDeque<T>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(default)]
    evidence_from: Option<String>,
    #[serde(default, rename = "final")]
    is_final: Option<bool>,
}

/// See the module.
pub struct Listing<T> {
    /// Ends with `?` or `&`.
    path: String,
    limit: usize,
    page: VecDeque<T>,
    cursor: Option<String>,
    is_begun: bool,
    /// Of events: the oldest that is kept, if older ones are not.
    pub evidence_from: Option<String>,
    /// Of totals: whether all that was read so far is final.
    pub is_final: bool,
}

impl<T: DeserializeOwned> Listing<T> {
    /// `path` ends with `?` or `&`.
    pub fn new(path: String, limit: usize) -> Self {
        let page = VecDeque::new();
        Self { path, limit, page, cursor: None, is_begun: false, evidence_from: None, is_final: true }
    }

    /// The next entry, left where it is.
    pub fn peek(&mut self, client: &mut Client) -> anyhow::Result<Option<&T>> {
        while self.page.is_empty() && (!self.is_begun || self.cursor.is_some()) {
            self.read_page(client)?;
        }
        Ok(self.page.front())
    }

    pub fn next(&mut self, client: &mut Client) -> anyhow::Result<Option<T>> {
        self.peek(client)?;
        Ok(self.page.pop_front())
    }

    pub fn all(mut self, client: &mut Client) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(entry) = self.next(client)? {
            all.push(entry);
        }
        Ok(all)
    }

    fn read_page(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let cursor = self.cursor.as_deref().map(|cursor| format!("&cursor={}", percent_encode(cursor)));
        let path = format!("{}limit={}{}", self.path, self.limit, cursor.unwrap_or_default());
        let page: Page<T> = client.get_json(&path)?;
        let is_stuck = page.next_cursor.is_some() && page.next_cursor == self.cursor;
        anyhow::ensure!(!is_stuck, "the daemon's list does not go on: {}", self.path);
        self.evidence_from = page.evidence_from;
        self.is_final &= page.is_final.unwrap_or(true);
        (self.page, self.cursor, self.is_begun) = (page.data, page.next_cursor, true);
        Ok(())
    }
}
