//! A Rust source as the checks see it: blanked of comments, strings and (for most checks) test code.

/// One file.
pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    /// As on disk.
    pub text: String,
    /// The same lines with comments, strings and character literals turned to spaces.
    pub code: String,
    /// `code` without items under `#[cfg(test)]`; empty for a file that only tests use.
    pub product: String,
}

/// One function: where it starts and how many lines it takes from `fn` to its closing brace.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank_text(text);
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/");
        let product = if is_test { String::new() } else { blank_tests(&code) };
        Self { path: path.into(), text: text.into(), code, product }
    }

    /// Files that this one declares under `#[cfg(test)] mod name;`, without `.rs` or `/mod.rs`.
    pub fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let folder = ["/mod", "/lib", "/main"].iter().find_map(|end| stem.strip_suffix(end)).unwrap_or(stem);
        let items = self.code.split("#[cfg(test)]").skip(1);
        let declared = items.filter_map(|item| {
            let rest = item.trim_start().trim_start_matches("pub").trim_start_matches("(crate)").trim_start();
            let rest = rest.strip_prefix("mod ")?;
            let name = ident(rest);
            rest[name.len()..].trim_start().starts_with(';').then(|| format!("{folder}/{name}"))
        });
        declared.collect()
    }

    /// Functions that have a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for start in words(&self.code, "fn") {
            let name = ident(self.code[start + 2..].trim_start());
            if name.is_empty() {
                continue;
            }
            let Some(open) = body_start(&self.code, start) else { continue };
            let end = matching(&self.code, open);
            let lines = self.code[start..end].matches('\n').count() + 1;
            found.push(Function { name: name.into(), line: line_of(&self.code, start), lines });
        }
        found
    }
}

/// The line number, from 1, of a byte offset.
pub fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Offsets where `word` stands alone.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].bytes().next_back().unwrap_or(b' ');
        let after = code[at + word.len()..].bytes().next().unwrap_or(b' ');
        let first_is_word = word.bytes().next().is_some_and(is_word);
        let last_is_word = word.bytes().next_back().is_some_and(is_word);
        let runs_on = (first_is_word && is_word(before)) || (last_is_word && is_word(after));
        !runs_on
    })
}

/// The identifier that `text` starts with, or nothing.
pub fn ident(text: &str) -> &str {
    let end = text.bytes().position(|b| !is_word(b)).unwrap_or(text.len());
    &text[..end]
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The brace that opens the body of the function at `start`; none for a declaration.
fn body_start(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// The offset just past the brace that closes the one at `open`.
fn matching(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks every item (module, function, impl, use) that follows `#[cfg(test)]`.
fn blank_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let from = at + "#[cfg(test)]".len();
        let end = match body_start(code, from) {
            Some(open) => matching(code, open),
            None => from + code[from..].find(';').map_or(code.len() - from, |offset| offset + 1),
        };
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    }
    String::from_utf8(out).expect("ASCII was replaced by ASCII")
}

/// Blanks comments, strings, byte and raw strings, and character literals, keeping every line break.
fn blank_text(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            out.push(if bytes[at].is_ascii() { bytes[at] } else { b'_' });
            at += 1;
            continue;
        }
        out.extend(bytes[at..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
        at = end;
    }
    String::from_utf8(out).expect("only ASCII is left")
}

/// Where the comment or literal that starts at `at` ends; `at` itself if there is none.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let starts_word = at == 0 || !is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => at + find(rest, b"\n").unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'r', b'"' | b'#', ..] if starts_word => raw_string(bytes, at, at + 1),
        [b'b', b'r', b'"' | b'#', ..] if starts_word => raw_string(bytes, at, at + 2),
        [b'"', ..] => quoted(bytes, at + 1, b'"'),
        [b'\'', b'\\', ..] => quoted(bytes, at + 1, b'\''),
        [b'\'', _, b'\'', ..] => at + 3,
        [b'\'', first, ..] if !first.is_ascii() => quoted(bytes, at + 1, b'\''),
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// `hashes_at` is just past the `r`. A raw identifier (`r#type`) is no literal.
fn raw_string(bytes: &[u8], start: usize, hashes_at: usize) -> usize {
    let hashes = bytes[hashes_at..].iter().take_while(|b| **b == b'#').count();
    let open = hashes_at + hashes;
    if bytes.get(open) != Some(&b'"') {
        return start;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    find(&bytes[open + 1..], &close).map_or(bytes.len(), |offset| open + 1 + offset + close.len())
}

fn quoted(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[test]
fn comments_strings_and_characters_are_blanked_and_lines_are_kept() {
    let text = "a // b\n\"c\\\"d\n\" e r#\"f\"g\"# h '\\'' i '{' j 'é' k<'l> /* m /* n */ o */ p b\"q\" r#type br\"s\"";
    let code = Source::new("src/model/a.rs", text).code;
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "h", "i", "j", "k<'l>", "p", "b", "r#type"]);
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn files_declared_for_tests_only_are_known() {
    let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\npub(crate) mod c;\n#[cfg(test)]\nmod d { }\n";
    assert_eq!(Source::new("src/store/mod.rs", text).test_modules(), ["src/store/b", "src/store/c"]);
    assert_eq!(Source::new("src/cli/send.rs", text).test_modules(), ["src/cli/send/b", "src/cli/send/c"]);
}

#[test]
fn test_code_is_not_product_code() {
    let text =
        "fn kept() {}\n#[cfg(test)]\nmod tests { fn gone() {} }\n#[cfg(test)]\nuse gone::too;\nfn kept_too() {}\n";
    let product = Source::new("src/model/a.rs", text).product;
    assert!(product.contains("kept") && product.contains("kept_too") && !product.contains("gone"), "{product}");
    assert_eq!(Source::new("src/model/a/tests.rs", text).product, "");
}
