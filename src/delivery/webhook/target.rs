//! Where a webhook goes: its URL, checked. Pure.
//!
//! 1. `http` or `https`, a host, perhaps a port, a path and a query; nothing else. A user name, a password or a fragment is
//!    refused rather than dropped.
//! 2. Nothing shows more of a URL than its host and port: a path or a query may hold a token.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

/// The longest URL.
const URL_BYTES_MAX: usize = 2_000;

#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    https: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("is no URL (a host outside ASCII is written in punycode)")]
    Malformed,
    #[error("begins with neither https:// nor http://")]
    Scheme,
    #[error("names no host")]
    Host,
    #[error("has a port that is none")]
    Port,
    #[error("holds a user name or a password: webhooks are signed, and take neither")]
    Userinfo,
    #[error("has a fragment (#…), which is never sent")]
    Fragment,
    #[error("is longer than {URL_BYTES_MAX} bytes")]
    Length,
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        if url.len() > URL_BYTES_MAX {
            return Err(UrlError::Length);
        }
        if url.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (scheme, _) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        let uri: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
        let authority = uri.authority().ok_or(UrlError::Host)?.as_str();
        if authority.contains('@') {
            return Err(UrlError::Userinfo);
        }
        let host = uri.host().unwrap_or_default();
        let port = match authority.strip_prefix(host).ok_or(UrlError::Malformed)? {
            "" if https => 443,
            "" => 80,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|&port| port > 0)
                .ok_or(UrlError::Port)?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        Ok(Self { host, port, https, uri })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn https(&self) -> bool {
        self.https
    }

    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The host, where it is an address as such. Other ways to write one (decimal, octal, hex, short) are names like any
    /// other: what they resolve to is vetted.
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// `host:port`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests;
