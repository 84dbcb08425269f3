use super::*;
use crate::meter::{Aggregation, Late, PeriodKind};

fn meter(keys: &str) -> String {
    format!("[[meter]]\nslug = \"m\"\n{keys}")
}

#[test]
fn a_meter_needs_no_more_than_a_slug() {
    let config = parse("[[meter]]\nslug = \"m\"").unwrap();
    let [meter] = &config.meters[..] else { panic!() };
    assert_eq!((meter.slug.as_str(), meter.event_type.as_str()), ("m", "m"));
    assert_eq!((meter.aggregation, meter.late), (Aggregation::Sum, Late::Adjust));
    assert_eq!((meter.value.is_none(), meter.dimensions.is_empty()), (true, true));
    assert_eq!((meter.window.to_string().as_str(), meter.time_zone.as_str()), ("1h", "UTC"));
    assert_eq!(meter.grace, Duration::from_secs(3_600));
    assert_eq!((meter.allow_negative, meter.approximate, meter.unique_members_max), (false, false, 100_000));
    assert_eq!(meter.derive_id, None, "events need an id");
}

#[test]
fn every_key_of_a_meter_is_read() {
    let text = r#"
        [[meter]]
        slug = "users_2"
        event_type = "llm.completion"
        aggregation = "unique"
        value = "$.user.id"
        window = "15m"
        time_zone = "Europe/Berlin"
        grace = "90s"
        late = "reject"
        unique_members_max = 5
        approximate = true
        derive_id = "5m"
        [meter.dimensions]
        region = "$.region"
        model = "$['gen_ai.model']"
        [[meter]]
        slug = "credits"
        aggregation = "avg"
        allow_negative = true
    "#;
    let meters = parse(text).unwrap().meters;
    let json = serde_json::to_value(&meters[0]).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "slug": "users_2", "event_type": "llm.completion", "aggregation": "unique", "value": "$.user.id",
            "dimensions": {"model": "$['gen_ai.model']", "region": "$.region"}, "window": "15m",
            "time_zone": "Europe/Berlin", "grace_ms": 90_000, "late": "reject", "allow_negative": false,
            "unique_members_max": 5, "approximate": true, "billing_period": "month", "billing_time_zone": null,
            "derive_id_ms": 300_000
        })
    );
    assert!(meters[0].dimensions.is_sorted_by_key(|(name, _)| name));
    assert_eq!((meters[1].aggregation, meters[1].allow_negative), (Aggregation::Avg, true));
}

#[test]
fn bad_values_of_a_meter_are_refused_with_the_rule() {
    let window =
        "\"1d\", \"1w\", \"1mo\", or a length from \"1s\" that divides a day: \"30s\", \"15m\", \"1h\", \"6h\"";
    for (keys, message, help) in [
        ("window = \"7m\"", "\"7m\" is no window length", window),
        ("window = \"0s\"", "\"0s\" is no window length", window),
        ("window = \"2d\"", "\"2d\" is no window length", window),
        ("window = \"500ms\"", "\"500ms\" is no window length", window),
        ("time_zone = \"Europe/Berln\"", "unknown time zone \"Europe/Berln\"", "did you mean \"Europe/Berlin\"?"),
        ("time_zone = \"new york\"", "unknown time zone \"new york\"", "did you mean \"America/New_York\"?"),
        ("time_zone = \"+02:00\"", "unknown time zone \"+02:00\"", "an IANA name, like \"Europe/Berlin\" or \"UTC\""),
        ("value = \"tokens\"", "\"tokens\" is no path: a path starts with $", "did you mean \"$.tokens\"?"),
        ("late = \"drop\"", "unknown late \"drop\"", "it may be \"adjust\" or \"reject\""),
        ("aggregation = \"average\"", "unknown aggregation \"average\"", ""),
        ("derive_id = \"0s\"", "`derive_id` must be longer than zero", "from \"1s\" to \"1d\""),
        ("derive_id = \"999ms\"", "`derive_id` is out of range: \"999ms\"", "from \"1s\" to \"1d\""),
        ("derive_id = \"25h\"", "`derive_id` is out of range: \"25h\"", "from \"1s\" to \"1d\""),
        ("derive_ids = \"5m\"", "unknown key `derive_ids` in [[meter]]", "did you mean `derive_id`?"),
        ("grace = \"0s\"", "`grace` must be longer than zero", "from \"1ms\" to \"366d\""),
        ("event_type = \"\"", "`event_type` must have 1 to 256 bytes and no control characters", ""),
        (
            "aggregation = \"unique\"",
            "a unique meter needs a `value`: the path to what is counted once",
            "for example value = \"$.user\"",
        ),
    ] {
        let (found, found_help) = refusal(&meter(keys));
        assert_eq!(found, message);
        assert!(help.is_empty() || found_help == help, "{keys}: {found_help}");
    }
}

#[test]
fn a_slug_is_a_lower_case_name_given_once() {
    for slug in ["", "A", "1a", "_a", "a-b", "a.b", "größe", &"a".repeat(64)] {
        let (message, help) = refusal(&format!("[[meter]]\nslug = \"{slug}\""));
        assert_eq!(message, format!("\"{slug}\" is no slug"));
        assert!(help.contains("[a-z][a-z0-9_]{0,62}"), "{help}");
    }
    assert!(refusal("[[meter]]\nslug = \"Tokens-In\"").1.starts_with("\"tokens_in\" would do"));
    assert!(parse(&format!("[[meter]]\nslug = \"{}\"", "a".repeat(63))).is_ok());
    assert_eq!(errors("[[meter]]\nevent_type = \"x\""), ["1:1 meter[0].slug: this meter has no slug"]);
    let twice = "[[meter]]\nslug = \"a\"\n[[meter]]\nslug = \"b\"\n[[meter]]\nslug = \"a\"";
    assert_eq!(errors(twice), ["6:8 meter[2].slug: slug \"a\" is taken by the meter on line 2"]);
}

#[test]
fn dimensions_have_plain_names_and_paths() {
    let found = errors(&meter("dimensions = { model = \"model\", customer = \"$.c\", \"a b\" = \"$.d\", e = 3 }"));
    assert_eq!(
        found,
        [
            "3:24 meter[0].dimensions.model: \"model\" is no path: a path starts with $",
            "3:33 meter[0].dimensions: a dimension cannot be called `customer`",
            "3:51 meter[0].dimensions: \"a b\" is no dimension's name",
            "3:70 meter[0].dimensions.e: `e` must be a path like \"$.tokens\"; this is a whole number",
        ]
    );
    let many: String = (0..17).map(|n| format!("d{n} = \"$.d\", ")).collect();
    assert_eq!(
        refusal(&meter(&format!("dimensions = {{ {many} }}"))).0,
        "17 dimensions are more than the 16 a meter may have"
    );
}

#[test]
fn keys_that_the_aggregation_never_looks_at_are_refused() {
    for (keys, key) in [
        ("aggregation = \"count\"\nvalue = \"$.x\"", "value"),
        ("aggregation = \"count\"\nallow_negative = true", "allow_negative"),
        ("aggregation = \"sum\"\nunique_members_max = 3", "unique_members_max"),
        ("approximate = true", "approximate"),
    ] {
        assert!(refusal(&meter(keys)).0.starts_with(&format!("`{key}` does not fit aggregation ")), "{keys}");
    }
}

#[test]
fn the_number_of_meters_has_a_limit() {
    let text: String =
        (0..=super::super::meters::METERS_MAX).map(|n| format!("[[meter]]\nslug = \"m{n}\"\n")).collect();
    assert_eq!(refusal(&text).0, "10001 meters are more than the 10000 of one file");
}

#[test]
fn what_a_recorded_meter_counts_cannot_be_changed() {
    let before = parse(
        "[[meter]]\nslug = \"tokens_in\"\nvalue = \"$.t\"\ndimensions.model = \"$.m\"\n[[meter]]\nslug = \"gone\"",
    );
    let recorded = before.unwrap().meters;
    let text = r#"
[[meter]]
slug = "new"
[[meter]]
slug = "tokens_in"
aggregation = "max"
window = "1d"
time_zone = "Europe/Berlin"
grace = "5m"
late = "reject"
"#;
    let source = Source::new("meterd.toml", text);
    let errors = check_against(&Config::parse(&source).unwrap(), &recorded, &source);
    let rendered = Report::new(source, errors).render(false);
    for (place, message) in [
        ("5:8", "meters keep their value: tokens_in was made with value = \"$.t\""),
        ("5:8", "meters keep their dimensions: tokens_in was made with dimensions = { model = \"$.m\" }"),
        ("6:15", "meters keep their aggregation: tokens_in was made with aggregation = \"sum\""),
        ("7:10", "meters keep their window: tokens_in was made with window = \"1h\""),
        ("8:13", "meters keep their time zone: tokens_in was made with time_zone = \"UTC\""),
    ] {
        assert!(rendered.contains(&format!("error: {message}\n --> meterd.toml:{place}\n")), "{message}\n{rendered}");
    }
    assert_eq!(rendered.matches("help: make a new slug, and replay to fill it").count(), 5);
    let same = "[[meter]]\nslug = \"tokens_in\"\nvalue = \"$['t']\"\ndimensions.model = \"$.m\"\n";
    let same = Source::new(
        "meterd.toml",
        &format!("{same}window = \"60m\"\ntime_zone = \"utc\"\ngrace = \"2h\"\nderive_id = \"1d\""),
    );
    assert_eq!(check_against(&Config::parse(&same).unwrap(), &recorded, &same), []);
}

#[test]
fn billing_is_a_setting_of_every_meter_wherever_it_stands() {
    let billing = "[billing]\nperiod = \"week\"\ntime_zone = \"Asia/Tokyo\"\n";
    for text in [format!("{billing}{TWO}"), format!("{TWO}{billing}")] {
        for meter in parse(&text).unwrap().meters {
            assert_eq!(meter.billing_period, PeriodKind::Week);
            assert_eq!((meter.time_zone.as_str(), meter.billing_time_zone.as_deref()), ("UTC", Some("Asia/Tokyo")));
        }
    }
    for meter in parse(TWO).unwrap().meters {
        assert_eq!((meter.billing_period, meter.billing_time_zone), (PeriodKind::Month, None));
    }
}

const TWO: &str = "[[meter]]\nslug = \"a\"\n[[meter]]\nslug = \"b\"\n";

#[test]
fn how_recorded_meters_are_billed_cannot_be_changed() {
    let (none, both) = ("", "[billing]\nperiod = \"day\"\ntime_zone = \"Asia/Tokyo\"\n");
    let period = "meters keep their billing period: a and 1 more were made with billing.period = ";
    let zone = "meters keep their billing time zone: a and 1 more were made with";
    let new = "; or make new slugs, and replay to fill them";
    for (before, after, expected) in [
        (
            none,
            both,
            vec![
                ("2:10", format!("{period}\"month\""), format!("put period = \"month\" back under [billing]{new}")),
                ("3:13", format!("{zone}out a billing.time_zone"), format!("leave time_zone out of [billing]{new}")),
            ],
        ),
        (
            both,
            none,
            vec![
                ("2:8", format!("{period}\"day\""), format!("put period = \"day\" back under [billing]{new}")),
                (
                    "2:8",
                    format!("{zone} billing.time_zone = \"Asia/Tokyo\""),
                    format!("put time_zone = \"Asia/Tokyo\" back under [billing]{new}"),
                ),
            ],
        ),
        (both, "[billing]\nperiod = \"day\"\ntime_zone = \"asia/tokyo\"\n", vec![]),
        (none, "[billing]\ntime_zone = \"utc\"\n", vec![]),
    ] {
        let recorded = parse(&format!("{before}{TWO}")).unwrap().meters;
        let source = Source::new("meterd.toml", &format!("{after}{TWO}"));
        let errors = check_against(&Config::parse(&source).unwrap(), &recorded, &source);
        let shown = errors.into_iter().map(|error| {
            let at = source.position(error.span.unwrap().start);
            (format!("{}:{}", at.line, at.column), error.message, error.help.unwrap())
        });
        let expected = expected.into_iter().map(|(at, message, help)| (at.to_owned(), message, help));
        assert_eq!(shown.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{before} then {after}");
    }
}

#[test]
fn one_meter_that_was_billed_otherwise_is_named() {
    let mut recorded = parse(TWO).unwrap().meters;
    recorded[1].billing_period = PeriodKind::Week;
    let source = Source::new("meterd.toml", TWO);
    let errors = check_against(&Config::parse(&source).unwrap(), &recorded, &source);
    let rendered = Report::new(source, errors).render(false);
    let message = "meters keep their billing period: b was made with billing.period = \"week\"";
    assert!(rendered.starts_with(&format!("error: {message}\n --> meterd.toml:4:8\n")), "{rendered}");
}
