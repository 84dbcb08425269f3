//! An HTTP receiver that answers as it is told, byte by byte, and resolvers that do.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What the receiver does with one request.
#[derive(Clone)]
pub struct Reply {
    bytes: Bytes,
    end: End,
}

/// What follows a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The next request.
    Next,
    Close,
    Reset,
    Hang,
}

impl Reply {
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), end: End::Next }
    }

    pub fn status(status: u16, body: &str) -> Self {
        let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        Self::bytes(format!("HTTP/1.1 {status} Said\r\n{length}\r\n{body}"))
    }

    pub fn end(self, end: End) -> Self {
        Self { end, ..self }
    }
}

/// One request as it came.
#[derive(Clone)]
pub struct Received {
    pub head: String,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(said, _)| *said == name))
            .map(|(_, value)| value)
    }
}

/// Listens on loopback until it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Received>>,
}

impl Receiver {
    /// One reply for each request; the last one again for all that follow.
    pub async fn start(replies: Vec<Reply>) -> Self {
        Self::listen(replies, None).await
    }

    pub async fn start_tls(replies: Vec<Reply>, tls: TlsAcceptor) -> Self {
        Self::listen(replies, Some(tls)).await
    }

    async fn listen(replies: Vec<Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (replies, shared) = (Arc::new(replies), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                if replies.iter().any(|reply| reply.end == End::Reset) {
                    stream.set_zero_linger().unwrap();
                }
                let (replies, seen, tls) = (Arc::clone(&replies), Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => seen.serve(stream, &replies).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => seen.serve(stream, &replies).await,
                            Err(_refused_by_the_client) => {}
                        },
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, replies: &[Reply]) {
        while let Some(request) = read(&mut stream).await {
            let number = {
                let mut requests = self.requests.lock();
                requests.push(request);
                requests.len() - 1
            };
            let reply = replies[number.min(replies.len() - 1)].clone();
            if stream.write_all(&reply.bytes).await.is_err() {
                return;
            }
            stream.flush().await.unwrap();
            match reply.end {
                End::Next => {}
                End::Close => return drop(stream.shutdown().await),
                End::Reset => return,
                End::Hang => tokio::time::sleep(Duration::from_secs(3_600)).await,
            }
        }
    }
}

/// One request; none at the end of the connection.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end + 2].to_vec()).unwrap();
            let mut request = Received { head, body: Bytes::new() };
            let length: usize = request.header("content-length").unwrap().parse().unwrap();
            if bytes.len() == end + 4 + length {
                request.body = Bytes::from(bytes.split_off(end + 4));
                return Some(request);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// To this receiver, by its address.
pub fn webhook(receiver: &Receiver) -> Webhook {
    Webhook::new(options(&format!("http://{}/hooks?token=T0K3N", receiver.address)), answers(&[])).unwrap()
}

/// Answers each question with the next list; the last one again for all that follow.
pub struct Answers {
    rounds: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Answers {
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

pub fn answers(rounds: &[&[&str]]) -> Arc<Answers> {
    let read = |round: &&[&str]| round.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(Answers { rounds: rounds.iter().map(read).collect(), asked: AtomicUsize::new(0) })
}

impl Resolve for Answers {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let round = self.rounds.get(number).or(self.rounds.last()).cloned();
        Box::pin(async move { round.ok_or_else(|| std::io::Error::other("Name or service not known")) })
    }
}
