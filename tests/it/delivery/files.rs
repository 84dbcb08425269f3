//! What a file sink left behind, read as billing would: by the manifests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::billing::scene::csv;
use crate::delivery::rows::{Effects, Row};

const MANIFEST: &str = ".manifest.json";

/// The rows of every file. Panics if a file is not what its manifest says, has none, or has a row that another one has.
pub fn read(directory: &Path, format: &str) -> Effects {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| !name.ends_with(".tmp")).collect::<BTreeSet<_>>();
    let (manifests, files) = names.iter().partition::<Vec<_>, _>(|name| name.ends_with(MANIFEST));
    let mut effects = Effects::new();
    for name in files {
        assert!(manifests.contains(&&format!("{name}{MANIFEST}")), "{name} has no manifest");
    }
    for name in manifests {
        let manifest: Value = serde_json::from_slice(&fs::read(directory.join(name)).unwrap()).unwrap();
        let file = manifest["file"].as_str().unwrap();
        assert_eq!(format!("{file}{MANIFEST}"), *name);
        let bytes = fs::read(directory.join(file)).unwrap_or_else(|error| panic!("{name} is of no file: {error}"));
        let sum = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!((&manifest["bytes"], &manifest["sha256"]), (&json!(bytes.len()), &json!(sum)), "{name}");
        let rows = rows(&String::from_utf8(bytes).unwrap(), format);
        assert_eq!(manifest["rows"], rows.len(), "{name}");
        for row in &rows {
            let kind = if row["type"] == "window.finalized" { "windows" } else { "adjustments" };
            assert_eq!(manifest["kind"], kind, "{name}: {row}");
            let row = Row::read(row);
            let before = effects.insert(row.key(), row.said());
            assert_eq!(before, None, "{:?} is in two files, one is {file}", row.key());
        }
    }
    effects
}

fn rows(text: &str, format: &str) -> Vec<Value> {
    match format {
        "csv" => csv(text).into_iter().map(|record| Value::Object(record.into_iter().map(member).collect())).collect(),
        _ => text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect(),
    }
}

/// A cell of CSV as the JSON it is made of.
fn member((column, cell): (String, String)) -> (String, Value) {
    let value = match column.as_str() {
        "dimensions" => serde_json::from_str(&cell).unwrap(),
        "event_count" | "revision" | "incarnation" => json!(cell.parse::<u64>().unwrap()),
        // An apostrophe keeps a spreadsheet from running a name as a formula.
        "customer" | "meter" => json!(cell.strip_prefix('\'').unwrap_or(&cell)),
        _ if cell.is_empty() => Value::Null,
        _ => json!(cell),
    };
    (column, value)
}

/// The checks must be able to fail.
#[test]
fn a_changed_file_and_a_file_without_its_manifest_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let hash = |value: &str| {
        let content =
            json!(["t", "c", "m", {"d": null}, "1970-01-01T00:00:02Z", "1970-01-01T00:00:04Z", value, 1, 1, 1]);
        Sha256::digest(content.to_string()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let mut row = Map::from_iter([("type".to_owned(), json!("window.finalized"))]);
    row.extend(json!({
        "tenant": "t", "customer": "c", "meter": "m", "dimensions": {"d": null}, "window_start": "1970-01-01T00:00:02Z",
        "window_end": "1970-01-01T00:00:04Z", "value": "5", "event_count": 1, "revision": 1, "incarnation": 1,
        "hash": hash("5"),
    }).as_object().unwrap().clone());
    let line = format!("{}\n", Value::Object(row));
    let sum = Sha256::digest(&line).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let manifest = json!({"file": "a.ndjson", "kind": "windows", "rows": 1, "bytes": line.len(), "sha256": sum});
    let put = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    put("a.ndjson", &line);
    put(&format!("a.ndjson{MANIFEST}"), &manifest.to_string());
    let reads = || std::panic::catch_unwind(|| read(directory.path(), "ndjson").len());
    assert_eq!(reads().unwrap(), 1);
    put("a.ndjson", &line.replace("\"5\"", "\"6\""));
    assert!(reads().is_err(), "another value");
    put("a.ndjson", &line);
    put("b.ndjson", &line);
    assert!(reads().is_err(), "no manifest");
}
