//! The tables of keys outside `[[meter]]`, `[[cap]]` and `[[sink]]`, and the rules that hold between keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeTable;

use super::item::{Item, Refusal};
use super::reader::{self, Errors, Key};
use super::report::ConfigError;
use super::{Config, LogFormat, LogLevel, caps, meters, sinks, suggest};
use crate::journal::Compression;
use crate::meter::PeriodKind;
use crate::model::{Duration, units};

/// The longest of what is measured in days: a century.
const AGE_MAX: &str = "36525d";

/// Customers with a time series of their own.
const TOP_CUSTOMERS_MAX: usize = 100;

/// Tables that come any number of times.
const LISTS: [&str; 3] = [meters::TABLE, caps::TABLE, sinks::TABLE];

/// A table of the file and its keys.
pub struct Section {
    pub name: &'static str,
    pub keys: &'static [Key<Config>],
}

/// Every option that is not a meter's, a cap's or a sink's.
pub const SECTIONS: [Section; 11] = [
    Section {
        name: "server",
        keys: &[
            Key { name: "listen", read: |c, i, e| e.set(&mut c.http.listen, i, address(i)) },
            Key {
                name: "max_connections",
                read: |c, i, e| e.set(&mut c.http.max_connections, i, i.integer(1..=1_000_000)),
            },
            Key {
                name: "header_timeout",
                read: |c, i, e| e.set(&mut c.http.header_timeout, i, i.duration("10ms", "1h")),
            },
            Key { name: "body_timeout", read: |c, i, e| e.set(&mut c.http.body_timeout, i, i.duration("10ms", "1h")) },
            Key { name: "idle_timeout", read: |c, i, e| e.set(&mut c.http.idle_timeout, i, i.duration("10ms", "1d")) },
            Key {
                name: "shutdown_timeout",
                read: |c, i, e| e.set(&mut c.shutdown_timeout, i, i.duration("10ms", "1h")),
            },
        ],
    },
    Section {
        name: "storage",
        keys: &[
            Key { name: "data_dir", read: |c, i, e| e.set(&mut c.data_dir, i, directory(i)) },
            Key {
                name: "block_cache",
                read: |c, i, e| e.set(&mut c.store.block_cache_bytes, i, i.size("1MiB", "1TiB")),
            },
            Key { name: "reserve", read: |c, i, e| e.set(&mut c.engine.disk_reserve_bytes, i, i.size("1MiB", "1TiB")) },
        ],
    },
    Section {
        name: "ingest",
        keys: &[
            Key { name: "accept_past", read: |c, i, e| e.set(&mut c.engine.accept_past, i, i.duration("1s", AGE_MAX)) },
            Key {
                name: "accept_future",
                read: |c, i, e| e.set(&mut c.engine.accept_future, i, i.duration("1ms", AGE_MAX)),
            },
            Key { name: "retry_horizon", read: |c, i, e| e.set(&mut c.retry_horizon, i, i.duration("1s", AGE_MAX)) },
            Key { name: "require_timestamp", read: |c, i, e| e.set(&mut c.http.require_timestamp, i, i.boolean()) },
            Key { name: "max_body", read: |c, i, e| e.set(&mut c.http.max_body_bytes, i, i.size("1KiB", "32MiB")) },
            Key {
                name: "max_decoded_body",
                read: |c, i, e| e.set(&mut c.http.max_decoded_body_bytes, i, i.size("1KiB", "32MiB")),
            },
            Key {
                name: "max_events",
                read: |c, i, e| e.set(&mut c.http.max_events_per_request, i, i.integer(1..=100_000)),
            },
        ],
    },
    Section {
        name: "dedupe",
        keys: &[Key {
            name: "retention",
            read: |c, i, e| e.set(&mut c.engine.dedupe_retention, i, i.duration("1s", AGE_MAX)),
        }],
    },
    Section {
        name: "journal",
        keys: &[
            Key { name: "segment", read: |c, i, e| e.set(&mut c.journal.segment_bytes, i, i.size("1MiB", "4GiB")) },
            Key {
                name: "compression",
                read: |c, i, e| {
                    let choices = [("none", Compression::None), ("lz4", Compression::Lz4)];
                    e.set(&mut c.journal.compression, i, i.choice(&choices));
                },
            },
            Key {
                name: "retention",
                read: |c, i, e| e.set(&mut c.engine.retention.rule.age, i, i.duration("1m", AGE_MAX).map(Some)),
            },
            Key {
                name: "retention_bytes",
                read: |c, i, e| e.set(&mut c.engine.retention.rule.bytes, i, i.size("1MiB", "1024TiB").map(Some)),
            },
        ],
    },
    Section {
        name: "billing",
        keys: &[
            Key {
                name: "period",
                read: |c, i, e| {
                    e.set(&mut c.billing.period, i, i.choice(&PeriodKind::ALL.map(|kind| (kind.as_str(), kind))));
                },
            },
            Key {
                name: "time_zone",
                read: |c, i, e| e.set(&mut c.billing.time_zone, i, meters::time_zone(i).map(Some)),
            },
        ],
    },
    Section { name: "customers", keys: &[Key { name: "plans", read: caps::plans }] },
    Section {
        name: "clock",
        keys: &[
            Key { name: "max_step", read: |c, i, e| e.set(&mut c.engine.clock.max_step, i, i.duration("1s", AGE_MAX)) },
            Key { name: "settle", read: |c, i, e| e.set(&mut c.engine.clock.settle, i, i.duration("1s", AGE_MAX)) },
        ],
    },
    Section {
        name: "limits",
        keys: &[
            Key { name: "queue", read: |c, i, e| e.set(&mut c.engine.queue_bytes, i, i.size("64KiB", "64GiB")) },
            Key {
                name: "open_counters",
                read: |c, i, e| e.set(&mut c.engine.open_counters_max, i, i.integer(1..=1_000_000_000)),
            },
            Key {
                name: "unique_members",
                read: |c, i, e| e.set(&mut c.engine.unique_members_max, i, i.integer(1..=1_000_000_000)),
            },
            Key {
                name: "reservations",
                read: |c, i, e| e.set(&mut c.engine.reservations_max, i, i.integer(1..=10_000_000)),
            },
        ],
    },
    Section {
        name: "metrics",
        keys: &[Key {
            name: "top_customers",
            read: |c, i, e| e.set(&mut c.metrics.top_customers, i, i.integer(0..=TOP_CUSTOMERS_MAX)),
        }],
    },
    Section {
        name: "log",
        keys: &[
            Key { name: "level", read: |c, i, e| e.set(&mut c.log.level, i, level(i)) },
            Key {
                name: "format",
                read: |c, i, e| {
                    let choices = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
                    e.set(&mut c.log.format, i, i.choice(&choices));
                },
            },
        ],
    },
];

/// Reads every section but the lists, and says which tables there are not.
pub fn walk(root: &DeTable<'_>, config: &mut Config, errors: &mut Errors) {
    for (name, value) in root {
        let item = Item::new(name.get_ref().to_string(), name.span(), value);
        match SECTIONS.iter().find(|section| section.name == item.key) {
            Some(section) => match item.table(&format!("a table: [{}], then its keys", section.name)) {
                Ok(table) => {
                    reader::walk(table, section.name, &format!("[{}]", section.name), section.keys, config, errors);
                }
                Err(refusal) => errors.refuse(&item, refusal),
            },
            None if LISTS.contains(&item.key.as_str()) => {}
            None => errors.push(unknown(&item)),
        }
    }
}

fn unknown(item: &Item<'_>) -> ConfigError {
    let tables = || SECTIONS.iter().map(|section| section.name).chain(LISTS);
    let shown = |table: &str| if LISTS.contains(&table) { format!("[[{table}]]") } else { format!("[{table}]") };
    let key = &item.key;
    let is_list = item.array("").is_ok_and(|values| values.iter().all(|value| value.get_ref().is_table()));
    let is_table = is_list || item.table("").is_ok();
    let help = match (home_of(key), suggest::nearest(key, tables())) {
        (Some(section), _) if !is_table => format!("`{key}` belongs in [{section}]"),
        (_, Some(near)) => format!("did you mean {}?", shown(near)),
        _ => format!("the tables are {}", tables().map(shown).collect::<Vec<_>>().join(", ")),
    };
    let what = if is_table { "table" } else { "key" };
    ConfigError::at(item.key_span.clone(), key.clone(), format!("unknown {what} `{key}`")).with_help(help)
}

/// The section a key stands in, if it is the key of just one.
pub fn home_of(key: &str) -> Option<&'static str> {
    let mut homes = SECTIONS.iter().filter(|section| section.keys.iter().any(|known| known.name == key));
    homes.next().filter(|_| homes.next().is_none()).map(|section| section.name)
}

/// The rules between keys. Only a key that is in the file can break one: the defaults keep them all.
pub fn check_together(root: &DeTable<'_>, config: &Config, errors: &mut Errors) {
    check_retention(root, config, errors);
    let http = &config.http;
    let sizes = [
        (
            ["ingest.max_decoded_body", "ingest.max_body"],
            (http.max_decoded_body_bytes as u64, http.max_body_bytes as u64),
            "a body that is not compressed has to pass both limits",
        ),
        (
            ["limits.queue", "ingest.max_decoded_body"],
            (config.engine.queue_bytes as u64, http.max_decoded_body_bytes as u64),
            "a body that never fits the queue would be refused for ever",
        ),
    ];
    for (keys, (larger, smaller), why) in sizes {
        if larger < smaller && !errors.spoilt(&keys) {
            let shown = [larger, smaller].map(units::shown_size);
            let message = format!("{} ({}) is less than {} ({}): {why}", keys[0], shown[0], keys[1], shown[1]);
            push_at(root, &keys, message, format!("{} = \"{}\" or more", last(keys[0]), shown[1]), errors);
        }
    }
}

fn check_retention(root: &DeTable<'_>, config: &Config, errors: &mut Errors) {
    let keys = ["dedupe.retention", "ingest.accept_past", "ingest.accept_future", "ingest.retry_horizon"];
    let engine = &config.engine;
    let parts = [engine.accept_past, engine.accept_future, config.retry_horizon];
    let needed = parts.into_iter().fold(Duration::ZERO, Duration::saturating_add);
    if engine.dedupe_retention >= needed || errors.spoilt(&keys) {
        return;
    }
    let [past, future, retry] = parts.map(units::shown_duration);
    let message = format!(
        "dedupe.retention ({}) is shorter than accept_past ({past}) + accept_future ({future}) + \
         retry_horizon ({retry}) = {}: an id would be forgotten while its event could still come again, and \
         count twice",
        units::shown_duration(engine.dedupe_retention),
        units::spelled_duration(needed),
    );
    let help = format!("retention = \"{}\" or more", units::shown_duration(units::rounded_up(needed)));
    push_at(root, &keys, message, help, errors);
}

/// Points at the first of some keys that is in the file.
fn push_at(root: &DeTable<'_>, keys: &[&str], message: String, help: String, errors: &mut Errors) {
    let find = |key: &&str| {
        let (section, name) = key.split_once('.')?;
        let (_, table) = reader::entry(root, section)?;
        reader::entry(table.get_ref().as_table()?, name).map(|(_, value)| value.span())
    };
    let span = keys.iter().find_map(find);
    errors.push(ConfigError { span, key: keys[0].to_owned(), message, help: Some(help) });
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// An address to listen on. Without API keys only this machine may reach it.
pub fn listen(text: &str) -> Result<SocketAddr, Refusal> {
    const EXAMPLE: &str =
        "an IP address and a port, like \"127.0.0.1:8080\" or \"[::1]:8080\"; port 0 picks a free one";
    let address: SocketAddr = text.parse().map_err(|_| {
        let help = match text.rsplit_once(':') {
            Some(("localhost", port)) => format!("\"127.0.0.1:{port}\"; names are not looked up"),
            Some(("" | "*", port)) => format!("\"127.0.0.1:{port}\": the address is needed too"),
            None if text.parse::<std::net::Ipv4Addr>().is_ok() => format!("\"{text}:8080\": the port is needed too"),
            _ => EXAMPLE.to_owned(),
        };
        Refusal::new(format!("`listen` must be an IP address and a port; \"{text}\" is not")).with_help(help)
    })?;
    if !address.ip().to_canonical().is_loopback() {
        let message = format!(
            "`listen` is not a loopback address: {address} would let anyone who can reach it write and read usage"
        );
        let help = format!(
            "this release has no API keys; listen on \"127.0.0.1:{}\" and put a proxy that authenticates in front",
            address.port()
        );
        return Err(Refusal::new(message).with_help(help));
    }
    Ok(address)
}

fn address(item: &Item<'_>) -> Result<SocketAddr, Refusal> {
    item.text("an IP address and a port, like \"127.0.0.1:8080\"").and_then(listen)
}

fn directory(item: &Item<'_>) -> Result<PathBuf, Refusal> {
    let text = item.text("a path")?;
    if text.is_empty() || text.contains('\0') {
        return Err(Refusal::new("`data_dir` must name a directory"));
    }
    Ok(PathBuf::from(text))
}

fn level(item: &Item<'_>) -> Result<LogLevel, Refusal> {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    item.choice(&levels.map(|level| (level.as_str(), level)))
}
