use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::delivery::{Outcome, testing};

fn files(path: &Path, format: Format) -> Files {
    Files::new(Options { path: path.to_owned(), format, max_rows: MAX_ROWS_DEFAULT })
}

fn send(files: &Files, message: &Message) -> Sent {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(files.send(message))
}

fn reason(sent: Sent) -> String {
    match sent.outcome {
        Outcome::Failed(Failure::Unavailable, reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_directory_is_made_and_made_again_when_it_went_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let files = files(&path, Format::Csv);
    let message = testing::message(7, vec![testing::row(0)]);
    assert_eq!(send(&files, &message), Sent::delivered());
    assert_eq!(names(&path), ["windows-msg_00000abc_1_7.csv", "windows-msg_00000abc_1_7.csv.manifest.json"]);
    fs::remove_dir_all(&path).unwrap();
    assert!(reason(send(&files, &message)).contains("No such file"));
    assert_eq!(send(&files, &message), Sent::delivered());
    assert_eq!(names(&path).len(), 2);
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let message = testing::message(7, vec![testing::row(0)]);
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let said = reason(send(&files(&file, Format::Ndjson), &message));
    assert!(said.starts_with(&format!("{}: ", file.display())), "{said}");
    let locked = directory.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write anywhere.
    if fs::write(locked.join("probe"), "x").is_err() {
        let said = reason(send(&files(&locked, Format::Ndjson), &message));
        assert!(said.contains("Permission denied") && said.contains("locked/windows-"), "{said}");
    }
}

#[test]
fn a_delivery_that_is_still_being_written_is_not_written_twice_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path(), Format::Ndjson);
    let message = testing::message(7, vec![testing::row(0)]);
    let turn = Turn::take(&files.place, message.id).unwrap();
    assert!(reason(send(&files, &message)).contains("an earlier attempt is still writing"));
    assert_eq!(send(&files, &testing::message(8, vec![testing::row(0)])), Sent::delivered());
    drop(turn);
    assert_eq!(send(&files, &message), Sent::delivered());
    let turns: Vec<_> =
        (0..WRITING_MAX as u64).map(|seq| Turn::take(&files.place, testing::message(seq, Vec::new()).id)).collect();
    assert!(turns.iter().all(Result::is_ok));
    assert!(reason(send(&files, &testing::message(99, vec![testing::row(0)]))).contains("do not come to an end"));
}

#[test]
fn two_sinks_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    for (seq, format) in [(7, Format::Ndjson), (8, Format::Csv), (9, Format::Ndjson)] {
        let message = testing::message(seq, vec![testing::row(0)]);
        assert_eq!(send(&files(directory.path(), format), &message), Sent::delivered());
    }
    assert_eq!(names(directory.path()).len(), 6);
}

#[test]
fn a_row_counts_what_it_adds_to_the_file() {
    let rows: Vec<_> = (0..10).map(testing::row).collect();
    let alerts: Vec<_> = (0..10).map(testing::alert).collect();
    for (kind, rows) in [(RowKind::Windows, rows), (RowKind::Alerts, alerts)] {
        for (format, before) in [(Format::Ndjson, 0), (Format::Csv, row::csv_header(kind).len())] {
            let directory = tempfile::tempdir().unwrap();
            let files = files(directory.path(), format);
            assert_eq!(send(&files, &testing::message(7, rows.clone())), Sent::delivered());
            let name = format!("{}-msg_00000abc_1_7.{}", kind.as_str(), format.as_str());
            let bytes = fs::metadata(directory.path().join(name)).unwrap().len() as usize;
            assert_eq!(before + rows.iter().map(|row| files.row_bytes(row)).sum::<usize>(), bytes);
        }
    }
    assert_eq!(Format::ALL.map(|format| format.as_str().parse()), Format::ALL.map(Ok));
}
