//! Rows to an HTTP receiver, as Standard Webhooks.
//!
//! | file | role |
//! | --- | --- |
//! | `target` | PURE: the URL, checked |
//! | `body` | PURE: a message as JSON under 20 kB |
//! | `sign` | PURE: secrets and signatures |
//! | `address` | PURE: which addresses are public |
//! | `connect` | resolve, vet, connect, TLS |
//! | `answer` | what the answer comes to |
//!
//! 1. The same message, the same id and body; time and signature are the attempt's own.
//! 2. Nothing is posted to an address that is not public, unless the sink allows it; a redirect is not followed.
//! 3. `http://` is taken: the signature still holds, but whoever is on the way can read the rows.
//! 4. No error, log or `Debug` shows a secret, or more of the URL than host and port.

mod address;
mod answer;
pub mod body;
mod connect;
pub mod sign;
mod target;

pub use address::is_public;
pub use connect::{ConnectError, Resolve, Resolving, SystemResolver};
pub use sign::{Secret, SecretError};
pub use target::{Target, UrlError};

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::delivery::tls::{TlsError, client_config};
use crate::delivery::transport::{Sending, one_line};
use crate::delivery::{Failure, Limits, Message, Sent, Transport};
use crate::engine::OutboxRow;
use crate::engine::outbox::{ERROR_BYTES_MAX, ROWS_MAX};
use crate::model::RowKind;
use connect::{Connector, Dial, Route};

/// How long a connection waits for the next message, and how many do.
const IDLE_TIME: Duration = Duration::from_secs(30);
const IDLE_MAX: usize = 4;
/// What the head of an answer may take.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// The shortest values of a query, and parts of a path, that are taken for tokens when an answer repeats them.
const TOKEN_BYTES_MIN: usize = 4;
const SEGMENT_BYTES_MIN: usize = 12;
const AGENT: &str = concat!("meterd/", env!("CARGO_PKG_VERSION"));

/// A webhook as the config has it.
#[derive(Clone)]
pub struct Options {
    pub url: String,
    /// All of them sign.
    pub secrets: Vec<Secret>,
    pub allow_private_addresses: bool,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    pub max_rows: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the url {0}")]
    Url(#[from] UrlError),
    #[error("the url's host is no name that a certificate could be for")]
    ServerName,
    #[error("a webhook has 1 to {max} secrets, this one has {given}", max = sign::SECRETS_MAX)]
    Secrets { given: usize },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A receiver.
pub struct Webhook {
    target: Target,
    secrets: Vec<Secret>,
    max_rows: usize,
    client: Client<Connector, Full<Bytes>>,
}

impl Webhook {
    /// Connects to nothing yet.
    pub fn new(options: Options, resolver: Arc<dyn Resolve>) -> Result<Self, SetupError> {
        Self::with_dial(options, resolver, connect::tcp())
    }

    fn with_dial(options: Options, resolver: Arc<dyn Resolve>, dial: Dial) -> Result<Self, SetupError> {
        let Options { url, secrets, allow_private_addresses, ca_file, max_rows } = options;
        let target = Target::parse(&url)?;
        if !(1..=sign::SECRETS_MAX).contains(&secrets.len()) {
            return Err(SetupError::Secrets { given: secrets.len() });
        }
        let tls = match target.https() {
            true => {
                let name = ServerName::try_from(target.host().to_owned()).map_err(|_| SetupError::ServerName)?;
                let mut config = client_config(ca_file.as_deref())?;
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            false => None,
        };
        let route = Route { target: target.clone(), resolver, allow_private_addresses, tls, dial };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(Connector::new(route));
        Ok(Self { target, secrets, max_rows: max_rows.clamp(1, ROWS_MAX), client })
    }

    async fn post(&self, message: &Message) -> Sent {
        let body = match body::json(message) {
            Ok(body) => body,
            Err(many) => return Sent::failed(Failure::Never, many.to_string()),
        };
        match self.client.request(self.request(message, body)).await {
            Ok(response) => {
                let sent = answer::read(response, message.now).await;
                Sent { answer: self.without_tokens(sent.answer), ..sent }
            }
            Err(error) => Sent::failed(Failure::Unavailable, why(&error)),
        }
    }

    fn request(&self, message: &Message, body: Bytes) -> Request<Full<Bytes>> {
        let signed = sign::sign(&message.id.to_string(), message.now, &body, &self.secrets);
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.target.uri())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header(sign::HEADER_ID, signed.id)
            .header(sign::HEADER_TIMESTAMP, signed.timestamp)
            .header(sign::HEADER_SIGNATURE, signed.signature);
        request.body(Full::new(body)).expect("ids, numbers and base64 are header values")
    }

    /// An answer that repeats the URL (many a 404 does) without what may be a token in its path or query.
    fn without_tokens(&self, answer: String) -> String {
        let (path, query) = (self.target.uri().path(), self.target.uri().query().unwrap_or_default());
        let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let segments = path.split('/').filter(|segment| segment.len() >= SEGMENT_BYTES_MIN);
        values
            .chain(segments)
            .filter(|value| value.len() >= TOKEN_BYTES_MIN)
            .fold(answer, |answer, value| answer.replace(value, "…"))
    }
}

impl Transport for Webhook {
    fn limits(&self, kind: RowKind) -> Limits {
        let rows = match kind {
            RowKind::Windows | RowKind::Adjustments => self.max_rows,
            RowKind::Alerts => body::ALERTS_MAX,
        };
        Limits { rows, bytes: body::ROWS_BYTES_MAX }
    }

    fn row_bytes(&self, row: &OutboxRow) -> usize {
        body::row_bytes(row)
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(self.post(message))
    }
}

/// Why there was no answer, in one line: the connector's own words, or what hyper names as causes.
fn why(error: &hyper_util::client::legacy::Error) -> String {
    let causes = || std::iter::successors(error.source(), |&cause| cause.source());
    let text = match causes().find_map(|cause| cause.downcast_ref::<ConnectError>()) {
        Some(refusal) => refusal.to_string(),
        None => {
            let causes: Vec<String> = causes().map(ToString::to_string).collect();
            if causes.is_empty() { error.to_string() } else { format!("no answer: {}", causes.join(": ")) }
        }
    };
    one_line(&text, ERROR_BYTES_MAX)
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Target::parse(&self.url).map(|target| target.to_string()).unwrap_or_default();
        f.debug_struct("Options")
            .field("url", &url)
            .field("secrets", &self.secrets.len())
            .field("allow_private_addresses", &self.allow_private_addresses)
            .field("ca_file", &self.ca_file)
            .field("max_rows", &self.max_rows)
            .finish()
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({})", self.target)
    }
}

#[cfg(test)]
mod tests;
