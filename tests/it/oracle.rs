//! The bounds of windows and billing periods once more, computed here and now by Python's zoneinfo.
//!
//! The unit tests compare the code with files that the scripts in tests/oracle wrote; this compares the files with what
//! the scripts write today. Needs python3 with zoneinfo and a tz database; skipped aloud without.

use std::process::{Command, Output};

use crate::harness::skip;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Zones that moved lately, so that an old tz database is told from a wrong bound.
const PROBE: &str = "from zoneinfo import ZoneInfo as Z; from datetime import datetime as D
for zone, at, hours in [('Africa/Cairo', D(2024, 7, 1), 3), ('America/Scoresbysund', D(2024, 7, 1), -1)]:
    assert at.replace(tzinfo=Z(zone)).utcoffset().total_seconds() == hours * 3600";

fn python(arguments: &[&str]) -> Option<Output> {
    Command::new("python3").args(arguments).current_dir(ROOT).output().ok()
}

fn agrees(name: &str) {
    if !python(&["-c", PROBE]).is_some_and(|output| output.status.success()) {
        return skip(&format!("{name} by python3: it is not here, or has no zoneinfo with a tz database of 2024"));
    }
    let output = python(&[&format!("tests/oracle/{name}.py")]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let computed = String::from_utf8(output.stdout).unwrap();
    let golden = std::fs::read_to_string(format!("{ROOT}/tests/golden/{name}.csv")).unwrap();
    assert_eq!(computed.lines().count(), golden.lines().count(), "{name}");
    let differing = computed.lines().zip(golden.lines()).find(|(computed, golden)| computed != golden);
    assert_eq!(differing, None, "{name}: computed here, and in the golden file");
}

#[test]
fn python_comes_to_the_same_windows_today() {
    agrees("window_bounds");
}

#[test]
fn python_comes_to_the_same_billing_periods_today() {
    agrees("period_bounds");
}
