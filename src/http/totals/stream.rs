//! Every row of a period as one body: read, written and sent page after page.
//!
//! ```text
//! page of rows ─ read, under a turn to read ─▶ pieces of text ─ bounded channel ─▶ body ─▶ connection
//! ```
//!
//! 1. A turn to read is held for a page, never while a client is waited for. A client that takes nothing holds one page
//!    as text, until its connection is cut.
//! 2. The body ends only after the piece that says so. If reading fails, the version changes or the task is gone, it
//!    breaks off with an error, and the connection with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::engine::{PeriodTotal, TotalsPage, TotalsQuery};
use crate::http::problem::Problem;
use crate::http::read::read;
use crate::http::routes::App;
use crate::http::totals::answer;
use crate::http::totals::cursor;
use crate::http::totals::etag::ETag;
use crate::http::totals::format::Format;
use crate::http::totals::render::Renderer;
use crate::http::totals::request::{TotalsRequest, next_key, period_name};
use crate::model::{Seq, Timestamp};

/// Text is sent in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for the connection, beside the page they are part of.
const PIECES_WAITING: usize = 4;
/// After each page a stream rests for as long as the page took, but no longer than this: ingest goes first.
const REST_MAX: Duration = Duration::from_millis(5);

/// Answers with all rows, or 304. The first page is read before the head is sent, so that what is wrong with the request
/// or the store shows in the status.
pub async fn start(
    app: Arc<App>,
    request: TotalsRequest,
    renderer: Renderer,
    headers: &HeaderMap,
    with_body: bool,
) -> Result<Response, Problem> {
    let slot = app.streams.clone().try_acquire_owned().map_err(|_| Problem::TooManyStreams)?;
    let TotalsRequest { query, format, .. } = request;
    let first = app.read_page(query.clone(), format, renderer).await?;
    let etag = first.version.map(|version| first.etag(version, &query, format));
    let (pieces, body) = Pieces::channel();
    let response = answer(format, etag.as_ref(), headers, || Body::new(body));
    if with_body && !pieces.is_closed() {
        let version = first.version;
        let feed = Feed { source: app, query, format, version, pieces };
        tokio::spawn(async move {
            let _slot = slot;
            feed.run(first).await;
        });
    }
    Ok(response)
}

/// A page as text, and where the next one begins.
struct Text {
    pieces: Vec<Bytes>,
    next: Option<Vec<u8>>,
    /// When "current" and "previous" are meant, on every page.
    at: Timestamp,
    version: Option<Seq>,
    renderer: Renderer,
}

/// Where pages come from: the engine, but in tests.
trait Source {
    fn read_page(
        &self,
        query: TotalsQuery,
        format: Format,
        renderer: Renderer,
    ) -> impl Future<Output = Result<Text, Problem>> + Send;
}

impl Source for Arc<App> {
    async fn read_page(&self, query: TotalsQuery, format: Format, renderer: Renderer) -> Result<Text, Problem> {
        read(self, move |view| {
            let page = view.totals(&query)?;
            let seq = page.seq;
            Ok((Text::new(&page, format, renderer), seq))
        })
        .await
    }
}

impl Text {
    fn new(page: &TotalsPage, format: Format, mut renderer: Renderer) -> Self {
        let pieces = write(&page.rows, format, &mut renderer);
        let next = next_key(page).map(<[u8]>::to_vec);
        Self { pieces, next, at: page.at, version: page.version, renderer }
    }

    /// The tag of the whole body that begins with this page. The page itself is part of it, because versions are counted
    /// by one data directory: after a restore the same number may stand for other rows.
    fn etag(&self, version: Seq, query: &TotalsQuery, format: Format) -> ETag {
        let start =
            cursor::encode(query, query.at.unwrap_or(Timestamp::EPOCH), query.after.as_deref().unwrap_or_default());
        let version = version.0.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![b"stream", format.name().as_bytes(), start.as_bytes(), &version];
        parts.extend(self.pieces.iter().map(Bytes::as_ref));
        ETag::of(&parts)
    }
}

fn write(rows: &[PeriodTotal], format: Format, renderer: &mut Renderer) -> Vec<Bytes> {
    let (mut pieces, mut piece) = (Vec::new(), Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8));
    for total in rows {
        renderer.put(format, total, &mut piece);
        if piece.len() >= PIECE_BYTES {
            let next = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
            pieces.push(std::mem::replace(&mut piece, next).into());
        }
    }
    pieces.extend((!piece.is_empty()).then(|| Bytes::from(piece)));
    pieces
}

/// The task behind a body.
struct Feed<S> {
    source: S,
    query: TotalsQuery,
    format: Format,
    /// The version that was announced; `None`: the period is not final, and rows are each as of their own time.
    version: Option<Seq>,
    pieces: mpsc::Sender<Piece>,
}

impl<S: Source> Feed<S> {
    async fn run(mut self, first: Text) {
        if let Err(broken) = self.feed(first).await {
            tracing::warn!(%broken, period = period_name(self.query.period), "a stream of totals broke off");
        }
    }

    async fn feed(&mut self, mut text: Text) -> Result<(), Broken> {
        let (mut head, mut began) = (Vec::new(), Instant::now());
        text.renderer.put_head(self.format, &mut head);
        if !head.is_empty() {
            text.pieces.insert(0, head.into());
        }
        loop {
            for piece in text.pieces {
                if self.pieces.send(Piece::Text(piece)).await.is_err() {
                    return Ok(()); // the client has gone
                }
            }
            let Some(next) = text.next else { break };
            (self.query.at, self.query.after) = (Some(text.at), Some(next));
            tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
            began = Instant::now();
            text = self.source.read_page(self.query.clone(), self.format, text.renderer).await?;
            if self.version.is_some() && text.version != self.version {
                return Err(Broken::Changed);
            }
        }
        let _ = self.pieces.send(Piece::End).await;
        Ok(())
    }
}

/// Why a body has no end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("a row changed while the period was sent as final")]
    Changed,
    #[error("{0}")]
    Read(#[from] Problem),
    #[error("the totals were not read to their end")]
    Abandoned,
}

enum Piece {
    Text(Bytes),
    /// Nothing is missing.
    End,
}

/// A body of pieces.
struct Pieces {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

impl Pieces {
    fn channel() -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        (sender, Self { pieces, ended: false })
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        self.ended = !matches!(piece, Some(Piece::Text(_)));
        Poll::Ready(match piece {
            Some(Piece::Text(text)) => Some(Ok(Frame::data(text))),
            Some(Piece::End) => None,
            None => Some(Err(Broken::Abandoned)),
        })
    }
}

#[cfg(test)]
mod tests;
