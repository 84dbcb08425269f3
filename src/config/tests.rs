//! What is taken, what is refused, and that the shipped file and the tables of keys agree.

mod caps;
mod meters;
mod report;
mod sinks;
mod units;

use super::reader::Key;
use super::sections::SECTIONS;
use super::*;

fn parse(text: &str) -> Result<Config, Report> {
    Config::parse(&Source::new("meterd.toml", text))
}

/// `line:column key: message`, one for each error.
fn errors(text: &str) -> Vec<String> {
    let source = Source::new("meterd.toml", text);
    let Err(report) = Config::parse(&source) else { return Vec::new() };
    let shown = report.errors().iter().map(|error| {
        let position = error.span.as_ref().map(|span| source.position(span.start));
        let place = position.map_or("-".to_owned(), |at| format!("{}:{}", at.line, at.column));
        format!("{place} {}: {}", error.key, error.message)
    });
    shown.collect()
}

/// The only error's message and help.
#[track_caller]
fn refusal(text: &str) -> (String, String) {
    match parse(text).expect_err(text).errors() {
        [only] => (only.message.clone(), only.help.clone().unwrap_or_default()),
        several => panic!("one error was expected, not {several:#?}"),
    }
}

fn shipped() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/meterd.toml")).unwrap()
}

/// Each option with another value than its default.
const OTHER_VALUES: [(&str, &str); 32] = [
    ("server.listen", r#""[::1]:9""#),
    ("server.max_connections", "7"),
    ("server.header_timeout", r#""1s""#),
    ("server.body_timeout", r#""1s""#),
    ("server.idle_timeout", r#""1s""#),
    ("server.shutdown_timeout", r#""1s""#),
    ("storage.data_dir", r#""/var/lib/meterd""#),
    ("storage.block_cache", r#""1GiB""#),
    ("storage.reserve", r#""2GiB""#),
    ("ingest.accept_past", r#""1w""#),
    ("ingest.accept_future", r#""1s""#),
    ("ingest.retry_horizon", r#""1h""#),
    ("ingest.require_timestamp", "true"),
    ("ingest.max_body", "65536"),
    ("ingest.max_decoded_body", r#""16MiB""#),
    ("ingest.max_events", "100"),
    ("dedupe.retention", r#""400d""#),
    ("journal.segment", r#""64MiB""#),
    ("journal.compression", r#""lz4""#),
    ("journal.retention", r#""400d""#),
    ("journal.retention_bytes", r#""100GiB""#),
    ("billing.period", r#""week""#),
    ("billing.time_zone", r#""Europe/Berlin""#),
    ("customers.plans", r#"["free"]"#),
    ("clock.max_step", r#""1m""#),
    ("clock.settle", r#""1s""#),
    ("limits.queue", r#""1GiB""#),
    ("limits.open_counters", "1000"),
    ("limits.unique_members", "1000"),
    ("limits.reservations", "1000"),
    ("metrics.top_customers", "10"),
    ("log.level", r#""warn""#),
];

/// Options that are off unless they are given: the shipped file shows them as comments.
const WITHOUT_DEFAULT: [&str; 3] = ["billing.time_zone", "journal.retention", "journal.retention_bytes"];

fn names<T>(prefix: &str, keys: &[Key<T>]) -> Vec<String> {
    keys.iter().map(|key| format!("{prefix}.{}", key.name)).collect()
}

fn option_names() -> Vec<String> {
    SECTIONS.iter().flat_map(|section| names(section.name, section.keys)).collect()
}

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "\n# nothing\n", "\u{feff}", "[server]\n[log]\n"] {
        assert_eq!(format!("{:?}", parse(text).unwrap()), format!("{:?}", Config::default()), "{text}");
    }
}

#[test]
fn the_shipped_file_shows_every_option_with_its_default() {
    let text = shipped();
    let tree: toml::Table = text.parse().unwrap();
    for name in option_names() {
        let (section, key) = name.split_once('.').unwrap();
        let shown = || text.contains(&format!("\n# {key} = "));
        let has_default = !WITHOUT_DEFAULT.contains(&name.as_str());
        let complete = if has_default { tree[section].get(key).is_some() } else { shown() };
        assert!(complete, "{name} is missing from config/meterd.toml");
    }
    let shown = |name: &str| {
        let named = format!("{name} = ");
        text.lines().any(|line| line.trim_start_matches("# ").starts_with(&named))
    };
    for key in super::meters::KEYS {
        assert!(shown(key.name), "a meter's {} is missing from config/meterd.toml", key.name);
    }
    for key in super::caps::KEYS {
        assert!(shown(key.name), "a cap's {} is missing from config/meterd.toml", key.name);
    }
    for key in super::sinks::KEYS {
        assert!(shown(key.name), "a sink's {} is missing from config/meterd.toml", key.name);
    }
    let mut config = parse(&text).unwrap();
    let slugs: Vec<String> = config.meters.drain(..).map(|meter| meter.slug).collect();
    assert_eq!(slugs, ["requests", "tokens_in", "tokens_out"]);
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_commented_examples_of_the_shipped_file_are_valid_too() {
    let text = shipped();
    let start = text.find("# [[meter]]").unwrap();
    // Prose goes; what is commented within an example stays commented.
    let is_key = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let lines = text[start..].lines().filter_map(|line| line.strip_prefix("# "));
    let examples: String =
        lines.filter(|line| line.starts_with("[[") || is_key(line)).map(|line| format!("{line}\n")).collect();
    let config = parse(&format!("{}{examples}", &text[..start])).unwrap();
    assert_eq!((config.meters.len(), config.meters[3].slug.as_str()), (4, "daily_users"));
    let cap = r#"{"plan":null,"cap":{"id":"default","period":"billing","hard":"1000000","soft":["50%","80%","900000"],
        "on_hard_cap":"reject","grace":"0","enforce":true}}"#;
    let cap = serde_json::from_str(cap).unwrap();
    assert_eq!(config.engine.caps, [("tokens_in".to_owned(), vec![cap])].into());
    let kinds: Vec<&str> = config.sinks.iter().map(|sink| sink.destination.kind().as_str()).collect();
    assert_eq!(kinds, ["file", "webhook", "postgres"]);
    assert!(config.sinks.iter().all(|sink| sink.policy == crate::delivery::Policy::default()));
    assert!(config.sinks.iter().all(|sink| sink.definition.kinds == crate::model::RowKinds::ALL));
}

#[test]
fn every_option_has_a_place_of_its_own() {
    let mut seen = std::collections::HashSet::from([format!("{:?}", Config::default())]);
    let mut given: Vec<String> = vec!["log.format".to_owned()];
    for (name, value) in OTHER_VALUES.into_iter().chain([("log.format", r#""json""#)]) {
        let config = parse(&format!("{name} = {value}")).unwrap();
        assert!(seen.insert(format!("{config:?}")), "{name} changes nothing, or what another option changes");
        given.push(name.to_owned());
    }
    given.sort();
    given.dedup();
    let mut known = option_names();
    known.sort();
    assert_eq!(given, known);
}

#[test]
fn unknown_keys_and_tables_are_refused_with_what_was_meant() {
    for (text, help) in [
        ("[server]\nlisen = 1", "did you mean `listen`?"),
        ("server.max-connections = 1", "did you mean `max_connections`?"),
        ("[dedupe]\naccept_past = \"1d\"", "`accept_past` belongs in [ingest]"),
        ("retry_horizon = \"36d\"", "`retry_horizon` belongs in [ingest]"),
        ("[ingset]", "did you mean [ingest]?"),
        ("[[meters]]", "did you mean [[meter]]?"),
        ("[journal]\nfoo = 1", "[journal] takes `segment`, `compression`, `retention` or `retention_bytes`"),
        (
            "[[api_key]]",
            "the tables are [server], [storage], [ingest], [dedupe], [journal], [billing], [customers], [clock], [limits], \
             [metrics], [log], [[meter]], [[cap]], [[sink]]",
        ),
        ("[billing]\nperiod = \"months\"", "did you mean \"month\"? It may be \"month\", \"week\" or \"day\""),
        ("[billing]\ntime_zone = \"Europe/Berln\"", "did you mean \"Europe/Berlin\"?"),
        ("[[meter]]\nslug = \"a\"\nperiod = \"day\"", "`period` belongs in [billing]"),
        ("[[meter]]\nslug = \"a\"\nagregation = \"sum\"", "did you mean `aggregation`?"),
        (
            "[log]\nlevel = \"warning\"",
            "did you mean \"warn\"? It may be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        ),
        ("[journal]\ncompression = \"zip\"", "it may be \"none\" or \"lz4\""),
    ] {
        assert_eq!(refusal(text).1, help, "{text}");
    }
}

#[test]
fn wrong_types_are_named() {
    for (text, message) in [
        ("server = 1", "`server` must be a table: [server], then its keys; this is a whole number"),
        ("[[server]]", "`server` must be a table: [server], then its keys; this is a list"),
        ("[server]\nmax_connections = \"9\"", "`max_connections` must be a whole number; this is text"),
        (
            "[server]\nmax_connections = 9.5",
            "`max_connections` must be a whole number; this is a number with a fraction",
        ),
        ("[ingest]\nrequire_timestamp = 1", "`require_timestamp` must be true or false; this is a whole number"),
        ("[storage]\ndata_dir = 2026-01-01", "`data_dir` must be a path; this is a date or time"),
        ("[storage]\ndata_dir = \"\"", "`data_dir` must name a directory"),
        (
            "[log]\nlevel.x = 1",
            "`level` must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"; this is a table",
        ),
        ("meter = {}", "`meter` must be a list: begin each meter with [[meter]]; this is a table"),
        ("meter = [1]", "a meter must be a table: [[meter]], then its keys"),
    ] {
        assert_eq!(refusal(text).0, message, "{text}");
    }
    let (_, help) = refusal("[server]\nbody_timeout = 30");
    assert_eq!(help, "with a unit, in quotes: body_timeout = \"30s\"");
}

#[test]
fn every_number_has_bounds() {
    for (text, help) in [
        ("[server]\nmax_connections = 0", "from 1 to 1000000"),
        ("[server]\nmax_connections = -1", "from 1 to 1000000"),
        ("[limits]\nopen_counters = 99999999999999999999999999999999999999999", "from 1 to 1000000000"),
        ("[server]\nbody_timeout = \"0s\"", "from \"10ms\" to \"1h\""),
        ("[server]\nbody_timeout = \"9ms\"", "from \"10ms\" to \"1h\""),
        ("[server]\nbody_timeout = \"61m\"", "from \"10ms\" to \"1h\""),
        ("[clock]\nmax_step = \"999ms\"", "from \"1s\" to \"36525d\""),
        ("[clock]\nsettle = \"36526d\"", "from \"1s\" to \"36525d\""),
        ("[ingest]\nmax_body = 0", "from \"1KiB\" to \"32MiB\""),
        ("[ingest]\nmax_body = -8", "from \"1KiB\" to \"32MiB\""),
        ("[ingest]\nmax_body = \"33MiB\"", "from \"1KiB\" to \"32MiB\""),
        ("[ingest]\nmax_body = 99999999999999999999999999", "from \"1KiB\" to \"32MiB\""),
    ] {
        assert_eq!(refusal(text).1, help, "{text}");
    }
    assert_eq!(
        refusal("[ingest]\naccept_past = \"-1d\"").0,
        "`accept_past` must be longer than zero, and -1d is negative"
    );
    assert_eq!(parse("server.max_connections = 0x10").unwrap().http.max_connections, 16);
}

#[test]
fn only_loopback_addresses_are_listened_on() {
    for address in ["127.0.0.1:0", "127.8.9.10:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        let config = parse(&format!("server.listen = \"{address}\"")).unwrap();
        assert_eq!(config.http.listen.to_string(), address);
    }
    for address in ["0.0.0.0:80", "[::]:80", "192.168.1.1:80", "[::ffff:8.8.8.8]:80"] {
        let (message, help) = refusal(&format!("server.listen = \"{address}\""));
        assert!(message.starts_with("`listen` is not a loopback address"), "{message}");
        assert!(help.starts_with("this release has no API keys; listen on \"127.0.0.1:80\""), "{help}");
        assert!(parse_listen(address).is_err());
    }
    for (address, help) in [
        ("localhost:80", "\"127.0.0.1:80\"; names are not looked up"),
        (":80", "\"127.0.0.1:80\": the address is needed too"),
        ("127.0.0.1", "\"127.0.0.1:8080\": the port is needed too"),
        (
            "127.0.0.1:99999",
            "an IP address and a port, like \"127.0.0.1:8080\" or \"[::1]:8080\"; port 0 picks a free one",
        ),
    ] {
        assert_eq!(refusal(&format!("server.listen = \"{address}\"")).1, help);
    }
}

#[test]
fn an_id_must_be_remembered_for_as_long_as_its_event_can_come_again() {
    let file = |retention: &str| {
        let ingest = "[ingest]\naccept_past = \"10d\"\naccept_future = \"1h\"\nretry_horizon = \"2d\"\n";
        format!("{ingest}[dedupe]\nretention = \"{retention}\"")
    };
    assert!(parse(&file("289h")).is_ok());
    assert_eq!(
        errors(&file("17339m")),
        ["6:13 dedupe.retention: dedupe.retention (17339m) is shorter than accept_past (10d) + accept_future (1h) + \
          retry_horizon (2d) = 12d 1h: \
          an id would be forgotten while its event could still come again, and count twice"]
    );
    assert_eq!(refusal(&file("12d")).1, "retention = \"13d\" or more");
    // With the default retention it is the longer acceptance that is pointed at.
    assert!(errors("[ingest]\naccept_past = \"400d\"")[0].starts_with("2:15 dedupe.retention: dedupe.retention (36d)"));
    assert_eq!(refusal("[ingest]\naccept_past = \"400d\"").1, "retention = \"404d\" or more");
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    assert_eq!(
        errors("[ingest]\nmax_body = \"16MiB\"\nmax_decoded_body = \"8MiB\""),
        ["3:20 ingest.max_decoded_body: ingest.max_decoded_body (8MiB) is less than ingest.max_body (16MiB): \
          a body that is not compressed has to pass both limits"]
    );
    let (_, help) = refusal("[limits]\nqueue = \"8MiB\"");
    assert_eq!(help, "queue = \"32MiB\" or more");
}

#[test]
fn flags_win_over_the_file() {
    let flags = Overrides { data_dir: Some("elsewhere".into()), listen: Some(parse_listen("127.0.0.1:0").unwrap()) };
    let config = parse("[server]\nlisten = \"127.0.0.1:1\"\n[storage]\ndata_dir = \"here\"").unwrap();
    let overridden = config.clone().overridden_by(&flags);
    assert_eq!((overridden.data_dir, overridden.http.listen.port()), (PathBuf::from("elsewhere"), 0));
    let untouched = config.overridden_by(&Overrides::default());
    assert_eq!((untouched.data_dir, untouched.http.listen.port()), (PathBuf::from("here"), 1));
}
