//! A config file's text, and what a byte offset in it means to a reader: line and column.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::FILE_BYTES_MAX;
use super::report::{ConfigError, Report};

/// A file's name and text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// As the operator named it.
    pub file: String,
    pub text: String,
}

/// A place in a file, both parts counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Without the text: it may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Source {
    /// A byte order mark is left out, so that columns count from the first character an editor shows.
    pub fn new(file: impl Into<String>, text: &str) -> Self {
        Self { file: file.into(), text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned() }
    }

    /// Reads a file. Unreadable, too large or not UTF-8: a report of one error.
    pub fn read(path: &Path) -> Result<Self, Report> {
        let file = path.display().to_string();
        let refuse = |error: ConfigError| Report::new(Source::new(file.clone(), ""), vec![error]);
        let bytes = read_limited(path).map_err(|error| {
            let error = ConfigError::whole_file(format!("cannot be read: {error}"));
            refuse(error.with_help("--config names the file; config/meterd.toml shows every option"))
        })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(refuse(ConfigError::whole_file(format!("is longer than {} MiB", FILE_BYTES_MAX >> 20))));
        }
        std::str::from_utf8(&bytes).map(|text| Source::new(&file, text)).map_err(|error| {
            let source = Source { file: file.clone(), text: String::from_utf8_lossy(&bytes).into_owned() };
            let valid = error.valid_up_to();
            Report::new(source, vec![ConfigError::at(valid..valid + 1, "", "the file is not UTF-8 from here on")])
        })
    }

    /// Where a byte offset is. Offsets past the end are the end.
    pub fn position(&self, offset: usize) -> Position {
        let start = self.line_start(offset);
        let before = &self.text[..start];
        let column = self.text[start..].char_indices().take_while(|(at, _)| start + at < offset).count() + 1;
        Position { line: before.matches('\n').count() + 1, column }
    }

    /// The line a byte offset is on, without its line end, and the offset that it starts at.
    pub fn line(&self, offset: usize) -> (usize, &str) {
        let start = self.line_start(offset);
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        (start, line.strip_suffix('\r').unwrap_or(line))
    }

    fn line_start(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        self.text.as_bytes()[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
    }
}

/// At most one byte more than is allowed, so that a device or a mistaken path cannot fill the memory.
fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
