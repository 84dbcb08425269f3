//! Connections of a webhook: resolve once, vet every answer, connect to what was vetted.
//!
//! 1. A refused address is never connected to, whatever else the resolver answered; without a public one there is no
//!    connection at all. Every way to write a host ends here: an address as such, or whatever the resolver makes of it.
//! 2. The vetted address is the one connected to: between the look and the step no name is resolved again.
//! 3. A certificate is verified for the URL's host, whatever it resolved to.
//! 4. Every step has its time-out. No proxy is used, and no environment variable read.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::address::is_public;
use super::target::Target;

/// Twice what a resolver gives a name server that is silent.
const RESOLVE_TIME: Duration = Duration::from_secs(10);
/// For all addresses together; they share it out.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// What one of many addresses gets of it at least.
const ADDRESS_TIME_MIN: Duration = Duration::from_secs(1);
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 16;

pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Names to addresses. What it answers is not trusted.
pub trait Resolve: Send + Sync + 'static {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a>;
}

/// The system's own: hosts file, DNS, and decimal, octal, hex and short forms of IPv4 addresses.
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let answers = tokio::net::lookup_host((host, 0)).await?;
            Ok(answers.map(|address| address.ip()).collect())
        })
    }
}

/// Why there is no connection, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{host} cannot be resolved: {error}")]
    Resolve { host: String, error: io::Error },
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("refused: {0} is not a public address (allow_private_addresses)")]
    Refused(IpAddr),
    #[error("no connection to {address}: {error}")]
    Tcp { address: SocketAddr, error: io::Error },
    #[error("TLS with {target}: {error}")]
    Tls { target: String, error: io::Error },
    #[error("{doing} {target} took longer than {} s", limit.as_secs())]
    TimedOut { doing: &'static str, target: String, limit: Duration },
}

type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;
/// Opens a connection to an address that was vetted.
pub(super) type Dial = Arc<dyn Fn(SocketAddr) -> Dialing + Send + Sync>;

/// The real one.
pub(super) fn tcp() -> Dial {
    Arc::new(|address| Box::pin(TcpStream::connect(address)))
}

/// Connects to one target, over and over.
#[derive(Clone)]
pub struct Connector(Arc<Route>);

pub(super) struct Route {
    pub target: Target,
    pub resolver: Arc<dyn Resolve>,
    pub allow_private_addresses: bool,
    /// For https, with the name that the certificate is to be for.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
    pub dial: Dial,
}

impl Connector {
    pub(super) fn new(route: Route) -> Self {
        Self(Arc::new(route))
    }
}

impl Route {
    async fn connect(&self) -> Result<Stream, ConnectError> {
        let addresses = self.within(RESOLVE_TIME, "resolving", self.vetted()).await?;
        let tcp = self.within(CONNECT_TIME, "connecting to", self.dial_each(&addresses)).await?;
        let Some((connector, name)) = &self.tls else { return Ok(Stream::new(Either::Left(tcp))) };
        let handshake = async {
            let tls = connector.connect(name.clone(), tcp).await;
            tls.map_err(|error| ConnectError::Tls { target: self.target.to_string(), error })
        };
        let tls = self.within(HANDSHAKE_TIME, "TLS with", handshake).await?;
        Ok(Stream::new(Either::Right(Box::new(tls))))
    }

    /// The target's addresses that may be connected to: at least one.
    async fn vetted(&self) -> Result<Vec<IpAddr>, ConnectError> {
        let host = self.target.host();
        let answers = match self.target.literal() {
            Some(address) => vec![address],
            None => {
                let answers = self.resolver.resolve(host).await;
                answers.map_err(|error| ConnectError::Resolve { host: host.to_owned(), error })?
            }
        };
        let first = *answers.first().ok_or_else(|| ConnectError::NoAddress(host.to_owned()))?;
        let vetted = answers.into_iter().filter(|&address| self.allow_private_addresses || is_public(address));
        // What is mapped is reached without IPv6 too.
        let vetted: Vec<IpAddr> = vetted.map(|address| address.to_canonical()).take(ADDRESSES_MAX).collect();
        if vetted.is_empty() { Err(ConnectError::Refused(first)) } else { Ok(vetted) }
    }

    /// One address after the other: the first that answers, or the last one's error.
    async fn dial_each(&self, addresses: &[IpAddr]) -> Result<TcpStream, ConnectError> {
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let share = (CONNECT_TIME / count).max(ADDRESS_TIME_MIN);
        let mut last = ConnectError::NoAddress(self.target.host().to_owned());
        for &address in addresses {
            let address = SocketAddr::new(address, self.target.port());
            let opened = timeout(share, (self.dial)(address)).await;
            match opened.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    // A message is written whole: waiting for more would only delay it.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = ConnectError::Tcp { address, error },
            }
        }
        Err(last)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        doing: &'static str,
        step: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let late = |_elapsed| Err(ConnectError::TimedOut { doing, target: self.target.to_string(), limit });
        timeout(limit, step).await.unwrap_or_else(late)
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    /// Every request is to the one target, so its URI says nothing new.
    fn call(&mut self, _: Uri) -> Self::Future {
        let route = Arc::clone(&self.0);
        Box::pin(async move { route.connect().await })
    }
}

/// A connection, with or without TLS.
pub struct Stream(TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>);

impl Stream {
    fn new(stream: Either<TcpStream, Box<TlsStream<TcpStream>>>) -> Self {
        Self(TokioIo::new(stream))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
