//! A config file's text with its secrets blanked, for excerpts: what a report quotes goes to terminals and logs.
//!
//! | blanked | where |
//! | --- | --- |
//! | what follows a key called `secret`, `secrets`, or nearly so | to the end of the line, the list or the text |
//! | what follows `whsec_`, `password=` | to the end of the word |
//! | user and password of an address | between `://` and the last `@` |
//!
//! 1. It looks at lines, not at TOML: a secret in a line that cannot be read is one too.
//! 2. Every character keeps its place: offsets, lines and columns are those of the file.

use super::suggest;

/// Keys whose values are secret. Those that only say where a secret is are not.
const SECRET_KEYS: [&str; 3] = ["secret", "secrets", "password"];
const PLACE_KEYS: [&str; 2] = ["secret_file", "secret_credential"];
/// Words that are directly followed by something secret.
const PREFIXES: [&str; 2] = ["whsec_", "password="];
/// How examples name a user.
const EXAMPLE_USER: &str = "user:password";
/// What may span lines, and what ends it.
const BRACKETS: [(&str, &str); 3] = [("\"\"\"", "\"\"\""), ("'''", "'''"), ("[", "]")];

/// The text, as long as it was.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // What ends the value that the line before began.
    let mut until: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let from = if until.is_some() { Some(0) } else { secret_begins(line) };
        let within = from.map_or("", |from| &line[from..]);
        until = match until {
            Some(end) => (!within.contains(end)).then_some(end),
            None => opened(within.trim_start_matches(['=', ' ', '\t'])),
        };
        let mut hidden = vec![false; line.len()];
        if let Some(from) = from {
            hidden[from..].iter_mut().zip(line[from..].bytes()).for_each(|(hide, byte)| *hide = !is_structure(byte));
        }
        hide_words(line, &mut hidden);
        out.extend(blanked(line, &hidden));
    }
    out
}

/// A sentence that may quote a value: it has no keys, and names what it talks about.
pub fn masked_words(sentence: &str) -> String {
    let mut hidden = vec![false; sentence.len()];
    hide_words(sentence, &mut hidden);
    blanked(sentence, &hidden).collect()
}

fn blanked<'a>(text: &'a str, hidden: &'a [bool]) -> impl Iterator<Item = char> + 'a {
    text.char_indices().map(|(at, character)| if hidden[at] { blank(character) } else { character })
}

/// Where a line's secret begins: behind a key that is called so, with its `=` or at the line's beginning.
fn secret_begins(line: &str) -> Option<usize> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut at = 0;
    let mut first = true;
    while let Some(start) = line[at..].find(is_name).map(|start| at + start) {
        let end = line[start..].find(|c| !is_name(c)).map_or(line.len(), |end| start + end);
        let assigned = line[end..].trim_start_matches(['"', '\'', ' ', '\t']).starts_with('=');
        let name = &line[start..end];
        let secret = !PLACE_KEYS.contains(&name) && suggest::nearest(name, SECRET_KEYS).is_some();
        if secret && (first || assigned) {
            return Some(end);
        }
        (at, first) = (end, false);
    }
    None
}

/// What has to come for a value to end that begins here, if it does not end on this line.
fn opened(value: &str) -> Option<&'static str> {
    let (begin, end) = BRACKETS.into_iter().find(|(begin, _)| value.starts_with(begin))?;
    (!value[begin.len()..].contains(end)).then_some(end)
}

fn is_structure(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"=\"'[]{},".contains(&byte)
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '&' | ']' | '}')
}

fn hide_words(line: &str, hidden: &mut [bool]) {
    for prefix in PREFIXES {
        line.match_indices(prefix).for_each(|(at, _)| hide_word(line, at + prefix.len(), hidden));
    }
    line.match_indices("://").for_each(|(at, mark)| hide_user(line, at + mark.len(), hidden));
}

fn hide_word(line: &str, from: usize, hidden: &mut [bool]) {
    let end = line[from..].find(ends_word).map_or(line.len(), |end| from + end);
    hidden[from..end].fill(true);
}

fn hide_user(line: &str, from: usize, hidden: &mut [bool]) {
    let end = line[from..].find(['"', '\'', ' ', '\n']).map_or(line.len(), |end| from + end);
    let address = &line[from..end];
    match address.rfind('@') {
        Some(at) if address[..at] == *EXAMPLE_USER => {}
        Some(at) => hidden[from..from + at].fill(true),
        // The @ may be what is wrong with it: what follows the colon is a port, or a password.
        None => {
            let colon = address.find(':').filter(|_| !address.starts_with('['));
            if let Some(behind) = colon.map(|at| at + 1).filter(|behind| !is_port(&address[*behind..])) {
                hidden[from + behind..end].fill(true);
            }
        }
    }
}

/// Digits, and a path or a query, or nothing.
fn is_port(text: &str) -> bool {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    text[..end].bytes().all(|byte| byte.is_ascii_digit())
}

/// Of the same length, so that nothing moves.
fn blank(character: char) -> char {
    match character.len_utf8() {
        1 => '*',
        2 => '\u{b7}',
        3 => '\u{2022}',
        _ => '\u{1f533}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blanked_and_nothing_moves() {
        for (line, shown) in [
            ("secret = \"whsec_abc+/=\" # x", "secret = \"************\" * *"),
            ("  \"secret\" = 'ab'", "  \"secret\" = '**'"),
            ("sink.secret=abc", "sink.secret=***"),
            ("sectret = \"größe\"", "sectret = \"**\u{b7}\u{b7}*\""),
            ("secret abc", "secret ***"),
            ("secrets = [\"a\", \"b\"]", "secrets = [\"*\", \"*\"]"),
            ("url = \"postgres://user:password@host\"", "url = \"postgres://user:password@host\""),
            ("{ name = \"a\", secret = \"b\" }", "{ name = \"a\", secret = \"*\" }"),
            ("path = \"whsec_abc\"", "path = \"whsec_***\""),
            ("secret_file = \"/run/secrets/a\"", "secret_file = \"/run/secrets/a\""),
            ("secret_credential = \"a\"", "secret_credential = \"a\""),
            ("url = \"postgres://u:p@ss@host/db\"", "url = \"postgres://******@host/db\""),
            ("url = \"postgres://host/db?password=x&a=b\"", "url = \"postgres://host/db?password=***=*\""),
            ("url = \"postgres://u:pass.host/db\"", "url = \"postgres://u:************\""),
            ("url = \"https://host:8443/a:b\"", "url = \"https://host:8443/a:b\""),
            ("url = \"https://[::1]:8443/\"", "url = \"https://[::1]:8443/\""),
            ("url = \"https://host/@\"", "url = \"https://*****@\""),
            ("listen = \"127.0.0.1:80\"", "listen = \"127.0.0.1:80\""),
        ] {
            let found = masked(line);
            assert_eq!(found.len(), line.len(), "{line}");
            assert_eq!(found, shown, "{line}");
        }
    }

    #[test]
    fn a_sentence_is_left_but_for_what_it_quotes() {
        for (sentence, shown) in [
            ("`secret` begins with whsec_", "`secret` begins with whsec_"),
            ("unknown kind \"whsec_ab\"", "unknown kind \"whsec_**\""),
            ("unknown kind \"x://a:b@c\"", "unknown kind \"x://***@c\""),
        ] {
            assert_eq!(masked_words(sentence), shown);
        }
    }

    #[test]
    fn secrets_that_span_lines_are_blanked_to_their_end() {
        let text =
            "secrets = [\n  \"ab\",\n  \"cd\", # e\n]\nname = \"f\"\nsecret = \"\"\"\ngh\n\"\"\"\nkind = \"i\"\n";
        assert_eq!(
            masked(text),
            "secrets = [\n  \"**\",\n  \"**\", * *\n]\nname = \"f\"\nsecret = \"\"\"\n**\n\"\"\"\nkind = \"i\"\n"
        );
    }
}
