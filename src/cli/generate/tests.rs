use std::collections::HashSet;

use super::*;

fn workload(event_bytes: usize) -> Workload {
    let meters = vec![
        MeterSpec { slug: "bench_1".into(), kind: Kind::Sum, dimensions: vec![] },
        MeterSpec { slug: "calls".into(), kind: Kind::Count, dimensions: vec!["model".into()] },
    ];
    let now = Timestamp::parse_rfc3339("2026-11-22T16:31:00Z").unwrap();
    Workload::new(7, meters, 100, event_bytes, Times::Before(now))
}

fn text(workload: &Workload, number: u64) -> String {
    let mut out = Vec::new();
    workload.write(number, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_event_is_valid_json_of_the_length_asked_for_and_says_what_event_says() {
    let workload = workload(200);
    for number in 0..1_000 {
        let text = text(&workload, number);
        assert_eq!(text.len(), 200);
        let event = workload.event(number);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["usage_event_id"].as_str().unwrap().len(), 36);
        assert_eq!(json["customer"], Workload::customer_name(event.customer));
        assert_eq!(json["meter"], workload.meters()[event.meter].slug);
        assert_eq!(json["quantity"].to_string(), json_number(event.cents));
        let time = Timestamp::parse_rfc3339(json["timestamp"].as_str().unwrap()).unwrap();
        let minute = Timestamp::parse_rfc3339("2026-11-22T16:30:00Z").unwrap();
        assert!(time >= minute && time.millis() < minute.millis() + 60_000, "{time}");
        assert_eq!(json["dimensions"].get("model").is_some(), event.meter == 1);
    }
}

fn json_number(cents: u64) -> String {
    serde_json::from_str::<serde_json::Value>(&format!("{}.{:02}", cents / 100, cents % 100)).unwrap().to_string()
}

#[test]
fn an_event_is_the_same_whenever_it_is_written_and_ids_differ() {
    let (first, second) = (workload(0), workload(0));
    let mut ids = HashSet::new();
    for number in 0..20_000 {
        let text = text(&first, number);
        assert_eq!(text, self::text(&second, number));
        ids.insert(text[19..55].to_owned());
    }
    assert_eq!(ids.len(), 20_000);
}

#[test]
fn a_conflict_differs_in_its_quantity_only() {
    let workload = workload(0);
    for number in 0..1_000 {
        let (mut original, mut conflict) = (Vec::new(), Vec::new());
        workload.write(number, &mut original);
        workload.write_conflict(number, &mut conflict);
        let [a, b] = [original, conflict].map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap());
        assert_eq!(a["usage_event_id"], b["usage_event_id"]);
        assert_ne!(a["quantity"], b["quantity"]);
    }
}

#[test]
fn expected_totals_are_the_sums_of_the_events() {
    let workload = workload(0);
    let mut expected = Expected::new(&workload);
    expected.add(&workload, 0..500);
    expected.add(&workload, 500..1_000);
    let mut by_customer = vec![[Quantity::ZERO; 2]; 100];
    for number in 0..1_000 {
        let event = workload.event(number);
        let json: serde_json::Value = serde_json::from_str(&text(&workload, number)).unwrap();
        let value =
            if event.meter == 0 { Quantity::parse(&json["quantity"].to_string()).unwrap() } else { Quantity::ONE };
        let total = &mut by_customer[event.customer as usize][event.meter];
        *total = total.checked_add(value).unwrap();
    }
    for (customer, totals) in by_customer.iter().enumerate() {
        for (meter, total) in totals.iter().enumerate() {
            let found = expected.total(&workload, meter, customer as u64).unwrap_or(Quantity::ZERO);
            assert_eq!(found, *total, "customer {customer}, meter {meter}");
        }
    }
    let sum: Quantity = by_customer.iter().fold(Quantity::ZERO, |sum, row| sum.checked_add(row[0]).unwrap());
    let (sums, counts) = (expected.meter(&workload, 0), expected.meter(&workload, 1));
    assert_eq!((sums.1, sums.0 + counts.0, counts.1), (sum, 1_000, Quantity::from_integer(counts.0 as i64)));
}
