//! `[[sink]]`: who is sent rows, and how.
//!
//! | file | does |
//! | --- | --- |
//! | `secrets` | reads secrets and addresses from the file itself, from other files, from systemd's credentials |
//! | `address` | what an address must look like |
//!
//! 1. A key is read by its own rule first; then those that do not belong to the sink's kind are refused.
//! 2. No message quotes a secret, nor an address: it may hold one.

mod address;
mod secrets;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::item::{Item, Refusal};
use super::reader::{self, Errors, Key};
use super::report::ConfigError;
use super::source::Source;
use super::suggest;
use crate::delivery::policy::Policy;
use crate::delivery::{file, postgres, webhook};
use crate::engine::SinkDefinition;
use crate::engine::outbox::ROWS_MAX;
use crate::model::{RowKind, RowKinds};

/// The table's name.
pub const TABLE: &str = "sink";
/// Sinks in one file; each is a task with connections of its own.
pub const SINKS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 64;
/// Attempts of one delivery.
const ATTEMPTS_MAX: usize = 50;
/// As many as usually fit 20 kB, and more.
const WEBHOOK_ROWS_DEFAULT: usize = 100;

/// A sink, checked.
#[derive(Clone, Debug)]
pub struct Sink {
    pub definition: SinkDefinition,
    pub policy: Policy,
    pub destination: Destination,
}

/// Where it sends, and what that takes.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them, each read once")]
pub enum Destination {
    File(file::Options),
    Webhook(webhook::Options),
    Postgres(postgres::Options),
}

impl Destination {
    pub fn kind(&self) -> Kind {
        match self {
            Destination::File(_) => Kind::File,
            Destination::Webhook(_) => Kind::Webhook,
            Destination::Postgres(_) => Kind::Postgres,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Webhook,
    Postgres,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::File, Kind::Webhook, Kind::Postgres];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Webhook => "webhook",
            Kind::Postgres => "postgres",
        }
    }

    /// With its article.
    fn named(self) -> String {
        format!("a {} sink", self.as_str())
    }

    /// What it cannot do without: exactly one of some keys, and what to say where there is none.
    fn needs(self) -> &'static [(&'static [&'static str], &'static str)] {
        match self {
            Kind::File => &[(&["path"], "path = \"…\" is the directory its files go to")],
            Kind::Webhook => &[
                (&["url"], "url = \"https://…\" is where messages are posted to"),
                (
                    &["secret", "secrets", "secret_file", "secret_credential"],
                    "secret = \"whsec_…\", or secret_file, signs what it is sent",
                ),
            ],
            Kind::Postgres => {
                &[(&URL_KEYS, "url = \"postgres://user:password@host/database\", or url_file, is where the table is")]
            }
        }
    }

    fn takes(self, key: &str) -> bool {
        KINDS_OF.iter().find(|(name, _)| *name == key).is_none_or(|(_, kinds)| kinds.contains(&self))
    }
}

/// What is read before it is known which kind of sink it is for.
pub struct Draft {
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    credentials: Option<PathBuf>,
    name: String,
    kind: Option<Kind>,
    send: RowKinds,
    path: PathBuf,
    format: file::Format,
    /// As it was given.
    url: String,
    /// The same, if the sink is PostgreSQL and it is one of its addresses.
    database: Option<postgres::Url>,
    secrets: Vec<webhook::Secret>,
    allow_private_addresses: bool,
    ca_file: Option<PathBuf>,
    table: postgres::TableName,
    policy: Policy,
    max_rows: Option<usize>,
}

impl Draft {
    fn new(credentials: Option<PathBuf>) -> Self {
        Self {
            credentials,
            name: String::new(),
            kind: None,
            send: RowKinds::ALL,
            path: PathBuf::new(),
            format: file::Format::default(),
            url: String::new(),
            database: None,
            secrets: Vec::new(),
            allow_private_addresses: false,
            ca_file: None,
            table: postgres::TableName::default(),
            policy: Policy::default(),
            max_rows: None,
        }
    }
}

/// Every key of a sink.
pub const KEYS: [Key<Draft>; 22] = [
    Key { name: "name", read: |d, i, e| e.set(&mut d.name, i, name(i)) },
    Key {
        name: "kind",
        read: |d, i, e| e.set(&mut d.kind, i, i.choice(&Kind::ALL.map(|kind| (kind.as_str(), kind))).map(Some)),
    },
    Key { name: "send", read: send },
    Key { name: "path", read: |d, i, e| e.set(&mut d.path, i, path(i, "a directory")) },
    Key {
        name: "format",
        read: |d, i, e| {
            let choices = file::Format::ALL.map(|format| (format.as_str(), format));
            e.set(&mut d.format, i, i.choice(&choices));
        },
    },
    Key { name: "url", read: |d, i, e| e.set(&mut d.url, i, i.text("an address").map(str::to_owned)) },
    Key { name: "url_file", read: |d, i, e| e.set(&mut d.url, i, secrets::url_file(i)) },
    Key {
        name: "url_credential",
        read: |d, i, e| e.set(&mut d.url, i, secrets::url_credential(i, d.credentials.as_deref())),
    },
    Key { name: "secret", read: |d, i, e| e.set(&mut d.secrets, i, secrets::secret(i)) },
    Key { name: "secrets", read: |d, i, e| secrets::list(&mut d.secrets, i, e) },
    Key { name: "secret_file", read: |d, i, e| e.set(&mut d.secrets, i, secrets::secret_file(i)) },
    Key {
        name: "secret_credential",
        read: |d, i, e| e.set(&mut d.secrets, i, secrets::secret_credential(i, d.credentials.as_deref())),
    },
    Key { name: "allow_private_addresses", read: |d, i, e| e.set(&mut d.allow_private_addresses, i, i.boolean()) },
    Key { name: "ca_file", read: |d, i, e| e.set(&mut d.ca_file, i, path(i, "a file").map(Some)) },
    Key { name: "table", read: |d, i, e| e.set(&mut d.table, i, address::table(i)) },
    Key { name: "schedule", read: schedule },
    Key { name: "timeout", read: |d, i, e| e.set(&mut d.policy.time_out, i, i.duration("10ms", "10m")) },
    Key { name: "max_in_flight", read: |d, i, e| e.set(&mut d.policy.max_in_flight, i, i.integer(1..=64)) },
    Key { name: "max_pending", read: |d, i, e| e.set(&mut d.policy.max_pending, i, i.integer(1..=10_000)) },
    Key { name: "max_rows", read: |d, i, e| e.set(&mut d.max_rows, i, i.integer(1..=ROWS_MAX).map(Some)) },
    Key { name: "breaker_failures", read: |d, i, e| e.set(&mut d.policy.breaker.failures, i, i.integer(1..=1_000)) },
    Key { name: "breaker_cool_down", read: cool_down },
];

/// Keys that say where to send.
const URL_KEYS: [&str; 3] = ["url", "url_file", "url_credential"];

/// Keys that only some kinds have.
pub const KINDS_OF: [(&str, &[Kind]); 12] = [
    ("path", &[Kind::File]),
    ("format", &[Kind::File]),
    ("url", &[Kind::Webhook, Kind::Postgres]),
    ("url_file", &[Kind::Postgres]),
    ("url_credential", &[Kind::Postgres]),
    ("secret", &[Kind::Webhook]),
    ("secrets", &[Kind::Webhook]),
    ("secret_file", &[Kind::Webhook]),
    ("secret_credential", &[Kind::Webhook]),
    ("allow_private_addresses", &[Kind::Webhook]),
    ("ca_file", &[Kind::Webhook]),
    ("table", &[Kind::Postgres]),
];

/// Reads every `[[sink]]`, in file order.
pub fn walk(root: &DeTable<'_>, source: &Source, credentials: Option<&Path>, errors: &mut Errors) -> Vec<Sink> {
    let mut sinks: Vec<Sink> = Vec::new();
    let (mut names, mut paths) = (HashMap::new(), HashMap::new());
    for (item, table) in reader::tables(root, TABLE, SINKS_MAX, errors) {
        let mut draft = Draft::new(credentials.map(Path::to_owned));
        reader::walk(table, &item.key, "[[sink]]", &KEYS, &mut draft, errors);
        check_presence(table, &mut draft, &item, errors);
        let mut unique = |taken: &mut HashMap<String, usize>, key: &str, value: &str| {
            let span = reader::entry(table, key).map_or(item.span.clone(), |(_, value)| value.span());
            if let Some(first) = taken.get(value) {
                let line = source.position(*first).line;
                let message = format!("{key} \"{value}\" is taken by the sink on line {line}");
                let error = ConfigError::at(span, format!("{}.{key}", item.key), message);
                errors.push(error.with_help("each sink needs its own"));
            } else if !value.is_empty() {
                taken.insert(value.to_owned(), span.start);
            }
        };
        unique(&mut names, "name", &draft.name);
        if draft.kind == Some(Kind::File) {
            unique(&mut paths, "path", &draft.path.to_string_lossy());
        }
        sinks.extend(draft.finish());
    }
    sinks
}

impl Draft {
    /// None if it is not known what kind of sink it is, or where its database is.
    fn finish(self) -> Option<Sink> {
        let destination = match self.kind? {
            Kind::File => Destination::File(file::Options {
                path: self.path,
                format: self.format,
                max_rows: self.max_rows.unwrap_or(file::MAX_ROWS_DEFAULT),
            }),
            Kind::Webhook => Destination::Webhook(webhook::Options {
                url: self.url,
                secrets: self.secrets,
                allow_private_addresses: self.allow_private_addresses,
                ca_file: self.ca_file,
                max_rows: self.max_rows.unwrap_or(WEBHOOK_ROWS_DEFAULT),
            }),
            Kind::Postgres => Destination::Postgres(postgres::Options {
                url: self.database?,
                table: self.table,
                max_rows: self.max_rows.unwrap_or(postgres::MAX_ROWS_DEFAULT),
            }),
        };
        let definition = SinkDefinition { name: self.name, kinds: self.send };
        Some(Sink { definition, policy: self.policy, destination })
    }
}

/// What must be there, what must not, and what of several there must be just one of.
fn check_presence(table: &DeTable<'_>, draft: &mut Draft, item: &Item<'_>, errors: &mut Errors) {
    for (name, help) in [
        ("name", "name = \"…\" names it in the API, in metrics and in the log"),
        ("kind", "kind = \"file\", \"webhook\" or \"postgres\""),
    ] {
        if reader::entry(table, name).is_none() && !errors.keys_lost() {
            let error =
                ConfigError::at(item.span.clone(), format!("{}.{name}", item.key), format!("this sink has no {name}"));
            errors.push(error.with_help(help));
        }
    }
    let Some(kind) = draft.kind else { return };
    check_keys_fit(table, kind, item, errors);
    for (keys, help) in kind.needs() {
        check_one_of(table, kind, keys, help, item, errors);
    }
    if kind == Kind::Postgres && draft.send.contains(RowKind::Alerts) {
        check_alerts_table(table, draft, item, errors);
    }
    for name in URL_KEYS.into_iter().filter(|name| kind.takes(name)) {
        let full = format!("{}.{name}", item.key);
        let Some((key_span, value)) = reader::entry(table, name).filter(|_| !errors.spoilt(&[&full])) else { continue };
        let url = Item::new(full, key_span, value);
        match kind {
            Kind::Webhook => errors.check(&url, address::webhook(name, &draft.url)),
            _ => errors.set(&mut draft.database, &url, address::postgres(name, &draft.url).map(Some)),
        }
    }
}

/// Alerts go to a table whose name is this one's and more.
fn check_alerts_table(table: &DeTable<'_>, draft: &Draft, item: &Item<'_>, errors: &mut Errors) {
    let full = format!("{}.table", item.key);
    let Some((span, value)) = reader::entry(table, "table").filter(|_| !errors.spoilt(&[&full])) else { return };
    let check = |error| {
        let help = "shorten it, or leave \"alerts\" out: send = [\"windows\", \"adjustments\"]";
        Refusal::new(format!("`table` {error}")).with_help(help)
    };
    errors.check(&Item::new(full, span, value), draft.table.alerts().map(drop).map_err(check));
}

fn check_keys_fit(table: &DeTable<'_>, kind: Kind, item: &Item<'_>, errors: &mut Errors) {
    for (name, kinds) in KINDS_OF.iter().filter(|(name, _)| !kind.takes(name)) {
        let Some((span, _)) = reader::entry(table, name) else { continue };
        let whose = kinds.iter().map(|kind| kind.named()).collect::<Vec<_>>().join(" or ");
        let message = format!("`{name}` does not fit kind \"{}\": only {whose} has one", kind.as_str());
        let own = KINDS_OF.iter().filter(|(_, kinds)| kinds.contains(&kind)).map(|(name, _)| *name);
        let help = format!("leave it out; what only {} has is {}", kind.named(), suggest::one_of('`', own));
        errors.push(ConfigError::at(span, format!("{}.{name}", item.key), message).with_help(help));
    }
}

/// Exactly one of these keys must be there.
fn check_one_of(
    table: &DeTable<'_>,
    kind: Kind,
    names: &[&'static str],
    help: &str,
    item: &Item<'_>,
    errors: &mut Errors,
) {
    let mut given = names.iter().filter_map(|name| reader::entry(table, name).map(|(span, _)| (*name, span)));
    let Some((first, _)) = given.next() else {
        if !errors.keys_lost() {
            let message = format!("this {} sink has no {}", kind.as_str(), names[0]);
            let error = ConfigError::at(item.span.clone(), format!("{}.{}", item.key, names[0]), message);
            errors.push(error.with_help(help));
        }
        return;
    };
    for (name, span) in given {
        let message = format!("`{name}` is given beside `{first}`: it may come from one place only");
        let error = ConfigError::at(span, format!("{}.{name}", item.key), message);
        errors.push(error.with_help(format!("{} needs one of {}", kind.named(), suggest::one_of('`', names.to_vec()))));
    }
}

fn name(item: &Item<'_>) -> Result<String, Refusal> {
    let text = item.text("text")?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(legal) {
        return Ok(text.to_owned());
    }
    let mut near: String = text.to_lowercase().replace(|c| !legal(c), "_");
    near.truncate(NAME_BYTES_MAX);
    let rule = "[a-z0-9_-]{1,64}: lower-case letters, digits, _ and -";
    let help = if near.is_empty() { rule.to_owned() } else { format!("\"{near}\" would do; the rule is {rule}") };
    Err(Refusal::new(format!("\"{text}\" is no sink's name")).with_help(help))
}

fn send(draft: &mut Draft, item: &Item<'_>, errors: &mut Errors) {
    let words = match item.array("a list of \"windows\", \"adjustments\" and \"alerts\"") {
        Ok(words) => words,
        Err(refusal) => return errors.refuse(item, refusal),
    };
    draft.send = RowKinds::NONE;
    if words.is_empty() {
        let refusal = Refusal::new("`send` is empty: this sink would be sent nothing");
        errors.refuse(item, refusal.with_help("leave it out to send everything, or take the sink out"));
    }
    for (index, word) in words.iter().enumerate() {
        let word = Item::new(format!("{}[{index}]", item.key), item.key_span.clone(), word);
        match word.choice(&RowKind::ALL.map(|kind| (kind.as_str(), kind))) {
            Ok(kind) if draft.send.contains(kind) => {
                errors.refuse(&word, Refusal::new(format!("\"{}\" is given twice", kind.as_str())));
            }
            Ok(kind) => draft.send = draft.send.with(kind),
            Err(refusal) => errors.refuse(&word, refusal),
        }
    }
}

fn schedule(draft: &mut Draft, item: &Item<'_>, errors: &mut Errors) {
    let delays = match item.array("a list of durations, like [\"0s\", \"5s\", \"5m\"]") {
        Ok(delays) => delays,
        Err(refusal) => return errors.refuse(item, refusal),
    };
    if !(1..=ATTEMPTS_MAX).contains(&delays.len()) {
        let refusal = Refusal::new(format!("`schedule` has {} attempts", delays.len()));
        errors.refuse(item, refusal.with_help(format!("from 1 to {ATTEMPTS_MAX}: the wait before each of them")));
    }
    let mut read = Vec::with_capacity(delays.len());
    for (index, delay) in delays.iter().enumerate() {
        let delay = Item::new(format!("{}[{index}]", item.key), item.key_span.clone(), delay);
        match delay.duration("0s", "7d") {
            Ok(delay) => read.push(delay),
            Err(refusal) => errors.refuse(&delay, refusal),
        }
    }
    draft.policy.schedule = read;
}

fn cool_down(draft: &mut Draft, item: &Item<'_>, errors: &mut Errors) {
    let breaker = &mut draft.policy.breaker;
    errors.set(&mut breaker.cool_down, item, item.duration("100ms", "1d"));
    // It doubles up to here.
    breaker.cool_down_max = breaker.cool_down_max.max(breaker.cool_down);
}

fn path(item: &Item<'_>, what: &str) -> Result<PathBuf, Refusal> {
    let text = item.text("a path")?;
    if text.is_empty() || text.contains('\0') {
        return Err(Refusal::new(format!("`{}` must name {what}", item.name())));
    }
    Ok(PathBuf::from(text))
}
