//! Secrets, and addresses that hold one: from the config file, from a file of their own, from systemd's credentials.
//!
//! | key | is |
//! | --- | --- |
//! | `secret`, `secrets` | the secret itself |
//! | `secret_file`, `url_file` | a path |
//! | `secret_credential`, `url_credential` | a name in `$CREDENTIALS_DIRECTORY` (`LoadCredential=` of a unit) |
//!
//! 1. No refusal quotes what a file holds, nor a value that looks as if it were in the wrong key.
//! 2. A file has one secret on each line, the newest first; blank lines do not count.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Errors, Item, Refusal};
use crate::delivery::webhook::Secret;
use crate::delivery::webhook::sign::SECRETS_MAX;

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;
const HELP: &str = "whsec_ and 24 to 64 random bytes in base64: echo \"whsec_$(openssl rand -base64 32)\" makes one";

pub fn secret(item: &Item<'_>) -> Result<Vec<Secret>, Refusal> {
    parse(item.text("text that begins with whsec_")?, &format!("`{}`", item.name())).map(|secret| vec![secret])
}

pub fn list(secrets: &mut Vec<Secret>, item: &Item<'_>, errors: &mut Errors) {
    let values = match item.array("a list of secrets, the newest first") {
        Ok(values) => values,
        Err(refusal) => return errors.refuse(item, refusal),
    };
    if let Err(refusal) = check_count(values.len(), item.name()) {
        errors.refuse(item, refusal);
    }
    for (index, value) in values.iter().enumerate() {
        let value = Item::new(format!("{}[{index}]", item.key), item.key_span.clone(), value);
        match secret(&value) {
            Ok(mut secret) => secrets.append(&mut secret),
            Err(refusal) => errors.refuse(&value, refusal),
        }
    }
}

pub fn secret_file(item: &Item<'_>) -> Result<Vec<Secret>, Refusal> {
    lines(&file(item)?, item.name())
}

pub fn secret_credential(item: &Item<'_>, directory: Option<&Path>) -> Result<Vec<Secret>, Refusal> {
    lines(&credential(item, directory)?, item.name())
}

pub fn url_file(item: &Item<'_>) -> Result<String, Refusal> {
    file(item).map(|text| text.trim().to_owned())
}

pub fn url_credential(item: &Item<'_>, directory: Option<&Path>) -> Result<String, Refusal> {
    credential(item, directory).map(|text| text.trim().to_owned())
}

/// `subject` is what the refusal is about.
fn parse(text: &str, subject: &str) -> Result<Secret, Refusal> {
    Secret::parse(text.trim()).map_err(|why| Refusal::new(format!("{subject}: {why}")).with_help(HELP))
}

fn lines(text: &str, name: &str) -> Result<Vec<Secret>, Refusal> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    check_count(lines.clone().count(), name)?;
    lines.map(|line| parse(line, &format!("what `{name}` leads to"))).collect()
}

fn check_count(count: usize, name: &str) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::new(format!("`{name}` holds no secret")).with_help(HELP)),
        1..=SECRETS_MAX => Ok(()),
        _ => Err(Refusal::new(format!("`{name}` holds {count} secrets, and {SECRETS_MAX} are the most"))),
    }
}

fn file(item: &Item<'_>) -> Result<String, Refusal> {
    let text = item.text("a path")?;
    check_is_place(text, item.name())?;
    read(Path::new(text)).map_err(|why| Refusal::new(format!("`{}` cannot be read: {why}: {text}", item.name())))
}

fn credential(item: &Item<'_>, directory: Option<&Path>) -> Result<String, Refusal> {
    let (name, text) = (item.name(), item.text("a credential's name")?);
    check_is_place(text, name)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !(1..=255).contains(&text.len()) || text.starts_with('.') || !text.chars().all(legal) {
        let refusal = Refusal::new(format!("`{name}` must be a credential's name, and \"{text}\" is none"));
        return Err(refusal.with_help(format!("letters, digits, . _ and -; a path goes in `{}`", other(name))));
    }
    let Some(directory) = directory else {
        let refusal = Refusal::new(format!("`{name}` needs systemd: $CREDENTIALS_DIRECTORY is not set"));
        return Err(refusal.with_help(format!("LoadCredential={text}:… in the unit sets it; or use `{}`", other(name))));
    };
    read(&directory.join(text)).map_err(|why| {
        let refusal = Refusal::new(format!("`{name}` cannot be read: {why}: {text} in $CREDENTIALS_DIRECTORY"));
        refusal.with_help(format!("LoadCredential={text}:… in the unit puts it there"))
    })
}

/// The key for a path.
fn other(name: &str) -> &'static str {
    if name.starts_with("url") { "url_file" } else { "secret_file" }
}

/// A value that is the secret itself, where its place is meant, must not be quoted.
fn check_is_place(text: &str, name: &str) -> Result<(), Refusal> {
    let itself = if name.starts_with("url") { "url" } else { "secret" };
    if text.contains("whsec_") || text.contains("://") {
        let refusal = Refusal::new(format!("`{name}` says where the {itself} is, and this looks like the {itself}"));
        return Err(refusal.with_help(format!("put it into `{itself}`, or into a file of its own")));
    }
    if text.is_empty() || text.contains('\0') {
        return Err(Refusal::new(format!("`{name}` must name a file")));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {} KiB", FILE_BYTES_MAX >> 10));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}
