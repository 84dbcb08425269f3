//! One value of the file: everything that is said about types, ranges and choices is said here, once.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::report::ConfigError;
use super::suggest;
use crate::model::units::{self, UnitError};
use crate::model::{Duration, Quantity};

/// Why a value was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub help: Option<String>,
}

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A key's value and where both stand.
pub struct Item<'a> {
    /// The full name, like `server.listen`.
    pub key: String,
    pub key_span: Range<usize>,
    pub span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    pub fn new(key: String, key_span: Range<usize>, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { key, key_span, span: value.span(), value: value.get_ref() }
    }

    /// The last part of the key.
    pub fn name(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or(&self.key)
    }

    pub fn error(&self, refusal: Refusal) -> ConfigError {
        let Refusal { message, help } = refusal;
        ConfigError { span: Some(self.span.clone()), key: self.key.clone(), message, help }
    }

    pub fn text(&self, expected: &str) -> Result<&'a str, Refusal> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type(expected)),
        }
    }

    pub fn boolean(&self) -> Result<bool, Refusal> {
        let refusal = || self.wrong_type("true or false");
        self.value.as_bool().ok_or_else(|| match self.value.as_str() {
            Some(text @ ("true" | "false")) => refusal().with_help(format!("without quotes: {} = {text}", self.name())),
            _ => refusal(),
        })
    }

    pub fn table(&self, expected: &str) -> Result<&'a DeTable<'a>, Refusal> {
        self.value.as_table().ok_or_else(|| self.wrong_type(expected))
    }

    pub fn array(&self, expected: &str) -> Result<&'a DeArray<'a>, Refusal> {
        self.value.as_array().ok_or_else(|| self.wrong_type(expected))
    }

    /// The digits of a decimal: a text, as it stands, or a whole number. What TOML calls a float is refused, whatever it
    /// is: a reader that takes it for one has lost digits.
    pub fn decimal(&self, expected: &str) -> Result<String, Refusal> {
        match self.value {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err(Refusal::new(format!("`{}` is out of range: {integer}", self.name()))),
            },
            DeValue::Float(float) => {
                let refusal = self.wrong_type(expected);
                let key = self.name().split('[').next().unwrap_or_default();
                Err(match Quantity::parse(float.as_str()) {
                    Ok(quantity) if key == self.name() => {
                        refusal.with_help(format!("in quotes, so that it stays exact: {key} = \"{quantity}\""))
                    }
                    Ok(quantity) => refusal.with_help(format!("in quotes, so that it stays exact: \"{quantity}\"")),
                    Err(_) => refusal,
                })
            }
            _ => Err(self.wrong_type(expected)),
        }
    }

    /// A whole number within a range.
    pub fn integer<N>(&self, range: RangeInclusive<N>) -> Result<N, Refusal>
    where
        N: Copy + Display + PartialOrd + TryFrom<i128>,
    {
        let DeValue::Integer(integer) = self.value else { return Err(self.wrong_type("a whole number")) };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| N::try_from(n).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let help = format!("from {} to {}", range.start(), range.end());
            Refusal::new(format!("`{}` is out of range: {integer}", self.name())).with_help(help)
        })
    }

    /// A duration within a range, written as in the file: `"100ms"..="1h"`.
    pub fn duration(&self, shortest: &str, longest: &str) -> Result<Duration, Refusal> {
        const EXPECTED: &str = "a duration like \"250ms\", \"10s\", \"5m\", \"1h\", \"32d\" or \"1w\"";
        let name = self.name();
        let text = self.text(EXPECTED).map_err(|refusal| match self.value {
            DeValue::Integer(number) => refusal.with_help(format!("with a unit, in quotes: {name} = \"{number}s\"")),
            _ => refusal,
        })?;
        let duration = units::duration(text).map_err(|error| match error {
            UnitError::Negative => Refusal::new(format!("`{name}` must be longer than zero, and {text} is negative")),
            UnitError::MissingUnit => Refusal::new(format!("`{name}` has no unit: \"{text}\"")).with_help(format!(
                "write \"{0}s\" for seconds, or \"{0}ms\", \"{0}m\", \"{0}h\", \"{0}d\"",
                text.trim()
            )),
            UnitError::UnknownUnit => Refusal::new(format!("`{name}` has an unknown unit: \"{text}\""))
                .with_help("the units are ms, s, m, h, d and w; one number and one unit"),
            UnitError::NotANumber => Refusal::new(format!("`{name}` must be {EXPECTED}, and \"{text}\" is none"))
                .with_help("one whole number and one unit: ms, s, m, h, d or w"),
            UnitError::TooLarge => Refusal::new(format!("`{name}` is too long: \"{text}\"")),
        })?;
        let bound = |text| units::duration(text).expect("a bound in the table of keys is a duration");
        if duration == Duration::ZERO && bound(shortest) > Duration::ZERO {
            return Err(Refusal::new(format!("`{name}` must be longer than zero"))
                .with_help(format!("from \"{shortest}\" to \"{longest}\"")));
        }
        if !(bound(shortest)..=bound(longest)).contains(&duration) {
            return Err(Refusal::new(format!("`{name}` is out of range: \"{text}\""))
                .with_help(format!("from \"{shortest}\" to \"{longest}\"")));
        }
        Ok(duration)
    }

    /// A size in bytes within a range, written as in the file: `"1KiB"..="64MiB"`.
    pub fn size<N: TryFrom<u64>>(&self, smallest: &str, largest: &str) -> Result<N, Refusal> {
        const EXPECTED: &str = "a size like \"8MiB\", \"512KiB\" or \"1GiB\", or a number of bytes";
        let name = self.name();
        let (text, size) = match self.value {
            DeValue::Integer(integer) => {
                let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
                let negative = if number < 0 { UnitError::Negative } else { UnitError::TooLarge };
                (integer.to_string(), u64::try_from(number).map_err(|_| negative))
            }
            _ => self.text(EXPECTED).map(|text| (format!("\"{text}\""), units::size(text)))?,
        };
        let range = format!("from \"{smallest}\" to \"{largest}\"");
        let out_of_range = || Refusal::new(format!("`{name}` is out of range: {text}")).with_help(range.clone());
        let size = size.map_err(|error| match error {
            UnitError::UnknownUnit => Refusal::new(format!("`{name}` has an unknown unit: {text}"))
                .with_help("the units are B, KiB, MiB, GiB and TiB, each 1024 of the one before"),
            UnitError::NotANumber | UnitError::MissingUnit => {
                Refusal::new(format!("`{name}` must be {EXPECTED}, and {text} is none"))
            }
            UnitError::Negative | UnitError::TooLarge => out_of_range(),
        })?;
        let bound = |text| units::size(text).expect("a bound in the table of keys is a size");
        let within = (bound(smallest)..=bound(largest)).contains(&size);
        N::try_from(size).ok().filter(|_| within).ok_or_else(out_of_range)
    }

    /// One of some words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Refusal> {
        let words = || choices.iter().map(|(word, _)| *word);
        let one_of = suggest::one_of('"', words());
        let text = self.text(&one_of)?;
        choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(|| {
            let help = match suggest::nearest(text, words()) {
                Some(near) => format!("did you mean \"{near}\"? It may be {one_of}"),
                None => format!("it may be {one_of}"),
            };
            Refusal::new(format!("unknown {} \"{text}\"", self.name())).with_help(help)
        })
    }

    fn wrong_type(&self, expected: &str) -> Refusal {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        Refusal::new(format!("`{}` must be {expected}; this is {found}", self.name()))
    }
}
