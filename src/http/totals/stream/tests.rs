use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;

use super::*;
use crate::engine::PeriodChoice;
use crate::http::totals::render::tests::{meters, total};
use crate::model::{TenantId, Timestamp};

async fn collected(pieces: Vec<Piece>) -> Option<Bytes> {
    let (sender, body) = Pieces::channel();
    for piece in pieces {
        sender.send(piece).await.unwrap();
    }
    drop(sender);
    Body::new(body).collect().await.ok().map(|body| body.to_bytes())
}

#[tokio::test]
async fn a_body_is_whole_or_an_error() {
    let text = |text: &'static str| Piece::Text(Bytes::from_static(text.as_bytes()));
    assert_eq!(collected(vec![text("a"), text("b"), Piece::End]).await.as_deref(), Some(&b"ab"[..]));
    assert_eq!(collected(vec![Piece::End]).await.as_deref(), Some(&b""[..]));
    assert_eq!(collected(vec![text("a"), text("b")]).await, None);
    assert_eq!(collected(vec![]).await, None);
}

#[tokio::test]
async fn a_body_says_no_length_and_tells_its_feed_when_the_client_has_gone() {
    let (sender, body) = Pieces::channel();
    assert_eq!(HttpBody::size_hint(&body).exact(), None);
    drop(Body::new(body));
    assert!(sender.send(Piece::End).await.is_err());
}

/// So many rows, numbered; from `changes_at` on in another version, and unreadable from `breaks_at` on.
#[derive(Clone)]
struct Rows {
    count: usize,
    changes_at: usize,
    breaks_at: usize,
    pages_read: Arc<AtomicUsize>,
}

impl Rows {
    fn new(count: usize) -> Self {
        Self { count, changes_at: usize::MAX, breaks_at: usize::MAX, pages_read: Arc::default() }
    }

    fn page(&self, query: &TotalsQuery) -> Option<TotalsPage> {
        self.pages_read.fetch_add(1, Ordering::SeqCst);
        let place = |key: &[u8]| usize::from_be_bytes(key.try_into().unwrap());
        let first = query.after.as_deref().map_or(0, |key| place(key) + 1);
        let end = (first + query.limit).min(self.count);
        let row = |n: usize| PeriodTotal { key: n.to_be_bytes().into(), customer: format!("c-{n:07}"), ..total() };
        (first < self.breaks_at).then(|| TotalsPage {
            rows: (first..end).map(row).collect(),
            more: end < self.count,
            at: Timestamp::EPOCH,
            seq: Seq(1),
            as_of: Timestamp::EPOCH,
            is_final: true,
            version: Some(Seq(if first < self.changes_at { 1 } else { 2 })),
        })
    }
}

impl Source for Rows {
    async fn read_page(&self, query: TotalsQuery, format: Format, renderer: Renderer) -> Result<Text, Problem> {
        let page = self.page(&query).ok_or(Problem::StoreUnreadable)?;
        Ok(Text::new(&page, format, renderer))
    }
}

fn query(limit: usize) -> TotalsQuery {
    let (tenant, period) = (TenantId::new("acme"), PeriodChoice::Named("2026-11".parse().unwrap()));
    TotalsQuery { tenant, period, at: None, meter: None, customer: None, state: None, after: None, limit }
}

/// The body of all rows, as if the version had been announced, or not.
async fn stream(rows: Rows, limit: usize, format: Format, announced: bool) -> Pieces {
    let query = query(limit);
    let first =
        rows.read_page(query.clone(), format, Renderer::new(Arc::new(meters()))).await.unwrap_or_else(|_| panic!());
    let (pieces, body) = Pieces::channel();
    let version = first.version.filter(|_| announced);
    tokio::spawn(Feed { source: rows, query, format, version, pieces }.run(first));
    body
}

#[tokio::test]
async fn every_row_comes_once_and_in_order_whatever_the_pages() {
    let csv = |text: &[u8]| {
        text.starts_with(b"customer,meter,") && text.windows(9).filter(|w| w == b"customer,").count() == 1
    };
    for (count, limit) in [(0, 10), (1, 10), (10, 10), (11, 10), (1_003, 1), (5_000, 400)] {
        for format in [Format::Ndjson, Format::Csv] {
            let body = stream(Rows::new(count), limit, format, true).await;
            let text = body.collect().await.unwrap_or_else(|_| panic!()).to_bytes();
            let header = usize::from(format == Format::Csv);
            assert_eq!(csv(&text), format == Format::Csv);
            let text = String::from_utf8(text.to_vec()).unwrap();
            let lines: Vec<&str> = text.lines().skip(header).collect();
            assert_eq!(lines.len(), count);
            assert!(
                lines.iter().enumerate().all(|(n, line)| line.contains(&format!("c-{n:07}"))),
                "{count} by {limit}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_announced_as_final_breaks_off_when_a_row_changes_and_another_one_does_not() {
    let rows = Rows { changes_at: 30, ..Rows::new(100) };
    assert!(stream(rows.clone(), 10, Format::Ndjson, true).await.collect().await.is_err());
    assert!(stream(rows, 10, Format::Ndjson, false).await.collect().await.is_ok());
}

#[tokio::test]
async fn a_stream_breaks_off_when_the_store_cannot_be_read() {
    let rows = Rows { breaks_at: 30, ..Rows::new(100) };
    assert!(stream(rows, 10, Format::Csv, false).await.collect().await.is_err());
}

#[tokio::test]
async fn a_client_that_takes_nothing_has_little_read_for_it_and_one_that_goes_ends_it() {
    let rows = Rows::new(1_000_000);
    let pages_read = rows.pages_read.clone();
    let mut body = stream(rows, 100, Format::Ndjson, true).await;
    body.frame().await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let waiting = pages_read.load(Ordering::SeqCst);
    assert!(waiting <= PIECES_WAITING + 3, "{waiting} pages of about half a piece");
    drop(body);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(pages_read.load(Ordering::SeqCst) <= waiting + 1);
}

#[tokio::test]
async fn a_tag_is_of_the_version_the_rows_the_query_and_the_form() {
    let tag = async |rows: Rows, query: &TotalsQuery, format: Format| {
        let text = rows.read_page(query.clone(), format, Renderer::new(Arc::new(meters()))).await.ok().unwrap();
        text.etag(text.version.unwrap(), query, format)
    };
    let all = query(10);
    let first = tag(Rows::new(100), &all, Format::Csv).await;
    assert_eq!(tag(Rows::new(100), &all, Format::Csv).await, first);
    let later = TotalsQuery { after: Some(9usize.to_be_bytes().into()), ..all.clone() };
    for other in [
        tag(Rows { changes_at: 0, ..Rows::new(100) }, &all, Format::Csv).await,
        tag(Rows::new(9), &all, Format::Csv).await,
        tag(Rows::new(100), &all, Format::Ndjson).await,
        tag(Rows::new(100), &later, Format::Csv).await,
        tag(Rows::new(100), &TotalsQuery { customer: Some("c".into()), ..all.clone() }, Format::Csv).await,
    ] {
        assert_ne!(other, first);
    }
}
