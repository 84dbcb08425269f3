//! One keep-alive HTTP/1.1 connection to a daemon, blocking, for the commands that talk to one.
//!
//! 1. A [`Client`] is one connection on one thread; it connects when first used and again after a loss.
//! 2. Every call ends: connecting, sending and reading share one time-out, and an answer has a longest length.
//! 3. A request over a connection that had been idle is sent once more if the connection turns out to be gone. All
//!    requests here may be repeated: reads change nothing, events carry ids, operations are idempotent.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::cli::EXIT_IO;

/// The longest answer that is read, in bytes: a page of 10,000 rows stays far below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Where a daemon listens, from a URL such as `http://127.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

/// What the daemon answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// The `Retry-After` header, when it counts seconds.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Why there is no answer. Whether the request took effect is unknown for all but `Connect`.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {target}: {cause}")]
    Connect { target: String, cause: std::io::Error },
    #[error("the connection was lost: {0}")]
    Lost(hyper::Error),
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("the answer could not be read: {0}")]
    Answer(String),
}

/// A GET that did not lead to the value asked for.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("GET {path} was answered {status}: {detail}")]
    Status { path: String, status: u16, detail: String },
    #[error("GET {path}: the answer is not what was expected: {cause}")]
    Json { path: String, cause: serde_json::Error },
}

impl From<hyper::Error> for ClientError {
    fn from(cause: hyper::Error) -> Self {
        ClientError::Lost(cause)
    }
}

impl Target {
    /// Reads `http://host[:port]`; the scheme may be left out, the port is 80 then.
    pub fn parse(url: &str) -> Result<Self, String> {
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|error| format!("{error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err("only http:// is spoken here".into());
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err("is an address only: leave the path out".into());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("names no host")?;
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port: uri.port_u16().unwrap_or(80) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the daemon runs on this machine.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// One request.
struct Call<'a> {
    method: Method,
    path: &'a str,
    content_type: Option<&'static str>,
    key: Option<&'a str>,
    body: Bytes,
}

/// See the module.
pub struct Client {
    target: Target,
    authority: String,
    timeout: Duration,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Does not connect yet. Fails only if the system refuses the resources for an event loop.
    pub fn new(target: &Target, timeout: Duration) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { target: target.clone(), authority: target.to_string(), timeout, runtime, sender: None })
    }

    pub fn get(&mut self, path: &str) -> Result<Reply, ClientError> {
        self.request(&Call { method: Method::GET, path, content_type: None, key: None, body: Bytes::new() })
    }

    pub fn post(&mut self, path: &str, content_type: &'static str, body: Bytes) -> Result<Reply, ClientError> {
        self.request(&Call { method: Method::POST, path, content_type: Some(content_type), key: None, body })
    }

    /// POSTs JSON with an `Idempotency-Key`: the same call again has no effect of its own.
    pub fn post_once(&mut self, path: &str, key: &str, body: Bytes) -> Result<Reply, ClientError> {
        let content_type = Some("application/json");
        self.request(&Call { method: Method::POST, path, content_type, key: Some(key), body })
    }

    /// GETs a JSON document; any status but 200 is an error that carries the problem's detail.
    pub fn get_json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, GetError> {
        let reply = self.get(path)?;
        let path = path.to_owned();
        if reply.status != 200 {
            return Err(GetError::Status { path, status: reply.status, detail: reply.problem() });
        }
        serde_json::from_slice(&reply.body).map_err(|cause| GetError::Json { path, cause })
    }

    fn request(&mut self, call: &Call<'_>) -> Result<Reply, ClientError> {
        let reused = self.sender.is_some();
        match self.attempt(call) {
            Err(ClientError::Lost(_)) if reused => self.attempt(call),
            outcome => outcome,
        }
    }

    fn attempt(&mut self, call: &Call<'_>) -> Result<Reply, ClientError> {
        let mut request = Request::builder().method(&call.method).uri(call.path).header(HOST, &self.authority);
        request = request.header(ACCEPT, "application/json");
        if let Some(content_type) = call.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(key) = call.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let request =
            request.body(Full::new(call.body.clone())).map_err(|error| ClientError::Answer(error.to_string()))?;
        let (target, kept) = (&self.target, self.sender.take());
        let exchange = async {
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(target).await?,
            };
            sender.ready().await?;
            let reply = read(sender.send_request(request).await?).await?;
            Ok((sender, reply))
        };
        let limited = async { tokio::time::timeout(self.timeout, exchange).await };
        match self.runtime.block_on(limited) {
            Ok(Ok((sender, reply))) => {
                self.sender = (!sender.is_closed()).then_some(sender);
                Ok(reply)
            }
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(ClientError::TimedOut(self.timeout)),
        }
    }
}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
    let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    let stream = stream.map_err(|cause| ClientError::Connect { target: target.to_string(), cause })?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // An error here reaches the caller through the request that was under way.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Reply, ClientError> {
    let status = response.status().as_u16();
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(lost) => ClientError::Lost(*lost),
        Err(other) => ClientError::Answer(other.to_string()),
    })?;
    Ok(Reply { status, retry_after: seconds.map(Duration::from_secs), body: body.to_bytes() })
}

impl Reply {
    /// The `detail` or `title` of a problem document, or the start of the body.
    pub fn problem(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Problem {
            detail: Option<String>,
            title: Option<String>,
        }
        let problem = serde_json::from_slice::<Problem>(&self.body).ok();
        let text = problem.and_then(|problem| problem.detail.or(problem.title));
        text.unwrap_or_else(|| String::from_utf8_lossy(&self.body).chars().take(200).collect())
    }
}

/// How a command that talks to a daemon ends: 0 if all is `well`, 1 if not or if the daemon is the trouble, 74 if a file
/// is. An error is printed.
pub fn exit_code(command: &str, well: anyhow::Result<bool>) -> ExitCode {
    let error = match well {
        Ok(well) => return ExitCode::from(u8::from(!well)),
        Err(error) => error,
    };
    eprintln!("meterd {command}: {error:#}");
    // What befell a connection is told in the text of a `ClientError`, and is no cause of it: only files are left.
    let is_io = error.chain().any(|cause| cause.is::<std::io::Error>());
    ExitCode::from(if is_io { EXIT_IO } else { 1 })
}

/// Writes `text` as one component of a URL's query.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
