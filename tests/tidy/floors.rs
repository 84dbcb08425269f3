//! Floors: who may import whom.

use crate::source::{Source, ident, line_of, words};

/// From the ground up. A folder imports from rows above its own in this list, never from its own row; the last row
/// puts the parts together and may do what it likes. `model` is the ground: even `env` speaks its words.
const FLOORS: [&[&str]; 6] = [
    &["model"],
    &["env", "metrics"],
    &["journal", "store", "meter"],
    &["engine"],
    &["http", "delivery"],
    &["config", "app", "cli", "main", "lib"],
];

/// Imports that go up or sideways, and `super` chains that would hide one.
pub fn violations(source: &Source) -> Vec<String> {
    let own = folder(&source.path);
    let Some(own_floor) = floor(own) else { return Vec::new() };
    if own_floor == FLOORS.len() - 1 {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, target) in imports(&source.code) {
        let allowed = target == own || floor(target).is_some_and(|floor| floor < own_floor) || floor(target).is_none();
        if !allowed {
            let line = line_of(&source.code, at);
            found.push(format!("{}:{line}: {own} must not import {target}: it is not on a floor below", source.path));
        }
    }
    for at in words(&source.product, "super::super") {
        let line = line_of(&source.product, at);
        found.push(format!("{}:{line}: super::super hides a floor: write the path from crate", source.path));
    }
    if source.path.ends_with("/mod.rs") && source.path.matches('/').count() == 2 {
        for at in words(&source.product, "super::") {
            let line = line_of(&source.product, at);
            found.push(format!("{}:{line}: super:: leaves the folder: write the path from crate", source.path));
        }
    }
    found
}

/// A file whose folder has no place in the list.
pub fn without_floor(source: &Source) -> Option<String> {
    let own = folder(&source.path);
    floor(own).is_none().then(|| format!("{}: {own} has no floor: add it to the list", source.path))
}

/// `src/engine/dedupe/filter.rs` → `engine`, `src/metrics.rs` → `metrics`.
pub fn folder(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// The floor of a folder, from 0.
pub fn floor(folder: &str) -> Option<usize> {
    FLOORS.iter().position(|row| row.contains(&folder))
}

/// Every first segment after `crate::`, also inside `crate::{a, b::c}`.
fn imports(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for at in words(code, "crate::") {
        let from = at + "crate::".len();
        match code[from..].strip_prefix('{') {
            Some(group) => found.extend(group_heads(group).into_iter().map(|head| (at, head))),
            None => found.push((at, ident(&code[from..]))),
        }
    }
    found
}

/// The first identifier of each item in `a, b::{c, d}, e}`.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut heads, mut depth, mut expects_head) = (Vec::new(), 0usize, true);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => break,
            b'}' => depth -= 1,
            b',' if depth == 0 => expects_head = true,
            _ if byte.is_ascii_whitespace() => {}
            _ if expects_head => {
                heads.push(ident(&group[at..]));
                expects_head = false;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn imports_up_and_sideways_are_found_in_every_spelling() {
    let sample = "use crate::model::Seq;\nuse crate::{store, meter::{Definition, Path}, model};\nfn f() { crate::engine::g() }\n";
    let found = violations(&Source::new("src/journal/a.rs", sample));
    assert_eq!(
        found,
        [
            "src/journal/a.rs:2: journal must not import store: it is not on a floor below",
            "src/journal/a.rs:2: journal must not import meter: it is not on a floor below",
            "src/journal/a.rs:3: journal must not import engine: it is not on a floor below",
        ]
    );
    assert_eq!(violations(&Source::new("src/engine/a.rs", sample)), [""; 0]);
    assert_eq!(violations(&Source::new("src/cli/a.rs", "use crate::app::run;")), [""; 0]);
    assert_eq!(violations(&Source::new("src/model/a.rs", "// use crate::engine\n")), [""; 0]);
}

#[test]
fn paths_through_super_cannot_hide_a_floor() {
    assert_eq!(violations(&Source::new("src/journal/a/b.rs", "use super::super::super::store;")).len(), 1);
    assert_eq!(violations(&Source::new("src/journal/mod.rs", "use super::store;")).len(), 1);
    assert_eq!(violations(&Source::new("src/journal/a.rs", "use super::frame;")), [""; 0]);
}

#[test]
fn a_new_folder_must_be_given_a_floor() {
    assert!(without_floor(&Source::new("src/ui/page.rs", "")).is_some());
    assert!(without_floor(&Source::new("src/http/server.rs", "")).is_none());
}
