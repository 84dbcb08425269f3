//! The forms that totals take: JSON, NDJSON and CSV say the same, tags tell one body from the next.

use serde_json::Value;

use crate::billing::scene::{DAY, Http, NOW, Reply, Scene, assert_record_is, csv, event, hash};

const METERS: &str = "
[[meter]]
slug = \"tokens\"
aggregation = \"sum\"
allow_negative = true
dimensions = { model = \"$.model\" }
[[meter]]
slug = \"lowest\"
aggregation = \"min\"
";
const PATH: &str = "/v1/periods/2026-11/totals";
/// Names that CSV, JSON or a spreadsheet could trip over.
const CUSTOMERS: [&str; 9] =
    ["=cmd|' /C calc'!A0", "a,b\"c", "'quoted", "-5", "+1", "@sum", " blank ", "ünïcødé \u{1f4b8}", "\\n"];

fn filled() -> Scene {
    let scene = Scene::start(NOW, METERS);
    let mut events = Vec::new();
    for (n, customer) in CUSTOMERS.iter().enumerate() {
        let mut tokens = event(&format!("t{n}"), customer, "tokens", format!("-{n}.5"), NOW);
        tokens["dimensions"] = serde_json::json!({"model": format!("{customer}\r\n,\"")});
        events.push(tokens);
        events.push(event(&format!("l{n}"), customer, "lowest", n, NOW));
    }
    scene.accept(events, 0);
    scene
}

fn finalized() -> Scene {
    let scene = filled();
    scene.advance_to("2026-12-02T00:00:00Z");
    scene.wait_until_final("2026-11");
    scene
}

fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    reply.headers.get(name).map(|value| value.to_str().unwrap())
}

fn lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line ends, too");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The rows of all forms, whole and paged, which must be the same.
fn rows_of_every_form(http: &Http) -> Vec<Value> {
    let rows = http.rows(PATH);
    assert_eq!(lines(&http.get(&format!("{PATH}?format=ndjson")).text), rows);
    let records = csv(&http.get(&format!("{PATH}?format=csv")).text);
    assert_eq!(records.len(), rows.len());
    records.iter().zip(&rows).for_each(|(record, row)| assert_record_is(record, row));
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    for form in ["ndjson", "csv"].iter().cycle() {
        let reply = http.get(&format!("{PATH}?format={form}&limit=4{cursor}"));
        let at = paged.len();
        match *form {
            "csv" => {
                let records = csv(&reply.text);
                records.iter().zip(&rows[at..]).for_each(|(record, row)| assert_record_is(record, row));
                paged.extend(rows[at..at + records.len()].iter().cloned());
            }
            _ => paged.extend(lines(&reply.text)),
        }
        match header(&reply, "meterd-next-cursor") {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, rows, "a cursor goes on from one form to the other");
    rows
}

#[test]
fn ndjson_and_csv_are_json_row_by_row_while_open_when_final_and_adjusted() {
    let scene = filled();
    assert_eq!(rows_of_every_form(&scene).len(), 2 * CUSTOMERS.len());
    scene.advance_to("2026-12-02T00:00:00Z");
    scene.wait_until_final("2026-11");
    let before = rows_of_every_form(&scene);
    assert!(before.iter().all(|row| row["final"] == true && row["hash"] == hash(row)));
    scene.accept(vec![event("late", CUSTOMERS[0], "tokens", "-0.000000000001", NOW)], 1);
    let after = rows_of_every_form(&scene);
    assert_eq!(after.len(), before.len() + 1, "a row of its own for what names no model");
    assert!(after.iter().all(|row| row["hash"] == hash(row)));
}

#[test]
fn no_customer_becomes_a_formula_and_every_name_can_be_had_back_from_csv() {
    let scene = filled();
    let text = scene.get(&format!("{PATH}?format=csv&meter=lowest")).text;
    let cells = csv(&text).into_iter().map(|record| record[0].1.clone()).collect::<Vec<_>>();
    assert!(cells.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@'])), "{cells:?}");
    let mut names = cells.iter().map(|cell| cell.strip_prefix('\'').unwrap_or(cell)).collect::<Vec<_>>();
    let mut expected = CUSTOMERS.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let tokens = csv(&scene.get(&format!("{PATH}?format=csv&meter=tokens&customer=-5")).text);
    let value = tokens[0].iter().find(|(column, _)| column == "value").unwrap();
    assert_eq!(value.1, "-3.5", "a negative number stays a number");
}

#[test]
fn a_name_with_a_line_break_never_becomes_a_customer() {
    let scene = filled();
    let answer = scene.send(&event("x", "ü\n", "tokens", 1, NOW));
    assert_eq!((&answer["accepted"], &answer["events"][0]["code"]), (&0.into(), &"invalid_field".into()), "{answer}");
}

#[test]
fn the_same_page_has_the_same_tag_and_is_not_sent_again_until_it_changes() {
    let scene = filled();
    for path in [PATH, &format!("{PATH}?limit=3"), &format!("{PATH}?format=csv&limit=3"), "/v1/periods/current/totals"]
    {
        let first = scene.get(path);
        let tag = header(&first, "etag").unwrap_or_else(|| panic!("no tag: {path}")).to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "a strong tag: {tag}");
        assert_eq!(header(&first, "cache-control"), Some("private, no-cache"));
        assert_eq!(header(&first, "vary"), Some("accept"));
        for list in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = scene.call("GET", path, &[("if-none-match", &list)], "");
            assert_eq!((again.status, again.text.as_str()), (304, ""), "{path} {list}");
            assert_eq!(header(&again, "etag"), Some(tag.as_str()));
            assert_eq!(header(&again, "content-type"), None);
        }
        let other = scene.call("GET", path, &[("if-none-match", "\"other\"")], "");
        assert_eq!((other.status, &other.text), (200, &first.text));
    }
    let tag = |path: &str| header(&scene.get(path), "etag").unwrap().to_owned();
    let (before, form) = (tag(PATH), tag(&format!("{PATH}?format=ndjson&limit=1000")));
    assert_ne!(before, form, "another form is another body");
    scene.accept(vec![event("more", CUSTOMERS[0], "lowest", 5, NOW)], 0);
    let changed = scene.call("GET", PATH, &[("if-none-match", &before)], "");
    assert_eq!(changed.status, 200);
    assert_ne!(header(&changed, "etag"), Some(before.as_str()), "an event that changes a count changes the tag");
}

#[test]
fn a_stream_has_a_tag_only_once_the_period_is_final_and_another_one_with_each_adjustment() {
    let scene = filled();
    let stream = format!("{PATH}?format=ndjson");
    let open = scene.get(&stream);
    assert_eq!((header(&open, "etag"), header(&open, "cache-control")), (None, Some("no-store")));
    scene.advance_to("2026-12-02T00:00:00Z");
    scene.wait_until_final("2026-11");
    let mut tags = std::collections::BTreeSet::new();
    for (n, customer) in CUSTOMERS.iter().enumerate().take(3) {
        let first = scene.get(&stream);
        let tag = header(&first, "etag").expect("a final period has a tag").to_owned();
        assert_eq!(header(&first, "cache-control"), Some("private, no-cache"));
        let again = scene.call("GET", &stream, &[("if-none-match", &tag)], "");
        assert_eq!((again.status, again.text.as_str(), header(&again, "etag")), (304, "", Some(tag.as_str())));
        scene.advance(DAY);
        assert_eq!(scene.call("GET", &stream, &[("if-none-match", &tag)], "").status, 304, "it does not age");
        let page = header(&scene.get(PATH), "etag").unwrap().to_owned();
        assert!(tags.insert(tag.clone()), "a tag came again");
        scene.accept(vec![event(&format!("late {n}"), customer, "tokens", 1, NOW)], 1);
        assert_ne!(header(&scene.get(PATH), "etag"), Some(page.as_str()));
        assert_eq!(scene.call("GET", &stream, &[("if-none-match", &tag)], "").status, 200);
        scene.wait_until_final("2026-11");
    }
}

#[test]
fn head_says_what_get_would_without_a_body() {
    for scene in [filled(), finalized()] {
        for query in ["", "?format=csv", "?format=ndjson", "?limit=2&format=ndjson", "?limit=2"] {
            let path = format!("{PATH}{query}");
            let (get, head) = (scene.get(&path), scene.call("HEAD", &path, &[], ""));
            assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
            for name in ["content-type", "etag", "cache-control", "vary", "meterd-next-cursor"] {
                assert_eq!(header(&head, name), header(&get, name), "{path} {name}");
            }
            if let Some(tag) = header(&get, "etag") {
                assert_eq!(scene.call("HEAD", &path, &[("if-none-match", tag)], "").status, 304, "{path}");
            }
        }
        let missing = scene.call("HEAD", "/v1/periods/2026-13/totals", &[], "");
        assert_eq!((missing.status, missing.text.as_str()), (400, ""));
    }
}

#[test]
fn accept_picks_the_form_and_the_parameter_wins_over_it() {
    let scene = filled();
    let (json, lines, table) = ("application/json", "application/x-ndjson", "text/csv; charset=utf-8; header=present");
    for (accept, query, expected) in [
        ("text/csv", "", table),
        ("application/x-ndjson", "", lines),
        ("application/jsonl;q=0.9, text/csv;q=0.8", "", lines),
        ("*/*", "", json),
        ("application/json, text/csv", "", json),
        ("text/html", "", json),
        ("text/csv", "?format=json", json),
        ("application/json", "?format=csv", table),
        ("text/csv", "?format=ndjson&limit=1", lines),
    ] {
        let reply = scene.call("GET", &format!("{PATH}{query}"), &[("accept", accept)], "");
        assert_eq!((reply.status, header(&reply, "content-type")), (200, Some(expected)), "{accept} {query}");
    }
}
