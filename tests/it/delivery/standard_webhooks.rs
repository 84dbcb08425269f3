//! What is signed here is verified by Standard Webhooks' own packages, from PyPI and npm, and what is not, is not.

use std::fs;
use std::path::Path;
use std::process::Command;

use meterd::delivery::Message;
use meterd::delivery::webhook::{Secret, body, sign};
use meterd::engine::{DeliveryId, OutboxRow, RowContent, UsageChange, UsageRow};
use meterd::env::{Clock, SystemClock};
use meterd::model::{Duration, Incarnation, OutboxPosition, Quantity, RowKind, Seq, Timestamp, Window};
use serde_json::{Value, json};

use crate::harness::skip;

const PYPI: &str = "standardwebhooks==1.1.0";
const NPM: &str = "standardwebhooks@1.1.1";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
const VERIFIED: &str = "verified";
const NO_MATCH: &str = "No matching signature found";

/// One line for each case: `verified`, or why not.
const PYTHON: &str = r#"
import json, sys
sys.path.insert(0, sys.argv[1])
from standardwebhooks import Webhook, WebhookVerificationError
for case in json.load(open(sys.argv[2], encoding="utf-8")):
    try:
        data = Webhook(case["secret"]).verify(case["body"].encode(), case["headers"])
        print("verified" if data == json.loads(case["body"]) else "altered")
    except WebhookVerificationError as error:
        print(error)
"#;
const NODE: &str = r#"
const { Webhook, WebhookVerificationError } = require(process.argv[2] + "/node_modules/standardwebhooks");
for (const c of JSON.parse(require("fs").readFileSync(process.argv[3], "utf8"))) {
  try {
    const data = new Webhook(c.secret).verify(Buffer.from(c.body), c.headers);
    console.log(JSON.stringify(data) === JSON.stringify(JSON.parse(c.body)) ? "verified" : "altered");
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    console.log(error.message);
  }
}
"#;

#[test]
fn signatures_verify_with_the_package_from_pypi() {
    let directory = tempfile::tempdir().unwrap();
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--timeout", "20", "--retries", "1"]);
    pip.arg("--target").arg(directory.path()).arg(PYPI);
    if can(&mut pip, "standardwebhooks from PyPI") {
        assert_verdicts("python3", PYTHON, directory.path());
    }
}

#[test]
fn signatures_verify_with_the_package_from_npm() {
    let directory = tempfile::tempdir().unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--fetch-timeout=20000", "--fetch-retries=1"]);
    npm.arg("--prefix").arg(directory.path()).arg(NPM);
    if can(&mut npm, "standardwebhooks from npm") {
        assert_verdicts("node", NODE, directory.path());
    }
}

/// Whether the package could be installed; says aloud why not.
fn can(install: &mut Command, what: &str) -> bool {
    let why = match install.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_error = |line: &&str| ["ERROR", "npm error", "npm ERR"].iter().any(|begin| line.starts_with(begin));
            said.lines().find(is_error).unwrap_or("it failed").to_owned()
        }
        Err(error) => format!("{}: {error}", install.get_program().display()),
    };
    skip(&format!("{what} cannot be installed here: {why}"));
    false
}

fn assert_verdicts(interpreter: &str, script: &str, packages: &Path) {
    let cases = cases();
    let at = |name: &str| packages.join(name);
    fs::write(at("verify.script"), script).unwrap();
    let written: Vec<&Value> = cases.iter().map(|(case, _)| case).collect();
    fs::write(at("cases.json"), serde_json::to_vec(&written).unwrap()).unwrap();
    let output =
        Command::new(interpreter).arg(at("verify.script")).arg(packages).arg(at("cases.json")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<&str> = verdicts.lines().collect();
    let expected: Vec<&str> = cases.iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(verdicts, expected);
}

/// Each with what a verifier is to say.
fn cases() -> Vec<(Value, &'static str)> {
    let now = SystemClock::new().now();
    let windows = message(RowKind::Windows, now);
    let adjustments = message(RowKind::Adjustments, now);
    let past = Message { now: now.saturating_sub(Duration::from_secs(600)), ..windows.clone() };
    let mut cases = vec![
        (case(OLD, &[OLD], &windows), VERIFIED),
        (case(NEW, &[NEW], &adjustments), VERIFIED),
        // While keys rotate either one will do.
        (case(OLD, &[NEW, OLD], &windows), VERIFIED),
        (case(NEW, &[NEW, OLD], &windows), VERIFIED),
        (case(OLD, &[NEW], &windows), NO_MATCH),
        (case(OLD, &[OLD], &past), "Message timestamp too old"),
    ];
    let mut tampered = case(OLD, &[OLD], &windows);
    tampered["body"] = json!(tampered["body"].as_str().unwrap().replacen("\"7\"", "\"8\"", 1));
    cases.push((tampered, NO_MATCH));
    let mut renamed = case(OLD, &[OLD], &windows);
    renamed["headers"]["webhook-id"] = json!("msg_00000001_1_8");
    cases.push((renamed, NO_MATCH));
    let mut moved = case(OLD, &[OLD], &windows);
    let later = now.saturating_add(Duration::from_secs(60)).millis() / 1_000;
    moved["headers"]["webhook-timestamp"] = json!(later.to_string());
    cases.push((moved, NO_MATCH));
    cases
}

/// A message signed with `signers`, for a receiver that knows `secret`.
fn case(secret: &str, signers: &[&str], message: &Message) -> Value {
    let signers: Vec<Secret> = signers.iter().map(|text| Secret::parse(text).unwrap()).collect();
    let body = body::json(message).unwrap();
    let signed = sign::sign(&message.id.to_string(), message.now, &body, &signers);
    let headers = json!({
        sign::HEADER_ID: signed.id,
        sign::HEADER_TIMESTAMP: signed.timestamp,
        sign::HEADER_SIGNATURE: signed.signature,
    });
    json!({ "secret": secret, "body": String::from_utf8(body.to_vec()).unwrap(), "headers": headers })
}

/// Rows with what JSON has to escape and what it has not.
fn message(kind: RowKind, now: Timestamp) -> Message {
    let rows = ["acme", "b\u{fc}cher \u{1f4da}", "quote \" backslash \\ line\nend \u{7f}"].map(|customer| UsageRow {
        change: match kind {
            RowKind::Adjustments => UsageChange::Adjusted { delta: Quantity::parse("-0.000000000001").ok() },
            _ => UsageChange::Final,
        },
        tenant: "default".into(),
        customer: customer.into(),
        meter: "tokens".into(),
        dimensions: vec![("model".into(), Some("m1".into())), ("region".into(), None)],
        window: Window { start: Timestamp::EPOCH, end: Timestamp::EPOCH.saturating_add(Duration::from_secs(3_600)) },
        value: Some(Quantity::parse("7").unwrap()),
        event_count: 3,
        revision: 1,
        incarnation: Incarnation(1),
        hash: [0xab; 32],
        at: now,
    });
    let id = DeliveryId { store: 1, incarnation: Incarnation(1), seq: Seq(7) };
    let position = OutboxPosition::new(Seq(7), 0);
    let rows = rows.map(|usage| OutboxRow { position, content: RowContent::Usage(usage) });
    Message { id, kind, planned_at: now, now, rows: rows.into() }
}
