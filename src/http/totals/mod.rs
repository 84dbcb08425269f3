//! `GET /v1/periods/{period}/totals`: the numbers that billing pulls, a row per customer, meter and dimensions.
//!
//! | file | does |
//! | --- | --- |
//! | `request` | path, parameters and Accept to a query |
//! | `format` | which form the rows take |
//! | `cursor` | where the next page begins, as opaque text that fits one query only |
//! | `row`, `csv` | a row's members, as JSON and as a CSV record |
//! | `render` | rows to bytes |
//! | `etag` | names for bodies, and whether the client has one already |
//! | `stream` | every row, page after page, without holding them |
//!
//! | asked for | answer | ETag | Cache-Control |
//! | --- | --- | --- | --- |
//! | JSON; NDJSON or CSV with `limit` | one page | of its bytes | `private, no-cache` |
//! | NDJSON or CSV of a final period | all rows, streamed | of the period's version, the query and the first rows | `private, no-cache` |
//! | NDJSON or CSV of another period | all rows, streamed | none | `no-store` |
//!
//! 1. Rows come sorted by customer, meter, dimensions and period start, in every form, and each once.
//! 2. A stream that was announced as final (with an ETag) holds one version only: if a row changes meanwhile, the body
//!    breaks off instead of ending, and the client asks again.
//! 3. A body that ends is whole. What went wrong after the head was sent shows as a body without its end.
//! 4. A stream holds one page and a few pieces of text; at most `STREAMS_MAX` are under way.
//!
//! Why `no-cache` where the numbers are final: a final row still changes with a late event, by an adjustment. A copy used
//! without asking would contradict `/v1/adjustments`. So copies may be kept, and are asked about each time: 304 costs one
//! page's read and no transfer. Where numbers are not final a document says as of when they are, so its tag does not last.

mod csv;
mod cursor;
mod etag;
mod format;
mod render;
mod request;
mod row;
mod stream;

pub use row::Dimensions;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;

use crate::http::params::{Params, PathName};
use crate::http::problem::Problem;
use crate::http::read::read;
use crate::http::routes::App;
use crate::http::totals::etag::{ETag, is_known};
use crate::http::totals::format::Format;
use crate::http::totals::render::Renderer;
use crate::http::totals::request::{Extent, TotalsRequest, period_name};

/// Bodies that are being streamed at the same time; each holds one page of rows as text.
pub const STREAMS_MAX: usize = 16;
/// The next page's cursor, where the body has no place for it.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("meterd-next-cursor");
/// May be kept, must be asked about.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const DO_NOT_STORE: HeaderValue = HeaderValue::from_static("no-store");

pub async fn period_totals(
    State(app): State<Arc<App>>,
    method: Method,
    PathName(period): PathName,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let meters = app.engine.meters();
    let request = TotalsRequest::read(&app.tenant, &period, params, &headers, &meters)?;
    match request.extent {
        Extent::Page => page(&app, request, Renderer::new(meters), &headers).await,
        Extent::All => {
            let with_body = method != Method::HEAD;
            stream::start(app, request, Renderer::new(meters), &headers, with_body).await
        }
    }
}

async fn page(
    app: &App,
    request: TotalsRequest,
    mut renderer: Renderer,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let format = request.format;
    let (body, next_cursor) = read(app, move |view| {
        let page = view.totals(&request.query)?;
        let next_cursor = request.next_cursor(&page);
        let body = match format {
            Format::Json => renderer.document(&period_name(request.query.period), &page, next_cursor.as_deref()),
            Format::Ndjson | Format::Csv => renderer.rows(format, &page.rows),
        };
        Ok(((body, next_cursor), page.seq))
    })
    .await?;
    let etag = ETag::of(&[format.name().as_bytes(), &body, next_cursor.as_deref().unwrap_or_default().as_bytes()]);
    let mut response = answer(format, Some(&etag), headers, || Body::from(body));
    let cursor = next_cursor.filter(|_| format != Format::Json);
    if let Some(cursor) = cursor.and_then(|cursor| HeaderValue::from_str(&cursor).ok()) {
        response.headers_mut().insert(NEXT_CURSOR, cursor);
    }
    Ok(response)
}

/// 200 with the body, or 304 if the client has it already.
fn answer(format: Format, etag: Option<&ETag>, asked: &HeaderMap, body: impl FnOnce() -> Body) -> Response {
    let mut response = if is_known(asked, etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(body());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        response
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(CACHE_CONTROL, if etag.is_some() { REVALIDATE } else { DO_NOT_STORE });
    if let Some(value) = etag.and_then(|etag| HeaderValue::from_str(etag.as_str()).ok()) {
        headers.insert(ETAG, value);
    }
    response
}

#[cfg(test)]
pub use render::tests::meters as test_meters;

#[cfg(test)]
mod tests;
