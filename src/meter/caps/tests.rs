use super::*;
use crate::meter::WindowLength;
use crate::model::Duration;

/// The fields of a fault.
type Fault = (CapField, &'static str);

fn q(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

/// A rejecting cap; `-` is no hard cap.
fn cap(hard: &str, soft: &[&str]) -> Cap {
    Cap {
        id: "default".to_owned(),
        period: CapPeriod::Billing,
        hard: (hard != "-").then(|| q(hard)),
        soft: soft.iter().map(|text| amount(text)).collect(),
        on_hard_cap: OnHardCap::Reject,
        grace: Amount::NOTHING,
        enforce: true,
    }
}

fn checked(mut cap: Cap) -> Cap {
    cap.check().unwrap();
    cap
}

/// `ceil(hard × percent / 10^14)` of scaled numbers, in decimal digits: the last 14 of the product are cut off.
fn oracle(hard: i128, percent: i128) -> Option<i128> {
    let digits = |number: i128| -> Vec<u32> { number.to_string().bytes().rev().map(|b| u32::from(b - b'0')).collect() };
    let (a, b) = (digits(hard), digits(percent));
    let mut product = vec![0u32; a.len() + b.len() + 15];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            product[i + j] += x * y;
        }
    }
    for place in 1..product.len() {
        product[place] += product[place - 1] / 10;
        product[place - 1] %= 10;
    }
    let up = i128::from(product[..14].iter().any(|digit| *digit > 0));
    let kept: String = product[14..].iter().rev().map(|digit| digit.to_string()).collect();
    // Leading zeros are no digits too many.
    kept.parse::<i128>().ok()?.checked_add(up)
}

#[test]
fn percentages_are_rounded_up_to_what_a_quantity_can_say() {
    for (hard, percent, expected) in [
        ("1000", "80%", "800"),
        ("1000", "100%", "1000"),
        ("3", "80%", "2.4"),
        ("1", "33.333333333333%", "0.333333333334"),
        ("0.000000000001", "50%", "0.000000000001"),
        ("0.000000000001", "100.000000000001%", "0.000000000002"),
        ("0.000000000003", "100%", "0.000000000003"),
        ("1", "0.000000000001%", "0.000000000001"),
        ("0", "80%", "0"),
        ("1000", "0%", "0"),
        ("170141183460469231731687303.7", "100%", "170141183460469231731687303.7"),
        ("170141183460469231731687303", "50%", "85070591730234615865843651.5"),
        ("170141183460469231731687", "100000%", "170141183460469231731687000"),
    ] {
        assert_eq!(amount(percent).of(Some(q(hard))), Some(q(expected)), "{percent} of {hard}");
    }
    for (hard, percent) in [
        ("170141183460469231731687303.7", "100.000000000001%"),
        ("170141183460469231731687303.7", "200%"),
        ("170141183460469231731688", "100000%"),
    ] {
        assert_eq!(amount(percent).of(Some(q(hard))), None, "{percent} of {hard}");
    }
    assert_eq!(Amount::Percent(Quantity::from_scaled(i128::MAX)).of(Some(Quantity::from_scaled(i128::MAX))), None);
}

#[test]
fn percentages_agree_with_arithmetic_on_digits() {
    let mut rng = fastrand::Rng::with_seed(5);
    let all = Quantity::ONE.scaled() * 100;
    let most = Quantity::from_integer(PERCENT_MAX).scaled();
    let agree = |hard: i128, percent: i128| {
        let found = part_of(Quantity::from_scaled(hard), Quantity::from_scaled(percent)).map(Quantity::scaled);
        assert_eq!(found, oracle(hard, percent), "{hard} × {percent}");
    };
    for hard in 0..200 {
        for percent in (0..=200).map(|percent| percent * Quantity::ONE.scaled() + percent % 3) {
            agree(hard, percent);
        }
    }
    for hard in [0, 1, all - 1, all, all + 1, 7 * all - 1, i128::MAX - 1, i128::MAX] {
        for percent in [0, 1, all - 1, all, all + 1, most - 1, most] {
            agree(hard, percent);
        }
    }
    for _ in 0..20_000 {
        agree(rng.i128(0..=i128::MAX) >> rng.u32(0..127), rng.i128(0..=most) >> rng.u32(0..57));
    }
}

#[test]
fn amounts_are_decimals_or_percentages_and_come_out_plain() {
    for (text, shown) in [("90000", "90000"), ("0", "0"), ("-0", "0"), ("1e3", "1000"), ("0.50", "0.5")] {
        assert_eq!(amount(text).to_string(), shown);
        assert!(!amount(text).is_percent());
        assert_eq!(amount(&format!("{text}%")).to_string(), format!("{shown}%"));
        assert!(amount(&format!("{text}%")).is_percent());
    }
    assert_eq!(amount("5").of(None), Some(q("5")));
    assert_eq!(amount("5%").of(None), None);
    assert_eq!(amount("100000%"), Amount::Percent(q("100000")));
    let not_a_number = AmountError::Quantity(QuantityError::NotANumber);
    for (text, error) in [
        ("", not_a_number),
        ("%", not_a_number),
        ("80 %", not_a_number),
        (" 80%", not_a_number),
        ("80%%", not_a_number),
        ("%80", not_a_number),
        ("+5", not_a_number),
        ("1,000", not_a_number),
        ("hard", not_a_number),
        ("-1", AmountError::Negative),
        ("-0.5%", AmountError::Negative),
        ("100000.000000000001%", AmountError::Percent),
        ("0.0000000000001", AmountError::Quantity(QuantityError::TooPrecise)),
        ("1e27", AmountError::Quantity(QuantityError::Overflow)),
    ] {
        assert_eq!(text.parse::<Amount>(), Err(error), "{text}");
    }
    assert_eq!("hard".parse(), Ok(Threshold::Hard));
    assert_eq!("80%".parse(), Ok(Threshold::Soft(amount("80%"))));
    assert_eq!([Threshold::Hard, Threshold::Soft(amount("1e1"))].map(|t| t.to_string()), ["hard", "10"]);
    assert!("HARD".parse::<Threshold>().is_err());
}

#[test]
fn thresholds_ascend_and_the_hard_cap_comes_after_its_equals() {
    let shown = |cap: Cap| -> Vec<String> {
        checked(cap).thresholds().map(|(threshold, amount)| format!("{threshold}={amount}")).collect()
    };
    assert_eq!(shown(cap("1000", &["900", "50%", "80%"])), ["50%=500", "80%=800", "900=900", "hard=1000"]);
    assert_eq!(shown(cap("1000", &["100%", "1000", "80%"])), ["80%=800", "1000=1000", "100%=1000", "hard=1000"]);
    assert_eq!(shown(cap("-", &["9", "10", "1"])), ["1=1", "9=9", "10=10"]);
    assert_eq!(shown(cap("0", &[])), ["hard=0"]);
    let allowing = Cap { on_hard_cap: OnHardCap::Allow, ..cap("10", &["140%", "5", "11"]) };
    assert_eq!(shown(allowing), ["5=5", "hard=10", "11=11", "140%=14"]);
}

#[test]
fn what_a_cap_is_does_not_depend_on_the_order_of_its_thresholds() {
    // All of them come to 0.000000000001.
    let hard = "0.000000000001";
    let texts = ["10%", "100%", "0.000000000001", "50%"];
    let expected = checked(cap(hard, &texts));
    assert_eq!(
        expected.soft.iter().map(Amount::to_string).collect::<Vec<_>>(),
        ["0.000000000001", "10%", "50%", "100%"]
    );
    for turn in 0..texts.len() {
        let mut turned = texts;
        turned.rotate_left(turn);
        assert_eq!(checked(cap(hard, &turned)), expected);
        turned.reverse();
        assert_eq!(checked(cap(hard, &turned)), expected);
    }
    assert_eq!(checked(expected.clone()), expected);
}

#[test]
fn the_limit_is_the_hard_cap_and_its_grace() {
    let limit = |hard: &str, grace: &str| Cap { grace: amount(grace), ..cap(hard, &["1"]) }.limit();
    for (hard, grace, expected) in [
        ("1000", "0", "1000"),
        ("1000", "10%", "1100"),
        ("1000", "0.5", "1000.5"),
        ("0.000000000001", "1%", "0.000000000002"),
        ("0", "0", "0"),
        ("0", "7", "7"),
        // Past the range of a quantity nothing can be.
        ("170141183460469231731687303", "100%", "170141183460469231731687303.715884105727"),
        ("170141183460469231731687303", "100000%", "170141183460469231731687303.715884105727"),
    ] {
        assert_eq!(limit(hard, grace), Some(q(expected)), "{hard} and {grace}");
    }
    assert_eq!(limit("-", "0"), None);
}

#[test]
fn only_a_cap_that_is_enforced_and_rejects_has_a_limit() {
    let rejecting = cap("1000", &["80%"]);
    let shadow = Cap { enforce: false, ..rejecting.clone() };
    let allowing = Cap { on_hard_cap: OnHardCap::Allow, ..rejecting.clone() };
    assert_eq!([&rejecting, &shadow, &allowing].map(Cap::limit), [Some(q("1000")), None, None]);
    // They alert all the same.
    for other in [shadow, allowing] {
        assert_eq!(other.thresholds().collect::<Vec<_>>(), rejecting.thresholds().collect::<Vec<_>>());
    }
}

#[test]
fn a_cap_that_cannot_be_used_says_where_and_why() {
    let with_id = |id: &str| Cap { id: id.to_owned(), ..cap("1", &[]) };
    let with_grace = |hard: &str, grace: Amount| Cap { grace, ..cap(hard, &["1"]) };
    let with_soft = |hard: &str, soft: Vec<Amount>| Cap { soft, ..cap(hard, &[]) };
    let id: Fault = (CapField::Id, "must have 1 to 256 bytes and no control characters");
    let percent = "is a percentage, and there is no hard cap that it could be of";
    let above = "lies above the hard cap, and on_hard_cap is \"reject\"";
    let nothing = "comes to 0, which is reached before anything is used";
    let huge = "170141183460469231731687303";
    let minus = Quantity::from_integer(-1);
    let faults: Vec<(Cap, Fault)> = vec![
        (with_id(""), id),
        (with_id("a\nb"), id),
        (with_id(&"x".repeat(257)), id),
        (
            cap("-", &[]),
            (CapField::Hard, "is missing, and there is no soft threshold either: the cap would do nothing"),
        ),
        (Cap { hard: Some(minus), ..cap("1", &["80%"]) }, (CapField::Hard, "is negative")),
        (cap("-", &["5", "80%"]), (CapField::Soft(1), percent)),
        (cap("1000", &["5", "1001"]), (CapField::Soft(1), above)),
        (cap("1000", &["100.000000000001%"]), (CapField::Soft(0), above)),
        (Cap { enforce: false, ..cap("1000", &["1001"]) }, (CapField::Soft(0), above)),
        (cap("1000", &["0"]), (CapField::Soft(0), nothing)),
        (cap("1000", &["80%", "0%"]), (CapField::Soft(1), nothing)),
        (cap("0", &["80%"]), (CapField::Soft(0), nothing)),
        (cap("1000", &["80%", "90%", "8e1%"]), (CapField::Soft(2), "is given twice")),
        (cap(huge, &["200%"]), (CapField::Soft(0), "leaves the range of a quantity")),
        (with_soft("1", vec![Amount::Absolute(minus)]), (CapField::Soft(0), "is negative")),
        (with_soft("1", vec![Amount::Percent(minus)]), (CapField::Soft(0), "is negative")),
        (with_soft("1", vec![Amount::Percent(q("100001"))]), (CapField::Soft(0), "is more than 100000%")),
        (with_grace("-", amount("10%")), (CapField::Grace, percent)),
        (with_grace("-", amount("10")), (CapField::Grace, "means nothing without a hard cap")),
        (with_grace(huge, amount("101%")), (CapField::Grace, "leaves the range of a quantity")),
        (with_grace("1", Amount::Absolute(minus)), (CapField::Grace, "is negative")),
        (with_grace("1", Amount::Percent(minus)), (CapField::Grace, "is negative")),
        (with_grace("1", Amount::Percent(q("100001"))), (CapField::Grace, "is more than 100000%")),
    ];
    for (mut cap, (field, message)) in faults {
        let before = cap.clone();
        let error = cap.check().expect_err(message);
        assert_eq!((error.field, error.to_string().as_str()), (field, message), "{cap:?}");
        assert_eq!(cap, before);
    }
    let many: Vec<String> = (1..=17).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = cap("-", &many).check().unwrap_err();
    assert_eq!((error.field, error.message.as_str()), (CapField::Soft(16), "is one too many: a cap has at most 16"));
    assert_eq!(checked(cap("-", &many[..16])).soft.len(), 16);
}

#[test]
fn caps_at_the_edges_can_be_used() {
    for good in [
        cap("0", &[]),
        cap("-", &["0.000000000001"]),
        cap("1000", &["1000", "100%"]),
        Cap { id: "x".repeat(256), ..cap("1", &[]) },
        Cap { on_hard_cap: OnHardCap::Allow, ..cap("1000", &["1001", "140%"]) },
        Cap { grace: amount("0%"), ..cap("1", &[]) },
        Cap { grace: amount("0"), ..cap("-", &["1"]) },
        Cap { grace: amount("100%"), ..cap("170141183460469231731687303", &[]) },
    ] {
        checked(good);
    }
}

#[test]
fn only_what_adds_up_can_be_capped() {
    for aggregation in Aggregation::ALL {
        let definition = Definition {
            slug: "m".into(),
            event_type: "m".into(),
            aggregation,
            value: None,
            dimensions: Vec::new(),
            window: "1h".parse::<WindowLength>().unwrap(),
            time_zone: "UTC".into(),
            grace: Duration::ZERO,
            late: crate::meter::Late::Adjust,
            allow_negative: true,
            unique_members_max: 1,
            approximate: false,
            billing_period: crate::meter::PeriodKind::Month,
            billing_time_zone: None,
            derive_id: None,
        };
        let adds_up = ["count", "sum"].contains(&aggregation.as_str());
        assert_eq!(can_be_capped(&definition), adds_up, "{aggregation:?}");
    }
}

#[test]
fn a_customer_has_its_own_caps_or_those_of_its_plan() {
    let of = |plan: Option<&str>, id: &str, hard: &str| PlanCap {
        plan: plan.map(str::to_owned),
        cap: Cap { id: id.to_owned(), ..cap(hard, &[]) },
    };
    let defaults = [
        of(None, "month", "10"),
        of(Some("pro"), "month", "100"),
        of(Some("free"), "hour", "1"),
        of(None, "burst", "5"),
        of(Some("pro"), "account", "1000"),
    ];
    let shown = |own: Option<&[Cap]>, plan: Option<&str>| -> Vec<String> {
        let caps = effective(&defaults, own, plan);
        caps.into_iter().map(|cap| format!("{} {}", cap.id, cap.hard.unwrap())).collect()
    };
    assert_eq!(shown(None, None), ["burst 5", "month 10"]);
    assert_eq!(shown(None, Some("unheard-of")), ["burst 5", "month 10"]);
    // A plan is never called so; it is not every plan.
    assert_eq!(shown(None, Some("*")), ["burst 5", "month 10"]);
    assert_eq!(shown(None, Some("pro")), ["account 1000", "burst 5", "month 100"]);
    assert_eq!(shown(None, Some("free")), ["burst 5", "hour 1", "month 10"]);
    let own = [Cap { id: "z".into(), ..cap("7", &[]) }];
    for plan in [None, Some("pro")] {
        assert_eq!(shown(Some(&own), plan), ["z 7"]);
        assert_eq!(shown(Some(&[]), plan), [""; 0]);
    }
    assert_eq!(effective(&[], None, Some("pro")), []);
    let mut reversed = defaults.to_vec();
    reversed.reverse();
    assert_eq!(effective(&reversed, None, Some("pro")), effective(&defaults, None, Some("pro")));
}

/// The form for good: what is in journals must be read, and alerts' content must not change.
const GOLDEN: [(&str, &str); 2] = [
    (
        "full",
        r#"{"id":"default","period":"billing","hard":"1000.5","soft":["400","50%","80%"],"on_hard_cap":"reject","grace":"10%","enforce":true}"#,
    ),
    (
        "bare",
        r#"{"id":"x","period":"window","hard":null,"soft":["0.5"],"on_hard_cap":"allow","grace":"0","enforce":false}"#,
    ),
];

fn golden_caps() -> [Cap; 2] {
    let full = Cap { grace: amount("10%"), ..cap("1000.5", &["80%", "400", "50%"]) };
    let bare = Cap {
        id: "x".into(),
        period: CapPeriod::Window,
        on_hard_cap: OnHardCap::Allow,
        enforce: false,
        ..cap("-", &["0.5"])
    };
    [full, bare].map(checked)
}

#[test]
fn json_is_the_golden_text() {
    for ((name, text), cap) in GOLDEN.into_iter().zip(golden_caps()) {
        assert_eq!(serde_json::to_string(&cap).unwrap(), text, "{name}");
        assert_eq!(serde_json::from_str::<Cap>(text).unwrap(), cap, "{name}");
        for (plan, shown) in [(None, "null"), (Some("pro".to_owned()), "\"pro\"")] {
            let of_plan = PlanCap { plan, cap: cap.clone() };
            let text = format!(r#"{{"plan":{shown},"cap":{text}}}"#);
            assert_eq!(serde_json::to_string(&of_plan).unwrap(), text);
            assert_eq!(serde_json::from_str::<PlanCap>(&text).unwrap(), of_plan);
        }
    }
}

#[test]
fn json_with_anything_else_in_it_is_refused() {
    let (_, good) = GOLDEN[0];
    for (from, to) in [
        ("{\"id\"", "{\"note\":1,\"id\""),
        ("\"id\":\"default\",", ""),
        ("\"period\":\"billing\",", ""),
        ("\"hard\":\"1000.5\",", ""),
        ("\"soft\":[\"400\",\"50%\",\"80%\"],", ""),
        ("\"on_hard_cap\":\"reject\",", ""),
        ("\"grace\":\"10%\",", ""),
        (",\"enforce\":true", ""),
        ("\"id\"", "\"id\":\"default\",\"id\""),
        ("\"billing\"", "\"month\""),
        ("\"billing\"", "\"Billing\""),
        ("\"1000.5\"", "1000.5"),
        ("\"1000.5\"", "\"1000,5\""),
        ("\"1000.5\"", "\"80%\""),
        ("\"1000.5\"", "\"\""),
        ("[\"400\"", "[400"),
        ("[\"400\"", "[\"-400\""),
        ("[\"400\"", "[null"),
        ("\"50%\"", "\"50 %\""),
        ("\"reject\"", "\"deny\""),
        ("\"10%\"", "null"),
        ("true", "\"true\""),
    ] {
        let slip = good.replacen(from, to, 1);
        assert_ne!(slip, good);
        assert!(serde_json::from_str::<Cap>(&slip).is_err(), "{slip}");
        assert!(serde_json::from_str::<PlanCap>(&format!(r#"{{"plan":null,"cap":{slip}}}"#)).is_err());
    }
    for text in [
        format!(r#"{{"cap":{good}}}"#),
        format!(r#"{{"plan":1,"cap":{good}}}"#),
        format!(r#"{{"plan":null,"cap":{good},"more":1}}"#),
        r#"{"plan":null}"#.to_owned(),
    ] {
        assert!(serde_json::from_str::<PlanCap>(&text).is_err(), "{text}");
    }
}
