//! Waits for the files beside the journal that make listing fast.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

const WAIT_MAX: Duration = Duration::from_secs(300);
const WAIT_STEP: Duration = Duration::from_millis(20);

/// The files beside the journal, once all are there.
pub struct Sidecars {
    pub count: u64,
    pub bytes: u64,
    /// Of the segments that they are of.
    pub journal_bytes: u64,
    /// From the last answer to an event on.
    pub after: Duration,
}

impl Sidecars {
    /// Waits until every segment but the newest has one.
    pub fn wait(journal: &Path) -> anyhow::Result<Self> {
        let began = Instant::now();
        loop {
            let after = began.elapsed();
            let (mut segments, mut sidecars) = (files(journal, "log")?, files(journal, "idx")?);
            segments.sort();
            segments.pop(); // it is still written to
            sidecars.retain(|(name, _)| segments.iter().any(|(segment, _)| segment == name));
            let bytes = |files: &[(String, u64)]| files.iter().map(|(_, bytes)| bytes).sum();
            if sidecars.len() == segments.len() {
                let (count, journal_bytes) = (sidecars.len() as u64, bytes(&segments));
                return Ok(Self { count, bytes: bytes(&sidecars), journal_bytes, after });
            }
            let (found, due) = (sidecars.len(), segments.len());
            ensure!(after < WAIT_MAX, "{found} of {due} sidecars after {} s", WAIT_MAX.as_secs());
            thread::sleep(WAIT_STEP);
        }
    }

    pub fn percent(&self) -> f64 {
        self.bytes as f64 * 100.0 / (self.journal_bytes as f64).max(1.0)
    }
}

/// Names without the ending, and lengths.
fn files(directory: &Path, ending: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if let (Some(name), true) = (name, path.extension().is_some_and(|found| found == ending)) {
            found.push((name.to_owned(), fs::metadata(&path)?.len()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_are_all_there_once_every_segment_but_the_newest_has_one() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: usize| fs::write(directory.path().join(name), vec![0; bytes]).unwrap();
        write("00000000000000000001.log", 1_000);
        write("00000000000000000001.idx", 40);
        write("00000000000000000009.log", 2_000);
        write("00000000000000000009.idx.tmp", 7);
        write("00000000000000000009.idx", 60);
        write("00000000000000000020.log", 4_000);
        write("prepared-1.tmp", 5);
        let found = Sidecars::wait(directory.path()).unwrap();
        assert_eq!((found.count, found.bytes, found.journal_bytes), (2, 100, 3_000));
    }
}
