use super::*;

const GOLDEN: &str = concat!(
    r#"{"slug":"tokens_in","event_type":"llm.completion","aggregation":"sum","value":"$.context_tokens","#,
    r#""dimensions":{"model":"$.model","region":"$['cloud.region']"},"window":"1h","time_zone":"Europe/Berlin","#,
    r#""grace_ms":5400000,"late":"adjust","allow_negative":false,"unique_members_max":100000,"approximate":false,"#,
    r#""billing_period":"week","billing_time_zone":"Asia/Tokyo","derive_id_ms":300000}"#
);

fn golden() -> Definition {
    Definition {
        slug: "tokens_in".to_owned(),
        event_type: "llm.completion".to_owned(),
        aggregation: Aggregation::Sum,
        value: Some("$.context_tokens".parse().unwrap()),
        dimensions: vec![
            ("model".to_owned(), "$.model".parse().unwrap()),
            ("region".to_owned(), "$['cloud.region']".parse().unwrap()),
        ],
        window: "1h".parse().unwrap(),
        time_zone: "Europe/Berlin".to_owned(),
        grace: Duration::from_secs(5_400),
        late: Late::Adjust,
        allow_negative: false,
        unique_members_max: UNIQUE_MEMBERS_DEFAULT,
        approximate: false,
        billing_period: PeriodKind::Week,
        billing_time_zone: Some("Asia/Tokyo".to_owned()),
        derive_id: Some(Duration::from_secs(300)),
    }
}

#[test]
fn writes_and_reads_the_golden_json() {
    assert_eq!(serde_json::to_string(&golden()).unwrap(), GOLDEN);
    assert_eq!(serde_json::from_str::<Definition>(GOLDEN).unwrap(), golden());
    let native = Definition { value: None, dimensions: vec![], ..golden() };
    let text = serde_json::to_string(&native).unwrap();
    assert!(text.contains(r#""value":null,"dimensions":{},"#), "{text}");
    assert_eq!(serde_json::from_str::<Definition>(&text).unwrap(), native);
}

#[test]
fn a_record_from_before_there_were_billing_settings_is_billed_by_the_month_in_its_own_zone() {
    let text = GOLDEN.replace(r#","billing_period":"week","billing_time_zone":"Asia/Tokyo""#, "");
    let definition: Definition = serde_json::from_str(&text).unwrap();
    assert_eq!(definition, Definition { billing_period: PeriodKind::Month, billing_time_zone: None, ..golden() });
    let midnight = |definition: &Definition| {
        definition.billing_zone().unwrap().first_instant(jiff::civil::date(2026, 1, 1)).to_string()
    };
    assert_eq!([&definition, &golden()].map(midnight), ["2025-12-31T23:00:00Z", "2025-12-31T15:00:00Z"]);
}

#[test]
fn a_meter_whose_events_need_an_id_says_nothing_of_it_so_older_records_stay_as_they_are() {
    let text = GOLDEN.replace(r#","derive_id_ms":300000"#, "");
    let definition = Definition { derive_id: None, ..golden() };
    assert_eq!(serde_json::from_str::<Definition>(&text).unwrap(), definition);
    assert_eq!(serde_json::to_string(&definition).unwrap(), text);
    for wrong in ["null", "-1", "\"5m\"", "0.5"] {
        let text = GOLDEN.replace("300000", wrong);
        assert!(serde_json::from_str::<Definition>(&text).is_err(), "{wrong}");
    }
}

#[test]
fn every_name_in_json_is_the_one_in_the_config() {
    for aggregation in Aggregation::ALL {
        assert_eq!(serde_json::to_value(aggregation).unwrap(), aggregation.as_str());
    }
    assert_eq!(serde_json::to_value(Late::Reject).unwrap(), "reject");
    for kind in PeriodKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}

#[test]
fn refuses_json_with_a_field_unknown_missing_or_wrong() {
    for (from, to) in [
        (r#""slug""#, r#""slug2":1,"slug""#),
        (r#""late":"adjust","#, ""),
        (r#""window":"1h""#, r#""window":"7h""#),
        (r#""$.model""#, r#""model""#),
        (r#""sum""#, r#""median""#),
        (r#""week""#, r#""year""#),
        ("5400000", "-1"),
    ] {
        let text = GOLDEN.replace(from, to);
        assert_ne!(text, GOLDEN);
        assert!(serde_json::from_str::<Definition>(&text).is_err(), "{text}");
    }
}

#[test]
fn frozen_fields_are_named_and_the_rest_may_change() {
    let may_change = Definition {
        event_type: "other".to_owned(),
        grace: Duration::ZERO,
        late: Late::Reject,
        allow_negative: true,
        unique_members_max: 5,
        approximate: true,
        time_zone: "europe/berlin".to_owned(),
        billing_time_zone: Some("asia/tokyo".to_owned()),
        derive_id: None,
        ..golden()
    };
    assert_eq!(golden().frozen_difference(&may_change), []);
    let all = Definition {
        aggregation: Aggregation::Max,
        value: None,
        window: WindowLength::Day,
        dimensions: vec![],
        time_zone: "UTC".to_owned(),
        billing_period: PeriodKind::Day,
        billing_time_zone: None,
        ..golden()
    };
    let names: Vec<_> = golden().frozen_difference(&all).into_iter().map(FrozenField::as_str).collect();
    assert_eq!(
        names,
        ["aggregation", "value", "window", "dimensions", "time_zone", "billing.period", "billing.time_zone"]
    );
}

#[test]
fn naming_the_zone_that_billing_follows_anyway_is_no_difference() {
    let billed_in = |zone: Option<&str>| Definition { billing_time_zone: zone.map(str::to_owned), ..golden() };
    let [none, same, other] = [None, Some("europe/berlin"), Some("UTC")].map(billed_in);
    assert_eq!(none.frozen_difference(&same), []);
    assert_eq!(same.frozen_difference(&none), []);
    for (before, after) in [(&none, &other), (&other, &none), (&same, &other)] {
        assert_eq!(before.frozen_difference(after), [FrozenField::BillingTimeZone]);
    }
    let moved = Definition { time_zone: "UTC".to_owned(), ..none.clone() };
    assert_eq!(none.frozen_difference(&moved), [FrozenField::TimeZone]);
}

#[test]
fn validation_names_what_cannot_be_used() {
    assert_eq!(golden().validate(), Ok(()));
    let path: Path = "$.a".parse().unwrap();
    let dimensions = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), path.clone())).collect::<Vec<_>>();
    let many: Vec<String> = (10..=10 + DIMENSIONS_MAX).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let name = |field| DefinitionError::Name { field };
    for (definition, error) in [
        (Definition { slug: String::new(), ..golden() }, name("slug")),
        (Definition { event_type: "a\nb".to_owned(), ..golden() }, name("event_type")),
        (Definition { slug: "x".repeat(257), ..golden() }, name("slug")),
        (Definition { dimensions: dimensions(&[""]), ..golden() }, name("a dimension's name")),
        (Definition { dimensions: dimensions(&["b", "a"]), ..golden() }, DefinitionError::UnsortedDimensions),
        (Definition { dimensions: dimensions(&["a", "a"]), ..golden() }, DefinitionError::UnsortedDimensions),
        (Definition { dimensions: dimensions(&many), ..golden() }, DefinitionError::TooManyDimensions),
        (
            Definition { time_zone: "Mars/Olympus".to_owned(), ..golden() },
            UnknownZone("Mars/Olympus".to_owned()).into(),
        ),
        (
            Definition { billing_time_zone: Some("Mars/Olympus".to_owned()), ..golden() },
            UnknownZone("Mars/Olympus".to_owned()).into(),
        ),
        (Definition { aggregation: Aggregation::Unique, value: None, ..golden() }, DefinitionError::UniqueWithoutValue),
        (Definition { unique_members_max: 0, ..golden() }, DefinitionError::UniqueMembersMax),
        (Definition { unique_members_max: UNIQUE_MEMBERS_MAX + 1, ..golden() }, DefinitionError::UniqueMembersMax),
        (Definition { derive_id: Some(Duration::from_millis(999)), ..golden() }, DefinitionError::DeriveId),
        (Definition { derive_id: Some(Duration::from_millis(86_400_001)), ..golden() }, DefinitionError::DeriveId),
    ] {
        assert_eq!(definition.validate(), Err(error));
    }
}
