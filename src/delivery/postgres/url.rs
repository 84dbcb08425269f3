//! Where the database is, and who asks. It holds a password, so it shows itself to nobody.
//!
//! 1. Certificates are verified, with their names, in every mode that speaks TLS. `verify-ca` and `verify-full` are
//!    therefore the same as `require`. `prefer`, the default, goes on without TLS where the server has none.
//! 2. No error quotes any part of the text.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Sent bytes that nobody acknowledges for this long mean that the connection is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
const APPLICATION: &str = "meterd";

/// `postgres://user:password@host:port/database?sslmode=…`
#[derive(Clone)]
pub struct Url(Config);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("must begin with postgres:// or postgresql://")]
    Scheme,
    #[error(
        "is not a URL like postgres://user:password@host:5432/database?sslmode=require (special characters in a name or \
         password are percent-encoded; sslmode is disable, prefer, require or verify-full)"
    )]
    Form,
    #[error("names no host")]
    NoHost,
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(UrlError::Scheme);
        }
        let mut config: Config = understood(text).parse().map_err(|_| UrlError::Form)?;
        if config.get_hosts().is_empty() {
            return Err(UrlError::NoHost);
        }
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        config.keepalives_idle(KEEPALIVE_IDLE);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        }
        Ok(Self(config))
    }

    pub(super) fn config(&self) -> &Config {
        &self.0
    }

    /// Hosts and ports, for errors.
    pub(super) fn place(&self) -> String {
        let ports = self.0.get_ports();
        let places = self.0.get_hosts().iter().enumerate().map(|(at, host)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5_432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        places.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(…)")
    }
}

/// The same URL in the client library's words.
fn understood(text: &str) -> String {
    let Some((place, parameters)) = text.rsplit_once('?') else { return text.to_owned() };
    let parameters = parameters.split('&').map(|parameter| match parameter {
        "sslmode=verify-full" | "sslmode=verify-ca" => "sslmode=require",
        other => other,
    });
    format!("{place}?{}", parameters.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn reads_a_url_and_knows_the_modes_of_tls() {
        for (parameters, mode) in [
            ("", SslMode::Prefer),
            ("?sslmode=disable", SslMode::Disable),
            ("?sslmode=require", SslMode::Require),
            ("?sslmode=verify-full", SslMode::Require),
            ("?connect_timeout=3&sslmode=verify-ca", SslMode::Require),
        ] {
            let url = Url::parse(&format!("postgres://me:s%3Fcret@db.example:6543/usage{parameters}")).unwrap();
            assert_eq!(url.config().get_ssl_mode(), mode);
            assert_eq!(url.config().get_password(), Some(&b"s?cret"[..]));
            assert_eq!(url.place(), "db.example:6543");
        }
        assert_eq!(Url::parse("postgresql://me@a,b/usage").unwrap().place(), "a:5432, b:5432");
        assert_eq!(Url::parse("postgres://%2Frun%2Fpg/usage").unwrap().place(), "/run/pg:5432");
    }

    #[test]
    fn shows_and_quotes_nothing_of_what_it_was_given() {
        let shown = format!("{:?}", Url::parse("postgres://me:secret@db/usage").unwrap());
        assert_eq!(shown, "Url(…)");
        for (text, error) in [
            ("mysql://me:secret@db/usage", UrlError::Scheme),
            ("secret", UrlError::Scheme),
            ("postgres://me:secret@db:port/usage", UrlError::Form),
            ("postgres://me:secret@db/usage?sslmode=maybe", UrlError::Form),
            ("postgres://me:secret@db/usage?secret=secret", UrlError::Form),
            ("postgres:///usage", UrlError::NoHost),
        ] {
            let found = Url::parse(text).err();
            assert_eq!(found, Some(error), "{text}");
            assert!(!found.unwrap().to_string().contains("secret"));
        }
    }
}
