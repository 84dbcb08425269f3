//! Secrets of sinks are in the config and nowhere else.

use std::fs;

use crate::delivery::scene::{QUICK, Scene, config, webhook};
use crate::harness::receiver::{Answer, Receiver, SECRET, url};
use crate::harness::{Home, METERD};

const PASSWORD: &str = "hunter2-and-more";

/// What must not be found: as it is written, and what it is without its prefix.
fn secrets() -> [String; 3] {
    [SECRET.to_owned(), SECRET["whsec_".len()..].trim_end_matches('=').to_owned(), PASSWORD.to_owned()]
}

fn assert_discreet(what: &str, text: &str) {
    for secret in secrets() {
        assert!(!text.contains(&secret), "{what} shows {secret}: {text}");
    }
}

fn table(more: &str) -> String {
    format!(
        "[[sink]]\nname = \"table\"\nkind = \"postgres\"\nsend = [\"adjustments\"]\ntable = \"usage\"\n\
         url = \"postgres://billing:{PASSWORD}@{}/books?sslmode=disable\"\n{more}",
        Receiver::nobody()
    )
}

#[test]
fn no_log_metric_answer_or_error_shows_a_secret() {
    let broken = Receiver::start(|_| Answer::Status(500));
    let sinks =
        [webhook("broken", &broken.url(), QUICK), webhook("away", &url(Receiver::nobody()), QUICK), table(QUICK)];
    let mut scene = Scene::start(&sinks.concat().replace("[[sink]]", "\n[[sink]]"));
    scene.feed(1);
    for sink in ["broken", "away", "table"] {
        scene.wait_until_dead(sink, 1);
    }
    for path in ["/metrics", "/v1/sinks", "/readyz?verbose", "/healthz", "/v1/deliveries", "/v1/deliveries?state=dead"]
    {
        assert_discreet(path, &scene.get(path).text);
    }
    for delivery in scene.rows("/v1/deliveries") {
        let path = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
        assert_discreet(&path, &scene.get(&path).text);
    }
    let target = scene.target();
    for command in [["sinks", "list"], ["deliveries", "list"]] {
        let output = std::process::Command::new(METERD).args(command).args(["--url", &target]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert_discreet("a command", &String::from_utf8_lossy(&said));
    }
    scene.stop();
    let log = scene.home.log();
    assert!(log.contains("broken"), "the log tells of what fails: {log}");
    assert_discreet("the log", &log);
}

#[test]
fn a_config_that_is_refused_does_not_show_its_secrets() {
    let good = webhook("hook", "https://billing.example/hooks", "") + &table("");
    let changes = [
        good.replace("b25lIGh1", "b25lIGh1 "),
        good.replace("url = \"https", "url = \"gopher"),
        good.replace("url = \"postgres", "url = \"mysql"),
        good.replace("sslmode=disable", "sslmode=perhaps"),
        good.replace("secret = ", "secrets = "),
        good.replace("secret = \"", "secret = [\""),
        good.replace("name = \"table\"", "name = \"hook\""),
        good.replace("@127", "127"),
        good.replace("table = \"usage\"", "table = \"us\\u0000age\""),
        good.replace("kind = \"postgres\"", "kind = \"oracle\""),
        good.replace("kind = \"postgres\"", "kind = \"webhook\""),
    ];
    for change in changes {
        assert_ne!(change, good);
        let home = Home::new(&config(&change));
        let (code, said) = home.refused();
        assert_eq!(code, Some(78), "{change}: {said}");
        assert_discreet(&change.replace(PASSWORD, "…").replace(SECRET, "…"), &said);
        let output = home.run("check-config", &[]);
        assert_discreet("check-config", &String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
}

#[test]
fn a_secret_in_a_file_is_read_and_not_shown() {
    let receiver = Receiver::willing();
    let scene = Scene::start("");
    let path = scene.home.place.config.with_file_name("secret");
    fs::write(&path, format!("{SECRET}\n")).unwrap();
    let sinks = webhook("hook", &receiver.url(), QUICK);
    let sinks = sinks.replace(&format!("secret = \"{SECRET}\""), &format!("secret_file = \"{}\"", path.display()));
    let mut scene = scene;
    scene.stop();
    scene.configure(&sinks);
    scene.start_again();
    scene.feed(1);
    scene.wait_until_all_arrived(&receiver);
    scene.stop();
    fs::write(&path, format!("{SECRET}!")).unwrap();
    let (code, said) = scene.home.refused();
    assert_eq!(code, Some(78), "{said}");
    assert_discreet("a refusal", &said);
    assert_discreet("the log", &scene.home.log());
}
