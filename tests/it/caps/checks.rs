//! Checks against the totals under traffic, and consuming through both doors.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meterd::cli::client::Client;
use serde_json::{Value, json};

use super::scene::{
    self, Scene, StopWhenDropped, alerts, check, consume, event, expect, post, put_caps, refused, used,
};
use crate::harness::client;

const CUSTOMERS: usize = 4;
const TRAFFIC: Duration = Duration::from_secs(2);
const HARD: u64 = 1_000_000;

/// What a customer was sent, and what of it was answered.
#[derive(Default)]
struct Sent {
    sent: AtomicU64,
    answered: AtomicU64,
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("no decimal string: {value}")).parse().expect("whole units")
}

/// `answered` was taken before the check was asked for, `sent` after its answer.
fn agrees(status: &Value, answered: u64, sent: u64) {
    let used = number(&status["used"]);
    assert!((answered..=sent).contains(&used), "{answered} were answered, {sent} sent: {status}");
    assert_eq!(number(&status["remaining"]), HARD - used, "{status}");
}

#[test]
fn checks_see_every_acknowledged_event_and_none_that_was_not_sent() {
    let scene = Scene::start(&scene::meter("calls", ""));
    let customers = (0..CUSTOMERS).map(|n| format!("c{n}")).collect::<Vec<_>>();
    customers.iter().for_each(|customer| drop(put_caps(&scene, customer, "calls", &json!({"hard": HARD}))));
    let (books, stop) = ([(); CUSTOMERS].map(|()| Sent::default()), AtomicBool::new(false));
    let counted = std::thread::scope(|threads| {
        let _stop = StopWhenDropped(&stop);
        for (customer, book) in customers.iter().zip(&books) {
            let (mut client, stop) = (client(scene.daemon()), &stop);
            let builder = std::thread::Builder::new().name(format!("sender-{customer}"));
            builder.spawn_scoped(threads, move || stream(&mut client, customer, book, stop)).unwrap();
        }
        let (began, mut counted, mut client) = (Instant::now(), [0, 0], client(scene.daemon()));
        while began.elapsed() < TRAFFIC {
            for (customer, book) in customers.iter().zip(&books) {
                let answered = book.answered.load(Ordering::SeqCst);
                let (_, status) =
                    crate::harness::post(&mut client, "/v1/check", &json!({"customer": customer, "meter": "calls"}));
                agrees(&status, answered, book.sent.load(Ordering::SeqCst));
                counted[0] += 1;
            }
            let answered = books.each_ref().map(|book| book.answered.load(Ordering::SeqCst));
            let batch = customers.iter().map(|customer| json!({"customer": customer, "meter": "calls", "quantity": 5}));
            let batch = crate::harness::post(&mut client, "/v1/check", &batch.collect::<Vec<_>>().into()).1;
            let data = batch["data"].as_array().unwrap_or_else(|| panic!("no data in {batch}"));
            assert_eq!(data.len(), CUSTOMERS, "{batch}");
            for ((status, customer), (book, answered)) in data.iter().zip(&customers).zip(books.iter().zip(answered)) {
                assert_eq!(
                    (&status["customer"], &status["meter"]),
                    (&json!(customer), &json!("calls")),
                    "in the order asked"
                );
                agrees(status, answered, book.sent.load(Ordering::SeqCst));
                counted[1] += 1;
            }
        }
        counted
    });
    for (customer, book) in customers.iter().zip(&books) {
        assert_eq!(used(&scene, customer, "calls").to_string(), book.answered.load(Ordering::SeqCst).to_string());
    }
    let sent = books.iter().map(|book| book.sent.load(Ordering::SeqCst)).sum::<u64>();
    println!("{} single checks and {} in batches agreed while {sent} units were counted", counted[0], counted[1]);
    scene.verify();
}

/// Half of it through each door.
fn stream(client: &mut Client, customer: &str, book: &Sent, stop: &AtomicBool) {
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let quantity = n % 5 + 1;
        let mut body = event(&format!("{customer} {n}"), customer, "calls", quantity);
        let path = if n % 2 == 0 { "/v1/events" } else { "/v1/check" };
        if n % 2 == 1 {
            body["mode"] = "consume".into();
        }
        book.sent.fetch_add(quantity, Ordering::SeqCst);
        let (status, answer) = crate::harness::post(client, path, &body);
        assert_eq!(status, 200, "{answer}");
        book.answered.fetch_add(quantity, Ordering::SeqCst);
    }
}

#[test]
fn an_id_is_consumed_once_through_whichever_door_and_a_capped_one_stays_free() {
    let mut scene = Scene::start(&scene::meter("calls", "dimensions = { model = \"$.model\" }\n"));
    put_caps(&scene, "c", "calls", &json!({"hard": 10}));
    let first = consume(&scene, &event("first", "c", "calls", 4));
    assert_eq!(first.status, 200, "{}", first.text);
    let found = ["allowed", "outcome", "used", "remaining"].map(|name| first.json[name].clone());
    assert_eq!(found, [json!(true), json!("accepted"), json!("4"), json!("6")], "{}", first.text);
    scene.kill(); // the answer was durable
    for _ in 0..2 {
        let again = consume(&scene, &event("first", "c", "calls", 4));
        let found = ["outcome", "seq", "used"].map(|name| again.json[name].clone());
        assert_eq!((again.status, found), (200, [json!("duplicate"), first.json["seq"].clone(), json!("4")]));
        assert_eq!(again.json["allowed"], true, "whoever retries may go on: {}", again.text);
    }
    assert_eq!(expect(&scene, &event("first", "c", "calls", 4), "duplicate")["seq"], first.json["seq"]);
    refused(&consume(&scene, &event("first", "c", "calls", 5)), 409, "id_conflict", "another quantity");

    let taken = expect(&scene, &event("second", "c", "calls", 4), "accepted");
    let again = consume(&scene, &event("second", "c", "calls", 4));
    assert_eq!((&again.json["outcome"], &again.json["seq"]), (&json!("duplicate"), &taken["seq"]), "{}", again.text);

    let capped = consume(&scene, &event("third", "c", "calls", 3));
    let found = ["allowed", "outcome", "reason", "used"].map(|name| capped.json[name].clone());
    assert_eq!(
        (capped.status, found),
        (200, [json!(false), json!("capped"), json!("hard_cap"), json!("8")]),
        "{}",
        capped.text
    );
    expect(&scene, &event("third", "c", "calls", 3), "capped");
    scene.kill();
    let fits = consume(&scene, &event("third", "c", "calls", 2));
    assert_eq!((fits.status, &fits.json["outcome"]), (200, &json!("accepted")), "a capped id is free: {}", fits.text);
    let mut rich = event("dimensions", "d", "calls", 1);
    (rich["dimensions"], rich["source"]) = (json!({"model": "large"}), json!("here"));
    assert_eq!(consume(&scene, &rich).json["outcome"], "accepted");
    assert_eq!(expect(&scene, &rich, "duplicate")["outcome"], "duplicate");
    let rows = scene.rows("/v1/meters/calls/usage?customer=d&group_by=model");
    assert_eq!(rows[0]["dimensions"], json!({"model": "large"}));
    assert_eq!(used(&scene, "c", "calls").to_string(), "10");
    scene.verify();
}

#[test]
fn a_batch_of_checks_consumes_in_order_and_says_of_each_what_became_of_it() {
    let scene = Scene::start(&scene::meter("calls", ""));
    put_caps(&scene, "c", "calls", &json!({"hard": 10, "soft": ["50%"]}));
    let consuming = |id: &str, quantity: Value| {
        let mut body = event(id, "c", "calls", quantity);
        body["mode"] = "consume".into();
        body
    };
    let batch = json!([
        consuming("a", json!(6)),
        {"customer": "c", "meter": "calls", "quantity": 11},
        consuming("b", json!(5)),
        consuming("a", json!(6)),
        consuming("a", json!(7)),
        consuming("c", json!("4")),
    ]);
    for round in 0..2 {
        let reply = post(&scene, "/v1/check", &batch);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let data = reply.json["data"].as_array().unwrap();
        let said = data.iter().map(|row| json!([row["outcome"], row["allowed"]])).collect::<Vec<_>>();
        let counted = if round == 0 { "accepted" } else { "duplicate" };
        let due = json!([
            [counted, true],
            [null, false],
            ["capped", false],
            ["duplicate", true],
            ["conflict", false],
            [counted, true]
        ]);
        assert_eq!(Value::from(said), due, "round {round}: {}", reply.text);
        assert_eq!(data[4]["code"], "id_conflict", "{}", reply.text);
        println!("round {round}: {}", reply.text);
    }
    assert_eq!(used(&scene, "c", "calls").to_string(), "10");
    assert_eq!(alerts(&scene, "customer=c").len(), 2, "50% and hard, each once");
    let many = |count: usize| Value::from(vec![json!({"customer": "c", "meter": "calls"}); count]);
    let reply = post(&scene, "/v1/check", &many(1_000));
    assert_eq!((reply.status, reply.json["data"].as_array().map(Vec::len)), (200, Some(1_000)));
    let reply = post(&scene, "/v1/check", &many(1_001));
    assert!([400, 413].contains(&reply.status), "more than 1,000: {}", reply.text);
    scene.verify();
}

#[test]
fn a_shadow_cap_refuses_nothing_and_of_several_caps_the_tightest_decides() {
    let scene = Scene::start(&scene::meter("calls", ""));
    let free = check(&scene, "nobody", "calls", 1_000_000);
    let found = ["allowed", "used", "hard_cap", "soft_cap", "remaining"].map(|name| free[name].clone());
    assert_eq!(found, [json!(true), json!("0"), Value::Null, Value::Null, Value::Null], "no caps: {free}");

    put_caps(&scene, "shadow", "calls", &json!({"hard": 10, "soft": ["50%"], "enforce": false}));
    assert_eq!(check(&scene, "shadow", "calls", 11)["allowed"], true);
    expect(&scene, &event("shadow", "shadow", "calls", 30), "accepted");
    let told = alerts(&scene, "customer=shadow");
    let told = told.iter().map(|alert| (alert["threshold"].clone(), alert["enforce"].clone())).collect::<Vec<_>>();
    assert_eq!(told, [(json!("50%"), json!(false)), (json!("hard"), json!(false))]);

    let caps = json!([
        {"id": "month", "hard": 1_000, "soft": ["90%"]},
        {"id": "hour", "period": "window", "hard": 100, "soft": [20, 60]},
        {"id": "watch", "hard": 5, "enforce": false},
    ]);
    put_caps(&scene, "c", "calls", &caps);
    let status = check(&scene, "c", "calls", 101);
    let found = ["allowed", "cap", "hard_cap", "soft_cap", "remaining"].map(|name| status[name].clone());
    assert_eq!(found, [json!(false), json!("hour"), json!("100"), json!("20"), json!("100")], "{status}");
    expect(&scene, &event("a", "c", "calls", 50), "accepted");
    let status = check(&scene, "c", "calls", 50);
    let found = ["allowed", "cap", "soft_cap", "used", "remaining"].map(|name| status[name].clone());
    assert_eq!(found, [json!(true), json!("hour"), json!("60"), json!("50"), json!("50")], "{status}");
    expect(&scene, &event("b", "c", "calls", 51), "capped");
    expect(&scene, &event("b", "c", "calls", 50), "accepted");
    println!("the tightest of three: {}", check(&scene, "c", "calls", 1));
    scene.verify();
}
