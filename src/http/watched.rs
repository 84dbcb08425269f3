//! A connection's bytes, watched: idle, in a request's head, or busy with its answer; and since when.
//!
//! A phase starts anew whenever the system takes some of an answer: a long answer may take as long as it likes, but not
//! stand still. What lies in the socket's send buffer counts as taken, and that takes more once about a third of it (a
//! megabyte or so) has gone: a client has to take that much within the phase's limit.
//!
//! hyper's own header time-out also runs while a connection is idle, so it cannot tell a slow client from a quiet one.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No byte of the next request has come.
    Idle,
    /// Some bytes of a request have come, its header is not whole.
    Head,
    /// A request is being answered.
    Busy,
}

/// A connection's state, shared by its bytes and its service.
#[derive(Clone)]
pub struct Phase(Arc<Mutex<(State, Instant)>>);

impl Phase {
    /// A request's header is whole.
    pub fn busy(&self) {
        self.set(State::Busy);
    }

    /// The answer is on its way out.
    pub fn idle(&self) {
        self.set(State::Idle);
    }

    /// Starts the current phase's clock anew.
    pub fn restart(&self) {
        self.0.lock().1 = Instant::now();
    }

    fn set(&self, state: State) {
        *self.0.lock() = (state, Instant::now());
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(bytes)) if *bytes > 0) {
            self.restart();
        }
    }

    fn received(&self) {
        let mut phase = self.0.lock();
        if phase.0 == State::Idle {
            *phase = (State::Head, Instant::now());
        }
    }

    /// Returns once a phase has lasted for its limit. Must be polled, in one task, after whatever changes the phase.
    pub async fn expired(&self, limit_of: impl Fn(State) -> Option<Duration>) {
        let deadline = || {
            let (state, since) = *self.0.lock();
            limit_of(state).map(|limit| since + limit)
        };
        let mut sleep = pin!(sleep_until(deadline().unwrap_or_else(Instant::now)));
        poll_fn(|context| {
            loop {
                let Some(deadline) = deadline() else { return Poll::Pending };
                if sleep.deadline() > deadline {
                    sleep.as_mut().reset(deadline);
                }
                match sleep.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) if sleep.deadline() >= deadline => return Poll::Ready(()),
                    Poll::Ready(()) => sleep.as_mut().reset(deadline),
                }
            }
        })
        .await;
    }
}

/// Bytes in and out, telling the phase when some come in.
pub struct Watched<T> {
    inner: T,
    phase: Phase,
}

impl<T> Watched<T> {
    pub fn new(inner: T) -> (Self, Phase) {
        let phase = Phase(Arc::new(Mutex::new((State::Idle, Instant::now()))));
        (Self { inner, phase: phase.clone() }, phase)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.phase.received();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.phase.wrote(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.phase.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(state: State) -> Option<Duration> {
        match state {
            State::Idle => Some(Duration::from_millis(400)),
            State::Head => Some(Duration::from_millis(40)),
            State::Busy => None,
        }
    }

    #[tokio::test]
    async fn a_slow_head_expires_long_before_a_quiet_connection() {
        let (mut watched, phase) = Watched::new(&b"GET"[..]);
        let start = Instant::now();
        let mut bytes = [0; 1];
        poll_fn(|context| Pin::new(&mut watched).poll_read(context, &mut ReadBuf::new(&mut bytes))).await.unwrap();
        phase.expired(limits).await;
        assert!(start.elapsed() < Duration::from_millis(300));
        phase.idle();
        let start = Instant::now();
        phase.expired(limits).await;
        assert!(start.elapsed() >= Duration::from_millis(400));
    }

    #[tokio::test]
    async fn a_connection_stays_as_long_as_its_client_takes_the_answer() {
        let (mut watched, phase) = Watched::new(Vec::new());
        let start = Instant::now();
        let taking = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                poll_fn(|context| Pin::new(&mut watched).poll_write(context, b"x")).await.unwrap();
            }
        };
        tokio::join!(taking, phase.expired(limits));
        assert!(start.elapsed() >= Duration::from_millis(1_000), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_busy_connection_never_expires() {
        let (_watched, phase) = Watched::new(&b""[..]);
        phase.busy();
        assert!(tokio::time::timeout(Duration::from_millis(600), phase.expired(limits)).await.is_err());
    }
}
