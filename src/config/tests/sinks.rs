use super::*;
use crate::config::sinks::Draft;
use crate::delivery::file;
use crate::model::{RowKind, RowKinds};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn file_sink(keys: &str) -> String {
    format!("[[sink]]\nname = \"a\"\nkind = \"file\"\npath = \"out\"\n{keys}")
}

fn webhook(keys: &str) -> String {
    format!("[[sink]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"https://b.example/h\"\n{keys}")
}

fn postgres(keys: &str) -> String {
    format!("[[sink]]\nname = \"a\"\nkind = \"postgres\"\n{keys}")
}

#[track_caller]
fn only(text: &str) -> Sink {
    let [sink] = &parse(text).unwrap().sinks[..] else { panic!("{text}") };
    sink.clone()
}

#[test]
fn a_file_sink_needs_a_name_and_a_path() {
    let sink = only(&file_sink(""));
    assert_eq!((sink.definition.name.as_str(), sink.definition.kinds), ("a", RowKinds::ALL));
    assert_eq!(sink.policy, crate::delivery::Policy::default());
    let Destination::File(options) = &sink.destination else { panic!() };
    assert_eq!((options.path.to_str(), options.format), (Some("out"), file::Format::Ndjson));
    assert_eq!(options.max_rows, 5_000);
}

#[test]
fn every_key_of_every_kind_is_read() {
    let common = "send = [\"alerts\", \"windows\"]\nschedule = [\"0s\", \"1m\"]\ntimeout = \"3s\"\nmax_in_flight = 2\n\
                  max_pending = 7\nmax_rows = 9\nbreaker_failures = 3\nbreaker_cool_down = \"10m\"\n";
    let text = [
        file_sink(&format!("{common}format = \"csv\"")),
        webhook(&format!(
            "{common}secrets = [\"{SECRET}\", \"{OTHER}\"]\nallow_private_addresses = true\nca_file = \"ca.pem\""
        ))
        .replace("\"a\"", "\"b-1\""),
        postgres(&format!("{common}url = \"postgres://u:p@h/d\"\ntable = \"x.y\"")).replace("\"a\"", "\"c_2\""),
    ]
    .join("\n");
    let config = parse(&text).unwrap();
    for sink in &config.sinks {
        assert_eq!(sink.definition.kinds, [RowKind::Windows, RowKind::Alerts].into_iter().collect());
        let policy = &sink.policy;
        assert_eq!(policy.schedule, [Duration::ZERO, Duration::from_secs(60)]);
        assert_eq!((policy.time_out, policy.max_in_flight, policy.max_pending), (Duration::from_secs(3), 2, 7));
        let (breaker, long) = (&policy.breaker, Duration::from_secs(600));
        assert_eq!((breaker.failures, breaker.cool_down, breaker.cool_down_max), (3, long, long));
    }
    let [file, webhook, postgres] = &config.sinks[..] else { panic!() };
    assert!(matches!(&file.destination, Destination::File(o) if o.format == file::Format::Csv && o.max_rows == 9));
    let Destination::Webhook(options) = &webhook.destination else { panic!() };
    assert_eq!((options.url.as_str(), options.secrets.len()), ("https://b.example/h", 2));
    assert_eq!((options.ca_file.as_deref(), options.max_rows), (Some(std::path::Path::new("ca.pem")), 9));
    assert!(options.allow_private_addresses);
    let Destination::Postgres(options) = &postgres.destination else { panic!() };
    assert_eq!((options.table.to_string(), options.max_rows), ("\"x\".\"y\"".to_owned(), 9));
    let definitions: Vec<_> = config.sinks.iter().map(|sink| sink.definition.clone()).collect();
    assert_eq!(config.engine.sinks, definitions);
}

#[test]
fn secrets_come_from_files_too_one_on_each_line() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = write("good", &format!("\n  {SECRET}  \n{OTHER}\r\n\n"));
    let Destination::Webhook(options) = only(&webhook(&format!("secret_file = \"{good}\""))).destination else {
        panic!()
    };
    assert_eq!(options.secrets.len(), 2);
    let url = write("url", "postgres://u:p@h/d\n");
    assert!(parse(&postgres(&format!("url_file = \"{url}\""))).is_ok());
    for (name, text, message) in [
        ("empty", "\n", "`secret_file` holds no secret"),
        ("bad", "hunter2", "what `secret_file` leads to: a webhook secret begins with whsec_"),
        ("long", &"x".repeat(20_000), "`secret_file` cannot be read: longer than 16 KiB"),
        ("many", &[SECRET; 9].join("\n"), "`secret_file` holds 9 secrets, and 8 are the most"),
    ] {
        let path = write(name, text);
        let (found, help) = refusal(&webhook(&format!("secret_file = \"{path}\"")));
        assert!(found.starts_with(message), "{found}");
        assert!(!format!("{found}{help}").contains("hunter2"), "{found} {help}");
    }
    let (message, _) = refusal(&webhook("secret_file = \"/nowhere/at/all\""));
    assert!(message.starts_with("`secret_file` cannot be read: No such file or directory"), "{message}");
    let bad_url = write("bad_url", "mysql://u:hunter2@h/d");
    let (message, _) = refusal(&postgres(&format!("url_file = \"{bad_url}\"")));
    assert_eq!(message, "`url_file` must begin with postgres:// or postgresql://");
}

#[test]
fn credentials_are_looked_for_where_systemd_puts_them() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("hook"), SECRET).unwrap();
    std::fs::write(directory.path().join("db"), "postgres://u:p@h/d").unwrap();
    let text = [
        webhook("secret_credential = \"hook\""),
        postgres("url_credential = \"db\"").replace("\"a\"", "\"b\""),
        webhook("secret_credential = \"other\"").replace("\"a\"", "\"c\""),
        webhook("secret_credential = \"../hook\"").replace("\"a\"", "\"d\""),
    ]
    .join("\n");
    let read = |credentials| {
        let source = Source::new("meterd.toml", &text);
        let (config, errors) = crate::config::reader::read_with(&source, credentials);
        (config.sinks.len(), errors.into_iter().map(|error| error.message).collect::<Vec<_>>())
    };
    let (sinks, errors) = read(Some(directory.path()));
    let [absent, path] = &errors[..] else { panic!("{errors:#?}") };
    assert!(absent.contains("No such file") && absent.ends_with("other in $CREDENTIALS_DIRECTORY"), "{absent}");
    assert_eq!((sinks, path.as_str()), (4, "`secret_credential` must be a credential's name, and \"../hook\" is none"));
    let (_, errors) = read(None);
    assert_eq!(errors[0], "`secret_credential` needs systemd: $CREDENTIALS_DIRECTORY is not set");
}

#[test]
fn what_a_sink_cannot_do_without_is_asked_for() {
    for (text, key, message, help) in [
        ("[[sink]]\nkind = \"file\"\npath = \"x\"".to_owned(), "sink[0].name", "this sink has no name", "name = "),
        ("[[sink]]\nname = \"a\"".to_owned(), "sink[0].kind", "this sink has no kind", "kind = \"file\", \"webhook\""),
        (file_sink("").replace("path", "# path"), "sink[0].path", "this file sink has no path", "path = \"…\""),
        (webhook(""), "sink[0].secret", "this webhook sink has no secret", "secret = \"whsec_…\", or secret_file"),
        (
            webhook(&format!("secret = \"{SECRET}\"")).replace("url", "# url"),
            "sink[0].url",
            "this webhook sink has no url",
            "url = \"https://…\"",
        ),
        (postgres(""), "sink[0].url", "this postgres sink has no url", "url = \"postgres://user:password@"),
    ] {
        let found = parse(&text).unwrap_err();
        let [error] = found.errors() else { panic!("{found}") };
        assert_eq!((error.key.as_str(), error.message.as_str()), (key, message), "{text}");
        assert!(error.help.as_deref().unwrap().starts_with(help), "{error:?}");
    }
}

#[test]
fn a_key_of_another_kind_is_refused_and_says_whose_it_is() {
    let secret = format!("secret = \"{SECRET}\"\n");
    for (text, message, help) in [
        (
            webhook(&format!("{secret}path = \"x\"")),
            "`path` does not fit kind \"webhook\": only a file sink has one",
            "leave it out; what only a webhook sink has is `url`, `secret`, `secrets`, `secret_file`, \
             `secret_credential`, `allow_private_addresses` or `ca_file`",
        ),
        (
            file_sink("url = \"https://x.example\""),
            "`url` does not fit kind \"file\": only a webhook sink or a postgres sink has one",
            "leave it out; what only a file sink has is `path` or `format`",
        ),
        (
            postgres(&format!("url = \"postgres://h/d\"\n{secret}")),
            "`secret` does not fit kind \"postgres\": only a webhook sink has one",
            "leave it out; what only a postgres sink has is `url`, `url_file`, `url_credential` or `table`",
        ),
    ] {
        assert_eq!(refusal(&text), (message.to_owned(), help.to_owned()), "{text}");
    }
}

#[test]
fn bad_values_of_a_sink_are_refused_with_the_rule() {
    let hook = |keys: &str| webhook(&format!("secret = \"{SECRET}\"\n{keys}"));
    let at = |url: &str| hook("").replace("https://b.example/h", url);
    let example = "for example url = \"https://billing.example/hooks\"";
    let database = "for example \"postgres://user:password@host:5432/database\"";
    for (text, message, help) in [
        (file_sink("").replace("\"a\"", "\"A b\""), "\"A b\" is no sink's name", "\"a_b\" would do; the rule is [a-z"),
        (file_sink("").replace("\"a\"", "\"\""), "\"\" is no sink's name", "[a-z0-9_-]{1,64}"),
        (
            "[[sink]]\nname = \"a\"\nkind = \"webhok\"".into(),
            "unknown kind \"webhok\"",
            "did you mean \"webhook\"? It may be \"file\", \"webhook\" or \"postgres\"",
        ),
        (file_sink("send = []"), "`send` is empty: this sink would be sent nothing", "leave it out"),
        (file_sink("send = [\"window\"]"), "unknown send[0] \"window\"", "did you mean \"windows\"?"),
        (file_sink("send = [\"alerts\", \"alerts\"]"), "\"alerts\" is given twice", ""),
        (file_sink("send = \"alerts\""), "`send` must be a list of \"windows\", \"adjustments\" and \"alerts\"", ""),
        (file_sink("schedule = []"), "`schedule` has 0 attempts", "from 1 to 50: the wait before each of them"),
        (file_sink("schedule = [\"8d\"]"), "`schedule[0]` is out of range: \"8d\"", "from \"0s\" to \"7d\""),
        (file_sink("schedule = [5]"), "`schedule[0]` must be a duration", "with a unit"),
        (file_sink("timeout = \"0s\""), "`timeout` must be longer than zero", "from \"10ms\" to \"10m\""),
        (file_sink("max_in_flight = 65"), "`max_in_flight` is out of range: 65", "from 1 to 64"),
        (file_sink("max_pending = 0"), "`max_pending` is out of range: 0", "from 1 to 10000"),
        (file_sink("max_rows = 5001"), "`max_rows` is out of range: 5001", "from 1 to 5000"),
        (file_sink("breaker_failures = 0"), "`breaker_failures` is out of range: 0", "from 1 to 1000"),
        (file_sink("breaker_cool_down = \"2d\""), "`breaker_cool_down` is out of range: \"2d\"", "from \"100ms\""),
        (file_sink("format = \"json\""), "unknown format \"json\"", "it may be \"ndjson\" or \"csv\""),
        (file_sink("").replace("\"out\"", "\"\""), "`path` must name a directory", ""),
        (file_sink("fromat = 1"), "unknown key `fromat` in [[sink]]", "did you mean `format`?"),
        (at("ftp://b.example"), "`url` begins with neither https:// nor http://", example),
        (at("b.example/h"), "`url` begins with neither https:// nor http://", example),
        (at("https://"), "`url` is no URL", example),
        (at("https://u:p@b.example"), "`url` holds a user name or a password", "leave out what is in front of @"),
        (at("https://b.example/#x"), "`url` has a fragment", "leave out # and what follows it"),
        (hook("ca_file = \"\""), "`ca_file` must name a file", ""),
        (hook("allow_private_addresses = \"true\""), "`allow_private_addresses` must be true or false", ""),
        (postgres("url = \"mysql://h/d\""), "`url` must begin with postgres:// or postgresql://", database),
        (postgres("url = \"postgres:///d\""), "`url` names no host", database),
        (postgres("url = \"postgres://h/d\"\ntable = \"a.b.c\""), "`table` must be a table or schema.table", "for ex"),
        (
            postgres(&format!("url = \"postgres://h/d\"\ntable = \"{}\"", "x".repeat(57))),
            "`table` must have at most 56 bytes, as that of the alerts' table ends with \"_alerts\"",
            "shorten it, or leave \"alerts\" out",
        ),
        (
            postgres("url = \"postgres://h/d\"\nurl_credential = \"x\""),
            "`url_credential` is given beside `url`: it may come from one place only",
            "",
        ),
        (
            hook("secret_file = \"/nowhere\""),
            "`secret_file` is given beside `secret`: it may come from one place only",
            "a webhook sink needs one of `secret`, `secrets`, `secret_file` or `secret_credential`",
        ),
    ] {
        let report = parse(&text).expect_err(&text);
        let found = report.errors().iter().any(|error| {
            error.message.starts_with(message) && error.help.clone().unwrap_or_default().starts_with(help)
        });
        assert!(found, "{message} | {help}\n{report}");
    }
}

#[test]
fn names_and_directories_are_taken_once() {
    let two = |second: &str| format!("{}{second}", file_sink("\n"));
    let (message, help) = refusal(&two(&file_sink("").replace("\"out\"", "\"elsewhere\"")));
    assert_eq!(
        (message.as_str(), help.as_str()),
        ("name \"a\" is taken by the sink on line 2", "each sink needs its own")
    );
    let (message, _) = refusal(&two(&file_sink("").replace("\"a\"", "\"b\"")));
    assert_eq!(message, "path \"out\" is taken by the sink on line 4");
    let many: String = (0..101).map(|n| format!("[[sink]]\nname=\"s{n}\"\nkind=\"file\"\npath=\"p{n}\"\n")).collect();
    assert_eq!(refusal(&many).0, "101 sinks are more than the 100 of one file");
    assert_eq!(refusal("[[sinks]]").1, "did you mean [[sink]]?");
    assert_eq!(refusal("sink = {}").0, "`sink` must be a list: begin each sink with [[sink]]; this is a table");
    assert_eq!(refusal("sink = [1]").0, "a sink must be a table: [[sink]], then its keys");
}

#[test]
fn no_report_and_no_debug_shows_a_secret() {
    let secret = "TfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for keys in [
        format!("secret = \"{secret}\""),
        format!("secret = \"whsec_{secret}="),
        format!("secret = {secret}"),
        format!("secret \"{secret}\""),
        format!("sectret = \"{secret}\""),
        format!("secret = [\"{secret}\"]"),
        format!("secrets = \"{secret}\""),
        format!("secrets = [\n  \"{secret}\",\n]"),
        format!("secrets = [\n  \"{secret}\","),
        format!("secret = \"\"\"\n{secret}\n"),
        format!("secret_file = \"whsec_{secret}\""),
        format!("secret_credential = \"whsec_{secret}\""),
        format!("format = \"whsec_{secret}\""),
        format!("secret = \"whsec_{OTHER}\" {secret}"),
        format!("[sink.secret]\nx = \"whsec_{secret}\""),
    ] {
        let report = parse(&webhook(&keys)).expect_err(&keys);
        let shown = format!("{}\n{report:?}\n{}", report.render(true), report.to_json());
        assert!(!shown.contains(&secret[1..]), "{keys}\n{shown}");
    }
    for url in [
        "postgres://u:hunter2@h:x/d",
        "postgres://u:hun@hunter2@h/d?a=b",
        "mysql://u:hunter2@h",
        "postgres://:hunter2@/",
    ] {
        let report = parse(&postgres(&format!("url = \"{url}\""))).expect_err(url);
        let shown = format!("{}\n{report:?}\n{}", report.render(false), report.to_json());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let config = parse(&format!(
        "{}\n{}",
        webhook(&format!("secret = \"{SECRET}\"")),
        postgres("url = \"postgres://u:hunter2@h/d\"").replace("\"a\"", "\"b\"")
    ));
    let shown = format!("{:?}", config.unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains(&SECRET[6..]), "{shown}");
}

#[test]
fn every_key_is_of_all_kinds_or_of_known_ones() {
    let names: Vec<&str> = crate::config::sinks::KEYS.iter().map(|key: &Key<Draft>| key.name).collect();
    assert!(crate::config::sinks::KINDS_OF.iter().all(|(name, kinds)| names.contains(name) && !kinds.is_empty()));
}
