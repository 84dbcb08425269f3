//! A query string as parameters, each asked for by name; what nobody asks for is an error, not ignored. And the name in a
//! path.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;

use crate::http::problem::Problem;
use crate::meter::{Meter, Meters};
use crate::model::Timestamp;
use crate::model::id::NAME_BYTES_MAX;

/// The parameters that are left to be taken, in the order they were written.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    #[cfg(test)]
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self { pairs: pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect() }
    }

    /// The parameter's value; an error if it is given twice.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Problem::parameter(name, format!("parameter {name:?} is given more than once"))),
        }
    }

    /// Every value of a parameter that may be repeated.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key == name);
        self.pairs = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// An instant: RFC 3339, or milliseconds since 1970.
    pub fn take_instant(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let is_number = text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        let parsed = if is_number { Timestamp::parse_unix_millis(&text) } else { Timestamp::parse_rfc3339(&text) };
        parsed.map(Some).map_err(|error| Problem::parameter(name, format!("parameter {name:?} {error}")))
    }

    /// How many entries a page may have: 1 to `max`.
    pub fn take_limit(&mut self, default: usize, max: usize) -> Result<usize, Problem> {
        Ok(self.take_limit_if_given(max)?.unwrap_or(default))
    }

    /// The same, where a page is not all that can be asked for.
    pub fn take_limit_if_given(&mut self, max: usize) -> Result<Option<usize>, Problem> {
        let Some(text) = self.take("limit")? else { return Ok(None) };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(Some(limit)),
            _ => Err(Problem::parameter("limit", format!("parameter \"limit\" must be a number from 1 to {max}"))),
        }
    }

    /// A customer's name.
    pub fn take_customer(&mut self) -> Result<Option<String>, Problem> {
        let customer = self.take("customer")?;
        if let Some(name) = &customer {
            PathName::check_length("customer", name)?;
        }
        Ok(customer)
    }

    /// A meter, by slug.
    pub fn take_meter<'m>(&mut self, meters: &'m Meters) -> Result<Option<&'m Meter>, Problem> {
        let Some(slug) = self.take("meter")? else { return Ok(None) };
        let unknown = || Problem::parameter("meter", format!("parameter \"meter\": there is no meter {slug:?}"));
        meters.by_slug(&slug).map(Some).ok_or_else(unknown)
    }

    /// Refuses whatever was not taken.
    pub fn finish(self) -> Result<(), Problem> {
        match self.pairs.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let detail = format!("parameter {name:?} is not known here");
                Err(Problem::parameter(name, detail))
            }
        }
    }
}

/// The one name in a path, percent-decoded.
pub struct PathName(pub String);

/// The two names in a path.
pub struct PathNames(pub String, pub String);

impl PathName {
    /// Refuses a name that nothing can have: `parameter` says which one it is.
    pub fn check_length(parameter: &str, name: &str) -> Result<(), Problem> {
        if (1..=NAME_BYTES_MAX).contains(&name.len()) {
            return Ok(());
        }
        Err(Problem::parameter(parameter, format!("parameter {parameter:?} must have 1 to 256 bytes")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::from_request_parts(parts, state).await.map_err(|_| Problem::Path)?;
        Ok(Self(name))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathNames {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((first, second)) = Path::from_request_parts(parts, state).await.map_err(|_| Problem::Path)?;
        Ok(Self(first, second))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::BadRequest("the query string cannot be read"))?;
        Ok(Self { pairs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_unknown_or_given_twice_and_names_it() {
        let mut twice = Params::of(&[("from", "1"), ("from", "2")]);
        assert!(matches!(twice.take("from"), Err(Problem::Parameter { name, .. }) if name == "from"));
        assert!(
            matches!(Params::of(&[("form", "1")]).finish(), Err(Problem::Parameter { name, .. }) if name == "form")
        );
        assert!(Params::of(&[]).finish().is_ok());
    }

    #[test]
    fn reads_instants_as_text_or_milliseconds_also_before_1970() {
        let micros = |text: &str| Params::of(&[("at", text)]).take_instant("at").ok().flatten().map(Timestamp::micros);
        assert_eq!(micros("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(micros("1500"), Some(1_500_000));
        assert_eq!(micros("-1"), Some(-1_000));
        for text in ["", "-", "yesterday", "1.5", "99999999999999999999"] {
            assert!(Params::of(&[("at", text)]).take_instant("at").is_err(), "{text:?}");
        }
    }

    #[test]
    fn pages_have_one_to_the_maximum_of_entries() {
        let limit = |text: &str| Params::of(&[("limit", text)]).take_limit(10, 100);
        assert_eq!(limit("100").ok(), Some(100));
        assert!(["0", "101", "-1", "many", ""].into_iter().all(|text| limit(text).is_err()));
        assert_eq!(Params::of(&[]).take_limit(10, 100).ok(), Some(10));
    }
}
