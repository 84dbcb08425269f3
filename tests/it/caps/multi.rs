//! One event that feeds several meters, of which one is capped, is refused whole.

use serde_json::{Value, json};

use super::scene::{Scene, alerts, check, put_caps};

const METERS: &str = "
[[meter]]
slug = \"tokens\"
event_type = \"llm\"
aggregation = \"sum\"
value = \"$.tokens\"
[[meter]]
slug = \"requests\"
event_type = \"llm\"
aggregation = \"count\"
[[meter]]
slug = \"longest\"
event_type = \"llm\"
aggregation = \"max\"
value = \"$.tokens\"
";

fn send(scene: &Scene, id: &str, tokens: u64) -> Value {
    let event = json!([{"specversion": "1.0", "id": id, "source": "s", "type": "llm", "subject": "c", "data": {"tokens": tokens}}]);
    scene.send_as("application/cloudevents-batch+json", &event)
}

fn totals(scene: &Scene) -> Vec<(Value, Value, Value)> {
    let rows = scene.rows("/v1/customers/c/usage");
    rows.iter().map(|row| (row["meter"].clone(), row["value"].clone(), row["event_count"].clone())).collect()
}

#[test]
fn an_event_for_several_meters_is_refused_whole_if_one_of_them_is_capped() {
    let mut scene = Scene::start(METERS);
    put_caps(&scene, "c", "requests", &json!({"hard": 3, "soft": [2]}));
    put_caps(&scene, "c", "tokens", &json!({"hard": 1_000, "soft": ["90%"]}));
    for n in 0..3 {
        assert_eq!(send(&scene, &format!("e{n}"), 100)["accepted"], 1);
    }
    let before = (totals(&scene), alerts(&scene, "meter=tokens"));
    // By its count.
    let answer = send(&scene, "fourth", 700);
    assert_eq!(
        (&answer["accepted"], &answer["capped"], &answer["events"][0]["code"]),
        (&json!(0), &json!(1), &json!("hard_cap"))
    );
    assert!(answer["events"][0]["detail"].as_str().unwrap().contains("requests"), "it says which meter: {answer}");
    assert_eq!(before, (totals(&scene), alerts(&scene, "meter=tokens")), "the other meters have nothing of it");
    scene.kill();
    assert_eq!(before.0, totals(&scene));
    // By its sum.
    put_caps(&scene, "c", "requests", &json!({"hard": 4}));
    let answer = send(&scene, "fourth", 701);
    assert_eq!(
        (&answer["capped"], answer["events"][0]["detail"].as_str().unwrap().contains("tokens")),
        (&json!(1), true),
        "{answer}"
    );
    assert_eq!(check(&scene, "c", "requests", 1)["used"], "3");
    // The id is free, for other content, too.
    assert_eq!(send(&scene, "fourth", 700)["accepted"], 1);
    assert_eq!(send(&scene, "fourth", 700)["duplicate"], 1);
    let value = |meter: &str| totals(&scene).iter().find(|row| row.0 == meter).map(|row| row.1.clone());
    let found = ["longest", "requests", "tokens"].map(|meter| value(meter).unwrap());
    assert_eq!(found, [json!("700"), json!("4"), json!("1000")]);
    let crossed = alerts(&scene, "meter=tokens");
    assert!(
        crossed.iter().any(|alert| alert["threshold"] == "90%" && alert["event"]["usage_event_id"] == "fourth"),
        "{crossed:?}"
    );
    println!("totals after the refused and the taken: {:?}", totals(&scene));
    scene.verify();
}
