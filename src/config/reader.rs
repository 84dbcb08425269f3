//! Walks a TOML tree with spans by tables of keys, and goes on after an error.
//!
//! A `Key` names an option and says how its value goes into a target; a section is a slice of keys. What the slice does
//! not name is an unknown key.
//!
//! 1. Syntax errors do not hide the other errors, and nothing is said twice: a line with a syntax error gets no other.
//! 2. Rules over several keys are left out where one of the keys could not be read, or may have been lost with a line
//!    that could not be read at all (`Errors::spoilt`).

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::item::{Item, Refusal};
use super::report::ConfigError;
use super::source::Source;
use super::syntax::{self, Damage};
use super::{Config, caps, meters, sections, sinks, suggest};

/// An option: its name in its table, and how its value goes into the target.
pub struct Key<T> {
    pub name: &'static str,
    pub read: fn(&mut T, &Item<'_>, &mut Errors),
}

/// Reads all there is to read. The config is complete only if there are no errors.
pub fn read(source: &Source) -> (Config, Vec<ConfigError>) {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    read_with(source, credentials.as_deref())
}

/// `credentials` is where systemd puts them.
pub fn read_with(source: &Source, credentials: Option<&Path>) -> (Config, Vec<ConfigError>) {
    let repaired = syntax::repair(source);
    let text = repaired.text.clone();
    let (tree, syntax) = DeTable::parse_recoverable(&text);
    let (damage, list) = Damage::assess(source, repaired, tree.get_ref(), &syntax);
    let mut errors = Errors { list, spoilt: HashSet::new(), damage };
    let mut config = Config::default();
    sections::walk(tree.get_ref(), &mut config, &mut errors);
    config.meters = meters::walk(tree.get_ref(), source, &config.billing, &mut errors);
    config.engine.caps = caps::walk(tree.get_ref(), source, &config.meters, config.billing.period, &mut errors);
    config.http.plans = caps::known_plans(&config.engine.caps, &config.plans);
    config.sinks = sinks::walk(tree.get_ref(), source, credentials, &mut errors);
    config.engine.sinks = config.sinks.iter().map(|sink| sink.definition.clone()).collect();
    sections::check_together(tree.get_ref(), &config, &mut errors);
    (config, errors.list)
}

/// Reads one table. `place` names it in messages (`[server]`), `prefix` begins its keys' full names (`server`).
pub fn walk<T>(table: &DeTable<'_>, prefix: &str, place: &str, keys: &[Key<T>], target: &mut T, errors: &mut Errors) {
    for (name, value) in table {
        let full = format!("{prefix}.{}", name.get_ref());
        if let Some(key) = keys.iter().find(|key| key.name == name.get_ref().as_ref()) {
            (key.read)(target, &Item::new(full, name.span(), value), errors);
            continue;
        }
        let names = || keys.iter().map(|key| key.name);
        let help = match (suggest::nearest(name.get_ref(), names()), sections::home_of(name.get_ref())) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(section)) => format!("`{}` belongs in [{section}]", name.get_ref()),
            (None, None) => format!("{place} takes {}", suggest::one_of('`', names())),
        };
        let message = format!("unknown key `{}` in {place}", name.get_ref());
        errors.push(ConfigError::at(name.span(), full, message).with_help(help));
    }
}

/// The tables of a list such as `[[meter]]`, in file order; what is none is said.
pub fn tables<'a>(
    root: &'a DeTable<'a>,
    name: &str,
    most: usize,
    errors: &mut Errors,
) -> Vec<(Item<'a>, &'a DeTable<'a>)> {
    let Some((key_span, value)) = entry(root, name) else { return Vec::new() };
    let list = Item::new(name.to_owned(), key_span, value);
    let tables = match list.array(&format!("a list: begin each {name} with [[{name}]]")) {
        Ok(tables) => tables,
        Err(refusal) => {
            errors.refuse(&list, refusal);
            return Vec::new();
        }
    };
    if tables.len() > most {
        let message = format!("{} {name}s are more than the {most} of one file", tables.len());
        errors.refuse(&list, Refusal::new(message));
    }
    let mut found = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        let item = Item::new(format!("{name}[{index}]"), table.span(), table);
        match item.table("") {
            Ok(keys) => found.push((item, keys)),
            Err(_) => {
                let message = format!("a {name} must be a table: [[{name}]], then its keys");
                errors.refuse(&item, Refusal::new(message));
            }
        }
    }
    found
}

/// A table's entry with the spans of its name and value.
pub fn entry<'a>(table: &'a DeTable<'a>, name: &str) -> Option<(Range<usize>, &'a Spanned<DeValue<'a>>)> {
    table.iter().find(|(key, _)| key.get_ref().as_ref() == name).map(|(key, value)| (key.span(), value))
}

/// What was found so far.
pub struct Errors {
    list: Vec<ConfigError>,
    /// Keys that could not be read.
    spoilt: HashSet<String>,
    damage: Damage,
}

impl Errors {
    /// Adds an error, unless a syntax error has been reported that may be its cause.
    pub fn push(&mut self, error: ConfigError) {
        self.spoilt.insert(error.key.clone());
        if error.span.as_ref().is_none_or(|span| !self.damage.explains(span.start)) {
            self.list.push(error);
        }
    }

    /// Puts a value that could be read into its place.
    pub fn set<T>(&mut self, slot: &mut T, item: &Item<'_>, read: Result<T, Refusal>) {
        match read {
            Ok(value) => *slot = value,
            Err(refusal) => self.refuse(item, refusal),
        }
    }

    /// As `set`, for a value that has its place already.
    pub fn check(&mut self, item: &Item<'_>, read: Result<(), Refusal>) {
        self.set(&mut (), item, read);
    }

    /// Reports what is wrong with an item's value. A value with a syntax error inside has been reported.
    pub fn refuse(&mut self, item: &Item<'_>, refusal: Refusal) {
        self.spoilt.insert(item.key.clone());
        if !self.damage.lies_within(&item.span) {
            self.push(item.error(refusal));
        }
    }

    /// Whether the file is known only in part, so that a key that is not there may have been meant to be.
    pub fn keys_lost(&self) -> bool {
        self.damage.keys_lost
    }

    /// Whether one of these keys could not be read.
    pub fn spoilt(&self, keys: &[&str]) -> bool {
        self.damage.keys_lost || keys.iter().any(|key| self.spoilt.contains(*key))
    }
}
