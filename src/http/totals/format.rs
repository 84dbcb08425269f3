//! The form that rows take: `format=` says, or else the Accept header, or else it is JSON.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use crate::http::params::Params;
use crate::http::problem::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One document with a page of rows.
    Json,
    /// A row a line.
    Ndjson,
    Csv,
}

impl Format {
    /// The first one is taken where a client likes several equally.
    const ALL: [Format; 3] = [Format::Json, Format::Ndjson, Format::Csv];

    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// Names that clients use for it.
    fn media_types(self) -> &'static [&'static str] {
        match self {
            Format::Json => &["application/json"],
            Format::Ndjson => &["application/x-ndjson", "application/ndjson", "application/jsonl"],
            Format::Csv => &["text/csv"],
        }
    }

    /// Takes `format` from the parameters; it wins over the header.
    pub fn take(params: &mut Params, headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(name) = params.take("format")? else { return Ok(Self::accepted(headers)) };
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            Problem::parameter("format", "parameter \"format\" can be \"json\", \"ndjson\" or \"csv\"".to_owned())
        })
    }

    /// What the client likes best; JSON if it likes nothing of this.
    fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<(&str, u16)> = values.flat_map(|value| value.split(',')).filter_map(read_range).collect();
        let liking = |format: &Format| liking(format.media_types(), &ranges);
        let best = Self::ALL.iter().rev().max_by_key(|format| liking(format));
        best.copied().unwrap_or(Format::Json)
    }
}

/// A media range and its weight in thousandths.
fn read_range(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| !range.is_empty())?;
    let weight = parts.find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")));
    Some((range, weight.map_or(1_000, read_weight)))
}

/// `0.8` is 800; what is no weight is 0.
fn read_weight(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let well_formed = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if well_formed => 1_000,
        "0" if well_formed => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// The weight of the range that names the type most exactly.
fn liking(types: &[&str], ranges: &[(&str, u16)]) -> u16 {
    let exactness = |range: &str| {
        let matches_type = |name: &&&str| range.eq_ignore_ascii_case(name);
        let matches_family = |name: &&&str| {
            let (family, rest) = range.split_once('/').unwrap_or((range, ""));
            rest == "*" && name.split('/').next().is_some_and(|own| own.eq_ignore_ascii_case(family))
        };
        match () {
            () if types.iter().any(|name| matches_type(&name)) => Some(2),
            () if types.iter().any(|name| matches_family(&name)) => Some(1),
            () => (range == "*/*").then_some(0),
        }
    };
    let fitting = ranges.iter().filter_map(|(range, weight)| Some((exactness(range)?, *weight)));
    fitting.max_by_key(|(exactness, weight)| (*exactness, *weight)).map_or(0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn taken(format: Option<&str>, accept: Option<&'static str>) -> Option<Format> {
        let pairs: Vec<(&str, &str)> = format.map(|format| ("format", format)).into_iter().collect();
        let headers = accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept))).into_iter().collect();
        Format::take(&mut Params::of(&pairs), &headers).ok()
    }

    #[test]
    fn the_parameter_wins_over_the_header() {
        assert_eq!(taken(Some("csv"), Some("application/json")), Some(Format::Csv));
        assert_eq!(taken(Some("ndjson"), None), Some(Format::Ndjson));
        assert_eq!(taken(Some("xml"), Some("text/csv")), None);
        assert_eq!(taken(Some("CSV"), None), None);
    }

    #[test]
    fn the_header_is_read_by_weight_and_exactness_and_json_is_what_is_left() {
        for (accept, expected) in [
            ("text/csv", Format::Csv),
            ("TEXT/CSV; header=present", Format::Csv),
            ("application/x-ndjson", Format::Ndjson),
            ("application/jsonl", Format::Ndjson),
            ("text/csv;q=0.5, application/x-ndjson;q=0.8", Format::Ndjson),
            ("application/json, text/csv", Format::Json),
            ("*/*", Format::Json),
            ("text/*, */*;q=0.1", Format::Csv),
            ("application/json;q=0, */*", Format::Ndjson),
            ("text/html", Format::Json),
            ("", Format::Json),
            ("text/csv;q=high, application/x-ndjson;q=0.001", Format::Ndjson),
        ] {
            assert_eq!(taken(None, Some(accept)), Some(expected), "{accept}");
        }
        assert_eq!(taken(None, None), Some(Format::Json));
    }
}
