use super::*;

fn scan(text: &str) -> Result<Tape<'_>, JsonError> {
    let mut tape = Tape::default();
    let mut scanner = Scanner::new(text);
    scanner.value(&mut tape, 0)?;
    scanner.end()?;
    Ok(tape)
}

/// The tape as serde_json would hold it, to compare the two.
fn to_serde(item: Item<'_, '_>) -> serde_json::Value {
    match item.value() {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(text) => serde_json::from_str(text).unwrap(),
        Value::Text(text) => text.as_ref().into(),
        Value::Array => item.children().map(to_serde).collect(),
        Value::Object => {
            serde_json::Value::Object(item.children().map(|child| (child.key().to_string(), to_serde(child))).collect())
        }
    }
}

#[test]
fn reads_every_kind_of_value_and_finds_members_by_name() {
    let text = r#" {"a":[1,-2.50e+3,{"b":null}],"é\n":"\u00e9\ud83d\ude00\/","t":true,"f":false,"e":{},"x":[]} "#;
    let tape = scan(text).unwrap();
    let root = tape.root();
    assert_eq!(to_serde(root), serde_json::from_str::<serde_json::Value>(text).unwrap());
    assert_eq!(root.member("é\n").unwrap().value(), &Value::Text("é😀/".into()));
    let numbers: Vec<_> = root.member("a").unwrap().children().map(|item| item.value().clone()).collect();
    assert_eq!(numbers, [Value::Number("1"), Value::Number("-2.50e+3"), Value::Object]);
    assert_eq!(root.member("missing").is_none(), root.member("t").unwrap().member("x").is_none());
}

#[test]
fn strings_without_escapes_borrow_from_the_input() {
    let tape = scan(r#"{"name":"größe and more than eight bytes"}"#).unwrap();
    let member = tape.root().children().next().unwrap();
    assert!(matches!(member.key(), Cow::Borrowed("name")));
    assert!(matches!(member.value(), Value::Text(Cow::Borrowed(_))));
}

#[test]
fn says_what_is_wrong_and_at_which_byte() {
    use Fault::*;
    for (text, offset, fault) in [
        ("", 0, UnexpectedEnd),
        ("  ", 2, UnexpectedEnd),
        ("{", 1, UnexpectedEnd),
        ("{\"a\"", 4, UnexpectedEnd),
        ("{\"a\":1", 6, UnexpectedEnd),
        ("[1,", 3, UnexpectedEnd),
        ("\"abc", 4, UnexpectedEnd),
        ("-", 1, UnexpectedEnd),
        ("1.", 2, UnexpectedEnd),
        ("nul", 0, ExpectedValue),
        ("NaN", 0, ExpectedValue),
        ("[Infinity]", 1, ExpectedValue),
        ("[1,]", 3, ExpectedValue),
        ("[,1]", 1, ExpectedValue),
        ("'a'", 0, ExpectedValue),
        ("+1", 0, ExpectedValue),
        (".5", 0, ExpectedValue),
        ("\u{feff}{}", 0, ExpectedValue),
        ("// x", 0, ExpectedValue),
        ("{a:1}", 1, ExpectedName),
        ("{\"a\":1,}", 7, ExpectedName),
        ("{\"a\" 1}", 5, ExpectedColon),
        ("[1 2]", 3, ExpectedComma),
        ("{\"a\":1]", 6, ExpectedComma),
        ("[1}", 2, ExpectedComma),
        ("01", 1, BadNumber),
        ("-01", 2, BadNumber),
        ("1.e5", 2, BadNumber),
        ("1e+x", 3, BadNumber),
        ("0x10", 1, TrailingText),
        ("1 1", 2, TrailingText),
        ("{} x", 3, TrailingText),
        ("truex", 4, TrailingText),
        ("\"\\x\"", 1, BadEscape),
        ("\"\\u12g4\"", 1, BadEscape),
        ("\"ab\\ud800\"", 3, BadEscape),
        ("\"\\ud800\\u0041\"", 1, BadEscape),
        ("\"\\udc00\"", 1, BadEscape),
        ("\"a\nb\"", 2, ControlCharacter),
        ("\"123456789\u{1}\"", 10, ControlCharacter),
        ("\"\\n\u{0}\"", 3, ControlCharacter),
    ] {
        assert_eq!(scan(text).unwrap_err(), JsonError { offset, fault }, "{text:?}");
    }
}

#[test]
fn refuses_a_name_twice_in_one_object_at_any_depth_and_however_it_is_written() {
    let wide = |last: &str| {
        let members: Vec<String> = (0..100).map(|i| format!("\"k{i}\":{{}}")).collect();
        format!("{{{},\"{last}\":1}}", members.join(","))
    };
    for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"x":[{"y":{"":1,"":2}}]}"#, &wide("k57")] {
        assert_eq!(scan(text).unwrap_err().fault, Fault::DuplicateName, "{text}");
    }
    for text in [r#"{"a":{"a":{"a":1}},"A":[{"b":1},{"b":1}]}"#, &wide("k100")] {
        assert!(scan(text).is_ok(), "{text}");
    }
}

#[test]
fn nests_sixty_four_deep_and_no_deeper() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(scan(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(scan(&nested(DEPTH_MAX + 1)).unwrap_err().fault, Fault::TooDeep);
        assert_eq!(scan(&open.repeat(1_000_000)).unwrap_err().fault, Fault::TooDeep);
    }
    let mut tape = Tape::default();
    assert!(Scanner::new("{}").value(&mut tape, DEPTH_MAX).is_err(), "the depth around the value counts");
}

#[test]
fn holds_a_bounded_number_of_values() {
    let array = |values: usize| format!("[{}1]", "1,".repeat(values - 1));
    assert!(scan(&array(VALUES_MAX - 1)).is_ok());
    assert_eq!(scan(&array(VALUES_MAX)).unwrap_err().fault, Fault::TooManyValues);
}

#[test]
fn judges_mangled_texts_as_serde_json_does() {
    let seed_texts = [
        r#"{"usage_event_id":"e-1","customer":"c\u00e9","quantity":-12.50e-3,"dimensions":{"m":"gpt","n":[1,2,{"x":null}]}}"#,
        r#"[{"a":true,"b":false},"\ud83d\ude00 \" \\ \/ \b",0.1,1E5,{},[],""]"#,
    ];
    let seed = 0x6d65_7465;
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..60_000 {
        let mut bytes = rng.choice(seed_texts).unwrap().as_bytes().to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len().max(1));
            match rng.u8(..4) {
                _ if bytes.is_empty() => {}
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = *rng.choice(b"{}[],:\"\\0129.eE+-tfnu \n\x00a").unwrap(),
                2 => bytes.insert(at, rng.u8(..128)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        let theirs = serde_json::from_str::<serde_json::Value>(text);
        match (scan(text), theirs) {
            (Ok(tape), Ok(theirs)) => {
                taken += 1;
                assert_eq!(to_serde(tape.root()), theirs, "seed {seed}, round {round}: {text:?}");
            }
            (Err(error), theirs) => {
                refused += 1;
                let is_ours_alone = error.fault == Fault::DuplicateName;
                assert!(is_ours_alone || theirs.is_err(), "seed {seed}, round {round}: {text:?}: {error}");
                assert!(error.offset <= text.len());
            }
            // serde_json refuses numbers beyond an f64; we keep their text.
            (Ok(_), Err(theirs)) => assert!(theirs.to_string().contains("number out of range"), "{text:?}: {theirs}"),
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
}
