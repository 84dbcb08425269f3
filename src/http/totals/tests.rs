use axum::http::header::IF_NONE_MATCH;

use super::*;

fn headers(if_none_match: &str) -> HeaderMap {
    [(IF_NONE_MATCH, HeaderValue::from_str(if_none_match).unwrap())].into_iter().collect()
}

#[tokio::test]
async fn a_body_the_client_has_is_answered_304_without_it_and_with_the_same_headers() {
    let etag = ETag::of(&[b"body"]);
    let full = answer(Format::Csv, Some(&etag), &HeaderMap::new(), || Body::from("body"));
    assert_eq!(
        (full.status(), &full.headers()[ETAG]),
        (StatusCode::OK, &HeaderValue::from_str(etag.as_str()).unwrap())
    );
    assert_eq!(full.headers()[CONTENT_TYPE], "text/csv; charset=utf-8; header=present");
    let short = answer(Format::Csv, Some(&etag), &headers(etag.as_str()), || unreachable!("no body is made"));
    assert_eq!(short.status(), StatusCode::NOT_MODIFIED);
    for name in [ETAG, VARY, CACHE_CONTROL] {
        assert_eq!(short.headers()[&name], full.headers()[&name], "{name}");
    }
    let body = axum::body::to_bytes(short.into_body(), 1).await.unwrap();
    assert!(body.is_empty());
}

#[test]
fn what_has_no_tag_is_not_to_be_kept() {
    let response = answer(Format::Ndjson, None, &headers("\"x\""), || Body::from("body"));
    assert_eq!((response.status(), &response.headers()[CACHE_CONTROL]), (StatusCode::OK, &DO_NOT_STORE));
    assert!(!response.headers().contains_key(ETAG));
}
