//! `meterd check-config` as an operator or a deploy script meets it: exit codes, streams, what is printed.

use std::path::Path;
use std::process::{Command, Output};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/meterd.toml");

/// In a directory of its own, so that no data directory lies about.
fn check_config(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command.current_dir(directory).arg("check-config").args(arguments).env_remove("NO_COLOR").output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn check_text(config: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("meterd.toml"), config).unwrap();
    check_config(directory.path(), &[&["--config", "meterd.toml"], arguments].concat())
}

const TWO_MISTAKES: &str = "[dedupe]\nretention = \"35d\"\n\n[[meter]]\nslug = \"a\"\nagregation = \"sum\"\n";

#[test]
fn the_shipped_config_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let output = check_config(directory.path(), &["--config", SHIPPED]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let summary = text(&output.stdout).strip_prefix(SHIPPED).unwrap();
    assert_eq!(
        summary,
        " is valid: 3 meters; listens on 127.0.0.1:8080, keeps its data in data
  requests    count   per 1h   UTC  from llm.completion
  tokens_in   sum     per 1h   UTC  from llm.completion
  tokens_out  sum     per 1h   UTC  from llm.completion
"
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "checking must not make anything");
}

#[test]
fn every_mistake_is_reported_at_once_and_the_exit_code_is_78() {
    let output = check_text(TWO_MISTAKES, &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), ""));
    assert_eq!(
        text(&output.stderr),
        "error: dedupe.retention (35d) is shorter than accept_past (32d) + accept_future (5m) + retry_horizon (3d) \
         = 35d 5m: an id would be forgotten while its event could still come again, and count twice
 --> meterd.toml:2:13
  |
2 | retention = \"35d\"
  |             ^^^^^
  = help: retention = \"36d\" or more

error: unknown key `agregation` in [[meter]]
 --> meterd.toml:6:1
  |
6 | agregation = \"sum\"
  | ^^^^^^^^^^
  = help: did you mean `aggregation`?

meterd.toml: 2 errors
"
    );
}

#[test]
fn errors_as_json_go_to_standard_output() {
    let output = check_text(TWO_MISTAKES, &["--json"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(78), ""));
    let errors: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        errors[1],
        serde_json::json!({
            "file": "meterd.toml", "line": 6, "column": 1, "key": "meter[0].agregation",
            "message": "unknown key `agregation` in [[meter]]", "help": "did you mean `aggregation`?"
        })
    );
    assert_eq!((errors.as_array().unwrap().len(), &errors[0]["key"]), (2, &"dedupe.retention".into()));
    let output = check_text("", &["--json"]);
    assert_eq!((output.status.code(), text(&output.stdout).trim()), (Some(0), "[]"));
}

#[test]
fn an_absent_file_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let output = check_config(directory.path(), &["--config", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        text(&output.stderr),
        "error: nowhere.toml cannot be read: No such file or directory (os error 2)
  = help: --config names the file; config/meterd.toml shows every option
"
    );
}

#[test]
fn a_flag_that_is_wrong_is_a_usage_error() {
    let output = check_text("", &["--listen", "0.0.0.0:80"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is not a loopback address"), "{}", text(&output.stderr));
}
