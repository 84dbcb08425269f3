use super::*;

#[test]
fn syntax_errors_do_not_hide_the_others_and_a_line_gets_only_one() {
    let server = "[server]\nbody_timeout = 30s\nlisen = 1\nidle_timeout = \"0s\"\n\n";
    let text = format!("{server}[ingest]\naccept_past = \"400d\"\nmax_events = 08\n[[meter]]\n");
    assert_eq!(
        errors(&text).iter().map(|error| error.split(": ").next().unwrap()).collect::<Vec<_>>(),
        [
            "2:16 ",
            "3:1 server.lisen",
            "4:16 server.idle_timeout",
            "7:15 dedupe.retention",
            "8:14 ",
            "9:1 meter[0].slug"
        ]
    );
}

#[test]
fn nothing_is_said_about_what_a_broken_line_may_have_held() {
    for (text, places) in [
        ("[ingest\naccept_past = \"400d\"", &["1:8"][..]),
        ("[[meter]]\nslug = \"a\"\n[[meter]\nslug = \"b\"\nwindow = \"7m\"\nlate = 1m\n[log]\nx = 1", &["3:9", "8:1"]),
        ("[[meter]]\nslug \"a\"\n[log]\nlevel = \"x\"", &["2:6", "4:9"]),
        ("[ingest]\naccept_past = \"400d\"\n[dedupe]\nretention \"500d\"", &["4:11"]),
        ("[[meter]]\nslug = \"a\"\ndimensions = { model \"$.m\" }\n", &["3:22"]),
    ] {
        let found = errors(text);
        let found: Vec<&str> = found.iter().map(|error| error.split(' ').next().unwrap()).collect();
        assert_eq!(found, places, "{text}");
    }
}

#[test]
fn a_value_that_is_never_closed_is_shown_where_it_begins_and_costs_no_more_than_itself() {
    for value in ["[1,", "[1,\n  2,\n", "{ a = 1,", "{ a = 1", "\"\"\"abc", "'''abc\nd"] {
        let text = format!("[server]\nlisten = {value}\nlisen = 1\n[log]\nlevel = \"x\"");
        let found = errors(&text);
        assert_eq!(found[0], "2:10 : not TOML: what begins here is never closed", "{value}");
        let [_, unknown, level] = &found[..] else { panic!("{found:#?}") };
        assert!(unknown.ends_with("server.lisen: unknown key `lisen` in [server]"), "{unknown}");
        assert!(level.ends_with("log.level: unknown level \"x\""), "{level}");
    }
}

#[test]
fn a_key_given_twice_is_named() {
    assert_eq!(errors("[log]\nlevel = \"info\"\nlevel = \"warn\""), ["3:1 : `level` is given twice"]);
    assert_eq!(errors("[log]\n[log]"), ["2:2 : `log` is given twice"]);
}

#[test]
fn an_error_shows_its_line_with_a_caret_under_what_is_wrong() {
    let report = parse("# größe\n[log]\n\tlevel = \"infos\" # ünï\r\n[[meter]]\nslug = \"ä\"").unwrap_err();
    assert_eq!(
        report.render(false),
        "error: unknown level \"infos\"
 --> meterd.toml:3:10
  |
3 | \tlevel = \"infos\" # ünï
  | \t        ^^^^^^^
  = help: did you mean \"info\"? It may be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"

error: \"ä\" is no slug
 --> meterd.toml:5:8
  |
5 | slug = \"ä\"
  |        ^^^
  = help: [a-z][a-z0-9_]{0,62}: a lower-case letter, then up to 62 lower-case letters, digits or _

meterd.toml: 2 errors
"
    );
    assert!(report.render(true).contains("\x1b[1;31merror\x1b[0m"));
    assert_eq!(report.to_string(), report.render(false).trim_end());
}

#[test]
fn a_long_line_is_cut_around_the_caret_and_control_characters_are_not_printed() {
    let padding = "x".repeat(500);
    let text = format!("[log]\n\"\x1b[2J\" = 1\n\x1b[2J\n{padding} = \"{padding}\"\nlevel = \"\\u001b[2J\"");
    let rendered = parse(&text).unwrap_err().render(false);
    assert!(!rendered.contains('\x1b'), "{rendered}");
    assert!(rendered.lines().filter(|line| line.contains(" | ")).all(|line| line.chars().count() < 130), "{rendered}");
    let long = format!("[server]\nlisten = \"{padding}\"");
    let rendered = parse(&long).unwrap_err().render(false);
    assert!(rendered.lines().nth(3).unwrap().ends_with('…'), "{rendered}");
}

#[test]
fn an_error_as_json_has_its_place_or_null() {
    let report = parse("[log]\nlevel = \"infos\"").unwrap_err();
    let help = "did you mean \"info\"? It may be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    assert_eq!(
        report.to_json(),
        serde_json::json!([{
            "file": "meterd.toml", "line": 2, "column": 9, "key": "log.level",
            "message": "unknown level \"infos\"", "help": help
        }])
    );
    let absent = Config::load(Path::new("/nowhere/meterd.toml")).unwrap_err().to_json();
    assert_eq!((&absent[0]["line"], &absent[0]["column"]), (&serde_json::Value::Null, &serde_json::Value::Null));
}

#[test]
fn a_file_that_is_absent_too_long_or_not_utf_8_is_one_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meterd.toml");
    let message = || Config::load(&path).unwrap_err().errors()[0].message.clone();
    assert!(message().starts_with("cannot be read: "), "{}", message());
    std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
    assert_eq!(message(), "is longer than 4 MiB");
    std::fs::write(&path, b"[log]\n# caf\xe9\n").unwrap();
    assert_eq!(message(), "the file is not UTF-8 from here on");
    let report = Config::load(&path).unwrap_err();
    assert!(report.render(false).contains(":2:6\n"), "{report}");
    std::fs::write(&path, b"\xef\xbb\xbf[log]\r\nlevel = \"debug\"\r\n").unwrap();
    assert_eq!(Config::load(&path).unwrap().0.log.level, LogLevel::Debug);
}

#[test]
fn no_text_makes_it_panic() {
    let good = shipped();
    let mut rng = fastrand::Rng::with_seed(7);
    let scraps = [
        "[",
        "]",
        "\"",
        "'''",
        "\"\"\"",
        "=",
        "{",
        "}",
        ",",
        ".",
        "\n",
        "\0",
        "é",
        "[[meter]]\n",
        "-1",
        "true",
        "0x",
        "#",
    ];
    for _ in 0..300 {
        let mut text = good.clone();
        for _ in 0..rng.usize(1..6) {
            let mut at = rng.usize(..text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match rng.usize(..3) {
                0 => text.truncate(at.max(1)),
                1 => text.insert_str(at, rng.choice(scraps).unwrap()),
                _ => drop(text.remove(at)),
            }
        }
        if let Err(report) = parse(&text) {
            assert!(!report.errors().is_empty());
            assert!(!report.render(true).is_empty() && report.to_json().is_array());
        }
    }
}
