use super::*;
use crate::meter::{Cap, CapPeriod, OnHardCap, PlanCap};

/// Five lines.
const METERS: &str = "[[meter]]\nslug = \"tokens\"\n[[meter]]\nslug = \"users\"\naggregation = \"max\"\n";

fn file(keys: &str) -> String {
    format!("{METERS}[[cap]]\nmeter = \"tokens\"\n{keys}")
}

#[track_caller]
fn only(text: &str) -> PlanCap {
    let config = parse(text).unwrap_or_else(|report| panic!("{report}"));
    let [cap] = &config.engine.caps["tokens"][..] else { panic!("{text}") };
    cap.clone()
}

#[track_caller]
fn amounts(keys: &str) -> Vec<String> {
    only(&file(keys)).cap.thresholds().map(|(threshold, amount)| format!("{threshold}={amount}")).collect()
}

#[test]
fn a_cap_needs_a_meter_and_something_to_do() {
    let PlanCap { plan, cap } = only(&file("hard = 10"));
    let Cap { id, period, hard, soft, on_hard_cap, grace, enforce } = cap;
    assert_eq!((plan, id.as_str(), period, soft.len()), (None, "default", CapPeriod::Billing, 0));
    assert_eq!(hard.map(|hard| hard.to_string()).as_deref(), Some("10"));
    assert_eq!((on_hard_cap, grace.to_string().as_str(), enforce), (OnHardCap::Reject, "0", true));
    assert_eq!(
        errors(&file("enforce = true")),
        ["6:1 cap[0].hard: `hard` is missing, and there is no soft threshold either: the cap would do nothing"]
    );
    let (message, help) = refusal(&format!("{METERS}[[cap]]\nhard = 10"));
    assert_eq!(message, "this cap has no meter");
    assert_eq!(help, "meter = \"…\" is the slug of the meter that it is on");
}

#[test]
fn every_key_of_a_cap_is_read() {
    let keys = r#"id = "burst"
        plan = "pro"
        period = "window"
        hard = "2.5"
        soft = ["99%", 1, "50%"]
        on_hard_cap = "allow"
        grace = "10%"
        enforce = false"#;
    assert_eq!(
        serde_json::to_string(&only(&file(keys))).unwrap(),
        r#"{"plan":"pro","cap":{"id":"burst","period":"window","hard":"2.5","soft":["1","50%","99%"],"on_hard_cap":"allow","grace":"10%","enforce":false}}"#
    );
}

#[test]
fn amounts_are_texts_or_whole_numbers() {
    assert_eq!(amounts("hard = 0x10\nsoft = \"50%\""), ["50%=8", "hard=16"]);
    assert_eq!(amounts("hard = 1_000\nsoft = 7"), ["7=7", "hard=1000"]);
    assert_eq!(amounts("hard = \"1e3\"\nsoft = []"), ["hard=1000"]);
    assert_eq!(amounts("soft = [\"0.5\", 3]"), ["0.5=0.5", "3=3"]);
    assert_eq!(amounts("hard = 99999999999999999999\nsoft = [\"100%\"]").len(), 2);
}

#[test]
fn floats_are_refused_with_the_text_that_would_do() {
    let whole = "or a whole number; this is a number with a fraction";
    for (keys, message, help) in [
        ("hard = 1.50", "`hard` must be a decimal in quotes, like \"900000\" or \"0.5\", ", "hard = \"1.5\""),
        ("hard = 1e6", "`hard` must be a decimal in quotes, like \"900000\" or \"0.5\", ", "hard = \"1000000\""),
        ("soft = 0.5", "`soft` must be an amount in quotes, like \"900000\" or \"80%\", ", "soft = \"0.5\""),
        ("soft = [1, 1_0.5]", "`soft[1]` must be an amount in quotes, like \"900000\" or \"80%\", ", "\"10.5\""),
    ] {
        let (found, found_help) = refusal(&file(keys));
        assert_eq!(found, format!("{message}{whole}"));
        assert_eq!(found_help, format!("in quotes, so that it stays exact: {help}"));
    }
    for keys in ["hard = inf", "grace = nan", "hard = 1.0000000000001"] {
        let (message, help) = refusal(&file(keys));
        assert!(message.ends_with(whole) && help.is_empty(), "{message} {help}");
    }
}

#[test]
fn amounts_that_are_none_are_refused_with_a_hint() {
    let either =
        "digits, without separators and units, like \"900000\" or \"0.5\"; or a part of the hard cap, like \"80%\"";
    for (keys, message, help) in [
        (
            "hard = \"80%\"",
            "`hard` is not a decimal number: \"80%\"",
            "only `soft` and `grace` take percentages: they are of `hard`",
        ),
        (
            "hard = \"1M\"",
            "`hard` is not a decimal number: \"1M\"",
            "digits, without separators and units, like \"900000\" or \"0.5\"",
        ),
        ("hard = \"-1\"", "`hard` is negative", ""),
        ("hard = -1", "`hard` is negative", ""),
        (
            "hard = true",
            "`hard` must be a decimal in quotes, like \"900000\" or \"0.5\", or a whole number; this is true or false",
            "",
        ),
        (
            "hard = 999999999999999999999999999999",
            "`hard` is beyond the range of about ±1.7e26: \"999999999999999999999999999999\"",
            "digits, without separators and units, like \"900000\" or \"0.5\"",
        ),
        (
            "hard = 9999999999999999999999999999999999999999",
            "`hard` is out of range: 9999999999999999999999999999999999999999",
            "",
        ),
        ("soft = \"80 %\"", "`soft` is not a decimal number: \"80 %\"", "did you mean \"80%\"?"),
        ("soft = [\"1_000\"]", "`soft[0]` is not a decimal number: \"1_000\"", "did you mean \"1000\"?"),
        ("soft = [\"1,5\"]", "`soft[0]` is not a decimal number: \"1,5\"", either),
        ("soft = \"\"", "`soft` is not a decimal number: \"\"", either),
        ("soft = \"0.0000000000001\"", "`soft` has more than 12 fractional digits: \"0.0000000000001\"", either),
        ("soft = [\"1\", -5]", "`soft[1]` is negative: \"-5\"", ""),
        ("hard = 1\ngrace = \"-1%\"", "`grace` is negative: \"-1%\"", ""),
        ("hard = 1\ngrace = \"100001%\"", "`grace` is more than 100000%: \"100001%\"", ""),
    ] {
        assert_eq!(refusal(&file(keys)), (message.to_owned(), help.to_owned()));
    }
}

#[test]
fn each_fault_of_a_cap_is_shown_where_it_stands() {
    assert_eq!(
        errors(&file("hard = 100\nsoft = [\"80%\", \"101\", \"0%\", \"80%\", 100]\ngrace = \"100000%\"\nid = \"\"")),
        [
            "9:16 cap[0].soft[1]: `soft[1]` lies above the hard cap, and on_hard_cap is \"reject\"",
            "9:23 cap[0].soft[2]: `soft[2]` comes to 0, which is reached before anything is used",
            "9:29 cap[0].soft[3]: `soft[3]` is given twice",
            "11:6 cap[0].id: `id` must have 1 to 256 bytes and no control characters",
        ]
    );
    let no_hard = "is a percentage, and there is no hard cap that it could be of";
    assert_eq!(
        errors(&file("soft = [\"80%\", \"90%\", 5]\ngrace = \"10%\"")),
        [
            format!("8:9 cap[0].soft[0]: `soft[0]` {no_hard}"),
            format!("8:16 cap[0].soft[1]: `soft[1]` {no_hard}"),
            format!("9:9 cap[0].grace: `grace` {no_hard}"),
        ]
    );
    // That nothing is left is no fault of its own.
    assert_eq!(errors(&file("soft = \"80%\"")), [format!("8:8 cap[0].soft: `soft` {no_hard}")]);
    assert_eq!(errors(&file("soft = 5\ngrace = 1")), ["9:9 cap[0].grace: `grace` means nothing without a hard cap"]);
    assert_eq!(amounts("hard = 100\nsoft = \"101\"\non_hard_cap = \"allow\""), ["hard=100", "101=101"]);
    let many: Vec<String> = (1..=17).map(|n| n.to_string()).collect();
    assert_eq!(
        errors(&file(&format!("soft = [{}]", many.join(",")))),
        ["8:8 cap[0].soft: 17 thresholds are more than the 16 of one cap"]
    );
    assert_eq!(amounts(&format!("soft = [{}]", many[..16].join(","))).len(), 16);
}

#[test]
fn unknown_keys_and_words_are_refused_with_what_was_meant() {
    for (keys, message, help) in [
        ("hard_cap = 1\nsoft = \"80%\"", "unknown key `hard_cap` in [[cap]]", "did you mean `hard`?"),
        ("hard_cap = 1", "unknown key `hard_cap` in [[cap]]", "did you mean `hard`?"),
        ("hard = 1\non_hard_cap = \"deny\"", "unknown on_hard_cap \"deny\"", "it may be \"allow\" or \"reject\""),
        (
            "hard = 1\nenforce = \"true\"",
            "`enforce` must be true or false; this is text",
            "without quotes: enforce = true",
        ),
        ("hard = 1\nperiod = \"hour\"", "unknown period \"hour\"", "it may be \"month\" or \"window\""),
        ("hard = 1\nplan = \"\"", "`plan` must have 1 to 256 bytes and no control characters", ""),
        ("hard = 1\nplan = 1", "`plan` must be a plan's name; this is a whole number", ""),
        ("hard = 1\nid = 1", "`id` must be text; this is a whole number", ""),
    ] {
        assert_eq!(refusal(&file(keys)), (message.to_owned(), help.to_owned()));
    }
    assert_eq!(refusal("[[caps]]").1, "did you mean [[cap]]?");
    assert_eq!(refusal("[cap]\nhard = 1").0, "`cap` must be a list: begin each cap with [[cap]]; this is a table");
}

#[test]
fn a_meter_must_be_there_and_add_up() {
    for (meter, message, help) in [
        ("token", "unknown meter \"token\"", "did you mean \"tokens\"?"),
        ("elsewhere", "unknown meter \"elsewhere\"", "it may be \"tokens\" or \"users\""),
        (
            "users",
            "meter \"users\" cannot be capped: its aggregation is \"max\"",
            "only \"count\" and \"sum\" meters have usage that adds up to a cap",
        ),
    ] {
        let text = format!("[[cap]]\nmeter = \"{meter}\"\nhard = 1\n{METERS}");
        assert_eq!(refusal(&text), (message.to_owned(), help.to_owned()));
        assert!(errors(&text)[0].starts_with("2:9 cap[0].meter: "));
    }
    assert_eq!(refusal("[[cap]]\nmeter = \"a\"\nhard = 1").1, "this file has no [[meter]]");
    let many: String = (0..11).map(|n| format!("[[meter]]\nslug = \"many{n}\"\n")).collect();
    let (_, help) = refusal(&format!("{many}[[cap]]\nmeter = \"a\"\nhard = 1"));
    assert_eq!(help, "it must be the slug of a [[meter]] in this file");
    // What is wrong with a meter is said there, and once.
    let text = "[[meter]]\nslug = \"Tokens\"\n[[cap]]\nmeter = \"tokens\"\nhard = 1\n";
    assert_eq!(errors(text), ["2:8 meter[0].slug: \"Tokens\" is no slug"]);
    for aggregation in ["count", "sum"] {
        let text = format!(
            "[[meter]]\nslug = \"tokens\"\naggregation = \"{aggregation}\"\n[[cap]]\nmeter = \"tokens\"\nhard = 1"
        );
        assert_eq!(only(&text).plan, None);
    }
}

#[test]
fn a_billing_period_is_called_by_its_own_name() {
    for (billing, word) in [("month", "month"), ("week", "week"), ("day", "day")] {
        let head = format!("[billing]\nperiod = \"{billing}\"\n");
        assert_eq!(
            only(&format!("{head}{}", file(&format!("hard = 1\nperiod = \"{word}\"")))).cap.period,
            CapPeriod::Billing
        );
        assert_eq!(only(&format!("{head}{}", file("hard = 1\nperiod = \"window\""))).cap.period, CapPeriod::Window);
        assert_eq!(only(&format!("{head}{}", file("hard = 1"))).cap.period, CapPeriod::Billing);
    }
    // [billing] may come later.
    let text = format!("{}\n[billing]\nperiod = \"week\"", file("hard = 1\nperiod = \"month\""));
    assert_eq!(
        errors(&text),
        ["9:10 cap[0].period: no cap can count by the month here: billing periods are set to \"week\""]
    );
    assert_eq!(
        refusal(&text).1,
        "\"week\" or \"window\"; how long billing periods are is said by `period` in [billing]"
    );
    let text = format!("{}\n[billing]\nperiod = \"weekly\"", file("hard = 1\nperiod = \"day\""));
    assert_eq!(errors(&text), ["11:10 billing.period: unknown period \"weekly\""]);
}

#[test]
fn an_id_is_given_once_for_a_meter_and_plan() {
    let cap =
        |plan: &str, id: &str| format!("[[cap]]\nmeter = \"tokens\"\nhard = 1\nplan = \"{plan}\"\nid = \"{id}\"\n");
    let text = format!("{METERS}{}{}{}{}", cap("*", "a"), cap("*", "b"), cap("pro", "a"), cap("*", "a"));
    assert_eq!(errors(&text), ["25:6 cap[3].id: id \"a\" is taken by the cap on line 10"]);
    assert_eq!(refusal(&text).1, "several caps of one meter and plan need an `id` each");
    let twice = format!("{METERS}[[cap]]\nmeter = \"tokens\"\nhard = 1\n[[cap]]\nmeter = \"tokens\"\nsoft = 1\n");
    assert_eq!(errors(&twice), ["9:1 cap[1].id: id \"default\" is taken by the cap on line 6"]);
    // A key that could not be read is not held against others.
    let lost = format!("{METERS}[[cap]]\nmeter = \"tokens\"\nhard = 1\n[[cap]]\nmeter = \"tokens\"\nsoft = 1\nid = 3");
    assert_eq!(errors(&lost), ["12:6 cap[1].id: `id` must be text; this is a whole number"]);
}

#[test]
fn the_order_of_the_file_does_not_matter() {
    let cap =
        |plan: &str, id: &str| format!("[[cap]]\nmeter = \"tokens\"\nhard = 1\nplan = \"{plan}\"\nid = \"{id}\"\n");
    let [a, b, c] = [cap("*", "b"), cap("pro", "a"), cap("*", "a")];
    let one = parse(&format!("{METERS}{a}{b}{c}")).unwrap().engine.caps;
    assert_eq!(one, parse(&format!("{c}{b}{a}{METERS}")).unwrap().engine.caps);
    let shown: Vec<_> = one["tokens"].iter().map(|cap| (cap.plan.as_deref(), cap.cap.id.as_str())).collect();
    assert_eq!(shown, [(None, "a"), (None, "b"), (Some("pro"), "a")]);
}

#[test]
fn no_customer_gets_more_caps_than_one_may_have() {
    let caps = |plan: &str, ids: std::ops::Range<usize>| -> String {
        ids.map(|id| format!("[[cap]]\nmeter = \"tokens\"\nhard = 1\nplan = \"{plan}\"\nid = \"{id}\"\n")).collect()
    };
    let full = format!("{METERS}{}{}", caps("*", 0..16), caps("pro", 0..16));
    assert_eq!(parse(&full).unwrap().engine.caps["tokens"].len(), 32);
    assert_eq!(
        errors(&format!("{METERS}{}{}", caps("*", 0..17), caps("pro", 0..1))),
        ["86:1 cap[16]: customers without a plan would have more than 16 caps on tokens"]
    );
    let text = format!("{METERS}{}{}", caps("*", 0..10), caps("pro", 9..17));
    assert_eq!(errors(&text), ["91:1 cap[17]: customers with plan \"pro\" would have more than 16 caps on tokens"]);
    assert_eq!(refusal(&text).1, "caps with plan \"*\" count for every plan, but for its own ids");
    let plans = |most: usize| -> String { (0..most).map(|plan| caps(&format!("plan{plan}"), 0..1)).collect() };
    assert!(parse(&format!("{METERS}{}", plans(1_000))).is_ok());
    assert_eq!(refusal(&format!("{METERS}{}", plans(1_001))).0, "1001 caps on tokens are more than 1000");
    let many = "[[cap]]\n".repeat(10_001);
    assert!(
        errors(&format!("{METERS}{many}"))
            .iter()
            .any(|e| e.ends_with("10001 caps are more than the 10000 of one file"))
    );
}

#[test]
fn plans_are_known_once_a_cap_names_one() {
    let plans = "[customers]\nplans = [\"free\", \"basic\"]\n";
    let known = |text: &str| parse(text).unwrap().http.plans;
    assert_eq!(known(""), None);
    assert_eq!(known(plans), None);
    assert_eq!(known(&format!("{plans}{}", file("hard = 1"))), None);
    assert_eq!(known(&file("hard = 1\nplan = \"pro\"")).unwrap(), ["pro"]);
    assert_eq!(known(&format!("{plans}{}", file("hard = 1\nplan = \"pro\""))).unwrap(), ["basic", "free", "pro"]);
    assert_eq!(known(&format!("{plans}{}", file("hard = 1\nplan = \"free\""))).unwrap(), ["basic", "free"]);
}

#[test]
fn plans_beside_caps_are_a_list_of_names() {
    for (plans, message) in [
        (
            "\"free\"",
            "1:19 customers.plans: `plans` must be a list of plans' names, like [\"free\", \"pro\"]; this is text",
        ),
        ("[\"a\", \"*\"]", "1:25 customers.plans[1]: \"*\" is no plan's name: in a cap it means every plan"),
        ("[\"a\", \"b\", \"a\"]", "1:30 customers.plans[2]: plan \"a\" is given twice"),
        ("[\"\"]", "1:20 customers.plans[0]: `plans[0]` must have 1 to 256 bytes and no control characters"),
        ("[1]", "1:20 customers.plans[0]: `plans[0]` must be a plan's name; this is a whole number"),
    ] {
        assert_eq!(errors(&format!("customers.plans = {plans}")), [message]);
    }
    let many: Vec<String> = (0..1_001).map(|n| format!("\"{n}\"")).collect();
    assert_eq!(refusal(&format!("customers.plans = [{}]", many.join(","))).0, "1001 plans are more than 1000");
    assert!(parse(&format!("customers.plans = [{}]", many[1..].join(","))).is_ok());
    assert_eq!(refusal("plans = [\"a\"]").1, "`plans` belongs in [customers]");
}
