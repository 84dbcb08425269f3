//! Many ids at once: sorted in memory, written as table files, and taken over by RocksDB as they are.
//!
//! ```text
//! <store>/bulk/<n>.sst   written and synced here, then hard-linked into the store and unlinked by the ingestion
//! ```
//!
//! 1. All files of a commit are ingested by one call: all of them or none.
//! 2. The ingestion is durable when it returns. If it overlaps ids in the memtable, RocksDB first flushes all column
//!    families at the same point (`atomic_flush`), so that the position on disk still names the rows on disk.
//! 3. A file found here at open belongs to a process that died: it is removed.
//!
//! Why: a put of a random key costs 1.5 to 2 µs, compaction included; this costs about a tenth.

use std::io::Read;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, IngestExternalFileOptions, Options, SstFileWriter};

use super::error::{failed, io_failed};
use crate::model::{EventKey, Fingerprint, IdEntry, Seq};
use crate::store::{StoreError, codec};

const DIRECTORY: &str = "bulk";
const WARM_BYTES: usize = 256 << 10;
/// About 64 MiB a file.
const IDS_PER_FILE_MAX: usize = 1_500_000;
/// Ids that share a bucket of the first sorting step, on average.
const IDS_PER_BUCKET: usize = 16;

/// Writes and ingests; keeps its memory between commits.
pub struct BulkLoader {
    directory: PathBuf,
    /// Those of the dedupe column family: files are taken over as they are.
    options: Options,
    files: u64,
    sorted: Vec<(EventKey, IdEntry)>,
}

impl BulkLoader {
    /// Makes the directory, or empties it. Call only while holding the store's lock.
    pub fn create(store: &Path, options: Options) -> Result<Self, StoreError> {
        let directory = store.join(DIRECTORY);
        let failed = |error: std::io::Error| io_failed(&directory, &error);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            std::fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(Self { directory, options, files: 0, sorted: Vec::new() })
    }

    /// Adds the ids to the index, durably. Of two entries for one key the one with the higher seq is kept.
    pub fn load(&mut self, db: &DB, dedupe: &ColumnFamily, ids: &[(EventKey, IdEntry)]) -> Result<(), StoreError> {
        let mut sorted = std::mem::take(&mut self.sorted);
        sort_into(ids, &mut sorted);
        let loaded = self.write_and_ingest(db, dedupe, &sorted);
        self.sorted = sorted;
        loaded
    }

    fn write_and_ingest(
        &mut self,
        db: &DB,
        dedupe: &ColumnFamily,
        sorted: &[(EventKey, IdEntry)],
    ) -> Result<(), StoreError> {
        let mut paths = Vec::new();
        let ingested = sorted.chunks(IDS_PER_FILE_MAX).try_for_each(|ids| {
            self.files += 1;
            paths.push(self.directory.join(format!("{}.sst", self.files)));
            self.write(&paths[paths.len() - 1], ids)
        });
        let ingested = ingested.and_then(|()| {
            let mut ingestion = IngestExternalFileOptions::default();
            ingestion.set_move_files(true);
            db.ingest_external_file_cf_opts(dedupe, &ingestion, paths.clone())
        });
        if ingested.is_err() {
            // Gives the space back at once; what cannot be removed now is removed at the next open.
            paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
        ingested.map_err(failed)
    }

    fn write(&self, path: &Path, ids: &[(EventKey, IdEntry)]) -> Result<(), rocksdb::Error> {
        let mut writer = SstFileWriter::create(&self.options);
        writer.open(path)?;
        for (key, entry) in ids {
            writer.put(codec::encode_id_key(*key), codec::encode_id_value(*entry))?;
        }
        writer.finish()?;
        warm(path);
        Ok(())
    }
}

/// Reads the file once: the writer drops its pages from the cache when it has finished, and the newest ids are the ones
/// that are sent again soonest. (Advice would read no more than the device's read-ahead.) Whether it works changes
/// nothing but the time of the first lookups.
fn warm(path: &Path) {
    let Ok(mut file) = std::fs::File::open(path) else { return };
    let mut buffer = vec![0; WARM_BYTES];
    while file.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
}

/// Fills `sorted` with `ids` by key, each key once, with its newest entry.
///
/// Keys are hashes, so their first bits spread them evenly over buckets, which are then small enough to be sorted in
/// the fastest cache. Keys that do not spread are sorted as well, only slower.
fn sort_into(ids: &[(EventKey, IdEntry)], sorted: &mut Vec<(EventKey, IdEntry)>) {
    sorted.clear();
    sorted.resize(ids.len(), (EventKey(0), IdEntry { seq: Seq::ZERO, fingerprint: Fingerprint(0) }));
    let bits = (ids.len() / IDS_PER_BUCKET).max(1).ilog2();
    let bucket = |key: EventKey| key.0.checked_shr(u128::BITS - bits).unwrap_or(0) as usize;
    let mut ends = vec![0; 1 << bits];
    for (key, _) in ids {
        ends[bucket(*key)] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    for id in ids {
        let next = &mut ends[bucket(id.0)];
        sorted[*next] = *id;
        *next += 1;
    }
    let mut start = 0;
    for end in ends {
        sorted[start..end].sort_unstable_by_key(|(key, entry)| (*key, std::cmp::Reverse(entry.seq)));
        start = end;
    }
    sorted.dedup_by_key(|(key, _)| *key);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: u128, seq: u64) -> (EventKey, IdEntry) {
        (EventKey(key), IdEntry { seq: Seq(seq), fingerprint: Fingerprint(0) })
    }

    fn sorted(ids: &[(EventKey, IdEntry)]) -> Vec<(EventKey, IdEntry)> {
        let mut sorted = vec![id(1, 1); 3];
        sort_into(ids, &mut sorted);
        sorted
    }

    #[test]
    fn sorts_like_a_plain_sort_whatever_the_number_of_ids_and_their_spread() {
        let mut random = fastrand::Rng::with_seed(7);
        for count in [0, 1, 2, 15, 16, 31, 32, 33, 1_000, 70_000] {
            for shift in [0, 64, 100, 127] {
                let ids: Vec<_> = (0..count).map(|seq| id(random.u128(..) >> shift, seq)).collect();
                let mut expected = ids.clone();
                expected.sort_by_key(|(key, entry)| (*key, std::cmp::Reverse(entry.seq)));
                expected.dedup_by_key(|(key, _)| *key);
                assert_eq!(sorted(&ids), expected, "{count} ids shifted by {shift}");
            }
        }
    }

    #[test]
    fn keeps_the_newest_of_several_entries_for_one_key() {
        assert_eq!(sorted(&[id(5, 2), id(3, 1), id(5, 9), id(5, 4)]), [id(3, 1), id(5, 9)]);
    }
}
