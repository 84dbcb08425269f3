//! Banned calls: what, where, and why.

use crate::floors::{floor, folder};
use crate::source::{Source, line_of, words};

/// Something that product code does not say.
struct Ban {
    /// Looked for at word boundaries, in code without comments and strings.
    text: &'static str,
    scope: Scope,
    reason: &'static str,
}

/// Where a ban holds.
enum Scope {
    Everywhere,
    /// In every folder but these.
    Outside(&'static [&'static str]),
    /// On the floors below that of this folder, and not in it.
    Below(&'static str),
    Inside(&'static [&'static str]),
}

use Scope::{Below, Everywhere, Inside, Outside};

/// The folders that may read a clock: env is the door, the edges measure how long a client waited.
const CLOCKED: &[&str] = &["env", "http", "cli", "app"];
/// The folders that may touch files: the door, the database's home, and the parts that start the process.
const FILED: &[&str] = &["env", "store", "config", "app", "cli", "main"];
const SPOKEN: &[&str] = &["cli", "main", "app"];

const CLOCK: &str = "time is an argument: take a Clock, so that a replay sees the same time";
const DISK: &str = "files are reached through env::Disk, so that the simulation can crash them";
const LOGS: &str = "a daemon's output is its log: use tracing";
const THREADS: &str = "async at the edges, threads at the heart: nothing below http awaits";
const RANDOM: &str = "randomness is an argument (fastrand::Rng), so that a seed replays";

const BANS: &[Ban] = &[
    Ban { text: "SystemTime::now", scope: Outside(&["env"]), reason: CLOCK },
    Ban { text: "Timestamp::now", scope: Outside(&["env"]), reason: CLOCK },
    Ban { text: "Zoned::now", scope: Outside(&["env"]), reason: CLOCK },
    Ban { text: "Instant::now", scope: Outside(CLOCKED), reason: CLOCK },
    Ban { text: "std::fs", scope: Outside(FILED), reason: DISK },
    Ban { text: "rustix::fs", scope: Outside(FILED), reason: DISK },
    Ban { text: "tokio::fs", scope: Everywhere, reason: DISK },
    Ban {
        text: "rocksdb",
        scope: Outside(&["store"]),
        reason: "the store trait is the seam: the simulation replaces RocksDB",
    },
    Ban { text: "axum", scope: Outside(&["http", "app"]), reason: "HTTP ends at the http folder" },
    Ban { text: "unsafe", scope: Everywhere, reason: "nothing here needs it; a library that does has its own tests" },
    Ban { text: ".unwrap()", scope: Everywhere, reason: "say why it cannot fail with expect, or return the error" },
    Ban { text: "todo!", scope: Everywhere, reason: "leave room, no stubs" },
    Ban { text: "unimplemented!", scope: Everywhere, reason: "leave room, no stubs" },
    Ban { text: "dbg!", scope: Everywhere, reason: LOGS },
    Ban { text: "println!", scope: Outside(SPOKEN), reason: LOGS },
    Ban { text: "eprintln!", scope: Outside(SPOKEN), reason: LOGS },
    Ban { text: ".await", scope: Below("http"), reason: THREADS },
    Ban { text: "async fn", scope: Below("http"), reason: THREADS },
    Ban { text: "tokio::spawn", scope: Below("http"), reason: THREADS },
    Ban { text: "fastrand::Rng::new()", scope: Below("http"), reason: RANDOM },
    Ban {
        text: "static mut",
        scope: Everywhere,
        reason: "no globals: an engine can be opened many times in one process",
    },
    Ban { text: "thread_local!", scope: Everywhere, reason: "no globals: hand the state over" },
    Ban {
        text: "LazyLock",
        scope: Below("http"),
        reason: "no globals: an engine can be opened many times in one process",
    },
    Ban { text: "f32", scope: Inside(&["model", "journal"]), reason: "no floats for quantities" },
    Ban { text: "f64", scope: Inside(&["model", "journal"]), reason: "no floats for quantities" },
];

impl Scope {
    fn holds_in(&self, own: &str) -> bool {
        match self {
            Everywhere => true,
            Outside(free) => !free.contains(&own),
            Below(edge) => floor(own) < floor(edge),
            Inside(folders) => folders.contains(&own),
        }
    }
}

/// Each use of something banned, with its reason.
pub fn violations(source: &Source) -> Vec<String> {
    let own = folder(&source.path);
    let mut found = Vec::new();
    for ban in BANS.iter().filter(|ban| ban.scope.holds_in(own)) {
        for at in words(&source.product, ban.text) {
            let line = line_of(&source.product, at);
            found.push(format!("{}:{line}: {} is banned here: {}", source.path, ban.text, ban.reason));
        }
    }
    found
}

#[test]
fn each_ban_is_found_where_it_holds_and_has_a_reason() {
    for ban in BANS {
        let inside = match ban.scope {
            Inside(folders) => folders[0],
            _ => "engine",
        };
        let sample = format!("fn f() {{ {} }}", ban.text);
        let found = violations(&Source::new(&format!("src/{inside}/a.rs"), &sample));
        assert!(found.iter().any(|line| line.contains(ban.reason)), "{} was not found", ban.text);
        assert!(ban.reason.len() > 10, "{}: a ban says why", ban.text);
    }
}

#[test]
fn bans_spare_tests_comments_strings_and_the_folders_that_may() {
    let spared = [
        ("src/env/clock.rs", "fn now() { SystemTime::now() }"),
        ("src/store/open.rs", "use rocksdb::DB;"),
        (
            "src/engine/a.rs",
            "// rocksdb\nconst A: &str = \"unsafe dbg!\";\n#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }",
        ),
        ("src/engine/tests.rs", "fn f() { g().unwrap() }"),
        ("src/engine/a.rs", "fn unsafe_looking(x: my_rocksdb) { x.unwrap_or(0) }"),
        ("src/http/server.rs", "async fn f() { g().await }"),
    ];
    for (path, sample) in spared {
        assert_eq!(violations(&Source::new(path, sample)), [""; 0], "{path}");
    }
}
