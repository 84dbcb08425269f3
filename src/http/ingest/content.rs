//! What a body is, by its Content-Type and Content-Encoding.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};

use crate::http::ingest::framing::Form;
use crate::http::problem::Problem;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

const SUPPORTED: &str = "application/json, application/x-ndjson, application/cloudevents+json or \
                         application/cloudevents-batch+json, in UTF-8";

/// Reads the media type; a charset other than UTF-8 is refused, other parameters are ignored.
pub fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let value = single(headers, &CONTENT_TYPE).map_err(|()| Problem::ContentType(format!("send {SUPPORTED}")))?;
    let Some(value) = value else {
        return Err(Problem::ContentType(format!("Content-Type is missing: send {SUPPORTED}")));
    };
    let unsupported = || Problem::ContentType(format!("content type {value:?} is not supported: send {SUPPORTED}"));
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    if !parameters.split(';').all(is_tolerable) {
        return Err(unsupported());
    }
    match media_type.trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Form::Json),
        "application/x-ndjson" | "application/ndjson" => Ok(Form::Lines),
        "application/cloudevents+json" => Ok(Form::CloudEvent),
        "application/cloudevents-batch+json" => Ok(Form::CloudEvents),
        _ => Err(unsupported()),
    }
}

fn is_tolerable(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            matches!(value.trim().trim_matches('"').to_ascii_lowercase().as_str(), "utf-8" | "utf8" | "us-ascii")
        }
        _ => true,
    }
}

/// Reads the encoding; more than one is refused.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let value = single(headers, &CONTENT_ENCODING).map_err(|()| Problem::ContentEncoding("several".to_owned()))?;
    let name = value.unwrap_or("").trim().to_ascii_lowercase();
    match name.as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        _ => Err(Problem::ContentEncoding(name)),
    }
}

/// The header's value; an error if it is there twice or no text.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn knows_the_media_types_in_any_case_and_with_a_utf8_charset() {
        for (value, expected) in [
            ("application/json", Form::Json),
            ("Application/JSON; charset=utf-8", Form::Json),
            ("application/json;charset=\"UTF-8\"; profile=x", Form::Json),
            ("application/x-ndjson", Form::Lines),
            ("application/ndjson", Form::Lines),
            ("application/cloudevents+json; charset=utf-8", Form::CloudEvent),
            ("application/cloudevents-batch+json", Form::CloudEvents),
        ] {
            assert_eq!(form(&headers(CONTENT_TYPE, &[value])).ok(), Some(expected), "{value}");
        }
    }

    #[test]
    fn refuses_other_types_charsets_and_encodings_with_415() {
        for values in [
            &[][..],
            &[""],
            &["text/plain"],
            &["application/json; charset=latin1"],
            &["application/xml"],
            &["application/json", "application/json"],
        ] {
            let problem = form(&headers(CONTENT_TYPE, values)).unwrap_err();
            assert_eq!(problem.status(), 415, "{values:?}");
        }
        for values in [&["br"][..], &["gzip, zstd"], &["gzip", "gzip"], &["deflate"]] {
            let problem = encoding(&headers(CONTENT_ENCODING, values)).unwrap_err();
            assert_eq!(problem.status(), 415, "{values:?}");
        }
        assert_eq!(encoding(&headers(CONTENT_ENCODING, &["GZIP"])).ok(), Some(Encoding::Gzip));
        assert_eq!(encoding(&HeaderMap::new()).ok(), Some(Encoding::Identity));
    }
}
