//! What a file sink has delivered, read as a billing pipeline would.
//!
//! 1. A file counts once its manifest is there, and must be as the manifest says.
//! 2. Of each window the row with the greatest (incarnation, revision) holds, in whatever order files are read.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::cli::generate::Workload;
use crate::cli::totals::ByCustomer;
use crate::model::{Quantity, hex};

const MANIFEST: &str = ".manifest.json";

/// The files read so far.
pub struct Files {
    directory: PathBuf,
    manifests: HashSet<PathBuf>,
    /// By tenant, customer, meter, dimensions and window.
    windows: HashMap<String, Newest>,
    pub rows: u64,
}

/// A window's newest row.
struct Newest {
    customer: String,
    meter: String,
    version: (u32, u32),
    value: Quantity,
}

#[derive(Deserialize)]
struct Manifest {
    file: PathBuf,
    rows: u64,
    bytes: usize,
    sha256: String,
}

#[derive(Deserialize)]
struct Row {
    tenant: String,
    customer: String,
    meter: String,
    dimensions: serde_json::Value,
    window_start: String,
    value: Option<String>,
    revision: u32,
    incarnation: u32,
}

impl Files {
    pub fn new(directory: &Path) -> Self {
        let directory = directory.to_owned();
        Self { directory, manifests: HashSet::new(), windows: HashMap::new(), rows: 0 }
    }

    pub fn count(&self) -> usize {
        self.manifests.len()
    }

    /// Reads the files that have become whole since. A directory that is not there yet holds none.
    pub fn read_new(&mut self) -> anyhow::Result<()> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Ok(()) };
        for entry in entries {
            let path = entry?.path();
            let is_manifest = path.to_str().is_some_and(|name| name.ends_with(MANIFEST));
            if is_manifest && !self.manifests.contains(&path) {
                self.read(&path).with_context(|| format!("{} does not fit its file", path.display()))?;
                self.manifests.insert(path);
            }
        }
        Ok(())
    }

    fn read(&mut self, manifest: &Path) -> anyhow::Result<()> {
        let manifest: Manifest = serde_json::from_slice(&fs::read(manifest)?)?;
        let bytes = fs::read(self.directory.join(&manifest.file))?;
        ensure!(bytes.len() == manifest.bytes, "it has {} bytes instead of {}", bytes.len(), manifest.bytes);
        ensure!(hex::encode(&Sha256::digest(&bytes)) == manifest.sha256, "it has another checksum");
        let mut rows = 0;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.take(serde_json::from_slice(line)?)?;
            rows += 1;
        }
        ensure!(rows == manifest.rows, "it has {rows} rows instead of {}", manifest.rows);
        self.rows += rows;
        Ok(())
    }

    fn take(&mut self, row: Row) -> anyhow::Result<()> {
        let Row { tenant, customer, meter, dimensions, window_start, value, revision, incarnation } = row;
        let key = serde_json::to_string(&(&tenant, &customer, &meter, &dimensions, &window_start))?;
        let value = value.map_or(Ok(Quantity::ZERO), |text| Quantity::parse(&text).context("a value is no decimal"))?;
        let version = (incarnation, revision);
        let newest = self.windows.entry(key).or_insert(Newest { customer, meter, version, value });
        if version > newest.version {
            (newest.version, newest.value) = (version, value);
        }
        Ok(())
    }

    /// The totals of each of the workload's meters.
    pub fn totals(&self, workload: &Workload) -> anyhow::Result<Vec<ByCustomer>> {
        let mut totals = vec![ByCustomer::new(); workload.meters().len()];
        for row in self.windows.values() {
            let Some(meter) = workload.meters().iter().position(|meter| meter.slug == row.meter) else { continue };
            let total = totals[meter].entry(row.customer.clone()).or_default();
            *total = total.checked_add(row.value).context("a total is out of range")?;
        }
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::generate::{Kind, MeterSpec, Times};

    fn row(customer: &str, window: &str, value: &str, revision: u32) -> String {
        format!(
            "{{\"type\":\"window.finalized\",\"tenant\":\"default\",\"customer\":\"{customer}\",\"meter\":\"m\",\
             \"dimensions\":{{}},\"window_start\":\"{window}\",\"value\":\"{value}\",\"revision\":{revision},\
             \"incarnation\":1}}\n"
        )
    }

    fn put(directory: &Path, name: &str, rows: &str) {
        let sha256 = hex::encode(&Sha256::digest(rows));
        let (count, bytes) = (rows.lines().count(), rows.len());
        let manifest = serde_json::json!({"file": name, "rows": count, "bytes": bytes, "sha256": sha256});
        fs::write(directory.join(name), rows).unwrap();
        fs::write(directory.join(format!("{name}{MANIFEST}")), manifest.to_string()).unwrap();
    }

    #[test]
    fn the_newest_row_of_each_window_counts_in_whatever_order_and_files_without_a_manifest_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let meters = vec![MeterSpec { slug: "m".into(), kind: Kind::Sum, dimensions: vec![] }];
        let workload = Workload::new(1, meters, 1, 0, Times::AtReceipt);
        let mut files = Files::new(directory.path());
        files.read_new().unwrap();
        assert_eq!(files.count(), 0);
        put(directory.path(), "b.ndjson", &row("c", "2026-01-01T00:00:00Z", "5", 1));
        files.read_new().unwrap();
        let both = row("c", "2026-01-01T00:00:00Z", "3", 0) + &row("c", "2026-01-01T00:00:05Z", "2.5", 0);
        put(directory.path(), "a.ndjson", &both);
        fs::write(directory.path().join("c.ndjson"), row("c", "2026-01-01T00:00:10Z", "9", 0)).unwrap();
        files.read_new().unwrap();
        files.read_new().unwrap();
        assert_eq!((files.count(), files.rows), (2, 3));
        assert_eq!(files.totals(&workload).unwrap()[0]["c"], Quantity::parse("7.5").unwrap());
        fs::write(
            directory.path().join("c.ndjson.manifest.json"),
            "{\"file\":\"c.ndjson\",\"rows\":1,\"bytes\":1,\"sha256\":\"\"}",
        )
        .unwrap();
        assert!(format!("{:#}", files.read_new().unwrap_err()).contains("bytes instead of 1"));
    }
}
