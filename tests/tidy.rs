//! Reads the repository's own sources and fails on what this project does not do. What matters is enforced here, not
//! remembered: floors, lengths, banned calls, metric names, machine paths.
//!
//! 1. A file imports only from floors below its own; folders of one floor never import each other.
//! 2. No file has over 500 lines, no function 70.
//! 3. Every ban has a reason and the folders it holds in; code under test configuration is free of most of them.
//! 4. The checker is tested on samples first: a check that cannot fail proves nothing.
//!
//! Comments, strings and character literals are blanked before anything is looked for, so that talking about a banned
//! call is allowed.

#[path = "tidy/bans.rs"]
mod bans;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use source::Source;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 69;

#[test]
fn files_import_only_from_floors_below() {
    report(sources("src").iter().flat_map(floors::violations));
}

#[test]
fn every_folder_has_its_floor() {
    report(sources("src").iter().filter_map(floors::without_floor));
}

#[test]
fn nothing_banned_is_called() {
    report(sources("src").iter().flat_map(bans::violations));
}

#[test]
fn files_and_functions_are_short() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(sources).collect::<Vec<_>>();
    report(all.iter().flat_map(length_violations));
}

#[test]
fn every_metric_is_named_by_the_rules_and_described() {
    let text = std::fs::read_to_string(root().join("src/metrics.rs")).expect("src/metrics.rs");
    report(metric_violations(&text));
}

#[test]
fn no_file_names_a_machine() {
    report(texts().iter().flat_map(|(path, text)| machine_violations(path, text)));
}

#[test]
fn the_length_check_counts_from_fn_to_closing_brace() {
    let body = "    let x = \"}\"; // }\n".repeat(FUNCTION_LINES_MAX - 2);
    let fits = Source::new("src/model/a.rs", &format!("fn fits(a: [u8; 4]) {{\n{body}}}\n"));
    assert_eq!(length_violations(&fits), [""; 0]);
    let long = Source::new("src/model/a.rs", &format!("fn long() {{\n{body}let y = '{{';\n}}\n"));
    assert_eq!(length_violations(&long), ["src/model/a.rs:1: fn long has 70 lines (at most 69)"]);
    let file = Source::new("src/model/a.rs", &"\n".repeat(FILE_LINES_MAX + 1));
    assert_eq!(length_violations(&file), ["src/model/a.rs: 501 lines (at most 500)"]);
}

#[test]
fn the_metric_check_wants_the_prefix_and_a_description() {
    let text = "pub const GOOD: &str = \"meterd_good_total\";\npub const BAD: &str = \"bad_total\";\n\
                describe_counter!(GOOD, \"Counts good things.\");\n";
    let found = metric_violations(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("bad_total: does not start with meterd_"), "{found:?}");
    assert!(found[1].contains("bad_total: is not described"), "{found:?}");
}

#[test]
fn the_machine_check_knows_a_home_directory() {
    let text = concat!("cd /ro", "ot/project\nrun /ho", "me/me/bin/x\nls /usr/lib\n");
    assert_eq!(machine_violations("README.md", text).len(), 2);
}

fn length_violations(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let file = (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines (at most {FILE_LINES_MAX})", source.path));
    let functions = source.functions().into_iter().filter(|f| f.lines > FUNCTION_LINES_MAX).map(|f| {
        format!("{}:{}: fn {} has {} lines (at most {FUNCTION_LINES_MAX})", source.path, f.line, f.name, f.lines)
    });
    file.into_iter().chain(functions).collect()
}

/// Constants of `metrics.rs` that break Prometheus' naming, or that `describe` leaves out.
fn metric_violations(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.trim().strip_prefix("pub const ").and_then(|rest| rest.split_once(": &str = "))
        else {
            continue;
        };
        let value = value.trim_matches(|c| c == '"' || c == ';');
        if !value.starts_with("meterd_") {
            found.push(format!("src/metrics.rs: {value}: does not start with meterd_"));
        }
        if !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            found.push(format!("src/metrics.rs: {value}: is not lower_snake_case"));
        }
        let call = text.split("describe_").skip(1).find_map(|call| {
            let (kind, rest) = call.split_once("!(")?;
            rest.trim_start().strip_prefix(name)?.starts_with(',').then_some(kind)
        });
        match call {
            None => found.push(format!("src/metrics.rs: {value}: is not described")),
            Some("counter") if !value.ends_with("_total") => {
                found.push(format!("src/metrics.rs: {value}: a counter's name ends in _total"));
            }
            Some(kind) if kind != "counter" && value.ends_with("_total") => {
                found.push(format!("src/metrics.rs: {value}: only a counter's name ends in _total"));
            }
            Some(_) => {}
        }
    }
    found
}

/// Paths that exist on one machine only: they break for everyone else, and tell who wrote a file.
fn machine_violations(path: &str, text: &str) -> Vec<String> {
    let banned = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("/tmp/scr", "atch"),
    ];
    let lines = text.lines().enumerate();
    let bad = lines.filter_map(|(n, line)| Some((n, banned.into_iter().find(|path| line.contains(path))?)));
    bad.map(|(n, machine)| format!("{path}:{}: {machine} is a path of one machine", n + 1)).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `folder`, by its path from the repository's root.
fn sources(folder: &str) -> Vec<Source> {
    let files = files_under(&root().join(folder));
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let read = |path: PathBuf| Source::new(&relative(&path), &std::fs::read_to_string(&path).expect("a readable file"));
    let mut sources = rust.map(read).collect::<Vec<_>>();
    let for_tests = sources.iter().flat_map(Source::test_modules).collect::<Vec<_>>();
    for source in &mut sources {
        let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if for_tests.iter().any(|module| stem == module || stem.starts_with(&format!("{module}/"))) {
            source.product.clear();
        }
    }
    sources
}

/// Every text file that people or machines read, generated data and the lock file left out.
fn texts() -> Vec<(String, String)> {
    let folders = ["src", "tests", "benches", "config", "docs", "systemd", ".ci"];
    let mut files = folders.iter().flat_map(|folder| files_under(&root().join(folder))).collect::<Vec<_>>();
    let top = ["Cargo.toml", "Makefile", "README.md", "clippy.toml", "deny.toml", "rustfmt.toml", ".gitignore"];
    files.extend(top.iter().map(|name| root().join(name)).filter(|path| path.exists()));
    files.into_iter().filter_map(|path| Some((relative(&path), std::fs::read_to_string(&path).ok()?))).collect()
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths = entries.map(|entry| entry.expect("a readable folder").path()).collect::<Vec<_>>();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside the repository").to_string_lossy().into_owned()
}

fn report(violations: impl IntoIterator<Item = String>) {
    let list = violations.into_iter().collect::<Vec<_>>();
    assert!(list.is_empty(), "{} found:\n{}", list.len(), list.join("\n"));
}
