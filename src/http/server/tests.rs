use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use axum::routing::get;
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;

const LIMITS: Limits = Limits { connections: 8, header: Duration::from_millis(200), idle: Duration::from_millis(600) };

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    "slow"
}

/// A server with a quick and a slow path.
async fn start(limits: Limits) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "ok")).route("/slow", get(slow));
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_router(listener, router, limits, shutdown.clone()));
    (address, shutdown, serving)
}

/// Sends the pieces, then reads until the server closes; with how long that took after the last piece.
async fn exchange(address: SocketAddr, pieces: &[&str]) -> (String, Duration) {
    let pieces: Vec<String> = pieces.iter().map(|piece| piece.to_string()).collect();
    spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        pieces.iter().for_each(|piece| stream.write_all(piece.as_bytes()).unwrap());
        let sent = Instant::now();
        let mut answer = Vec::new();
        // A reset after the answer is as good as a close.
        let _ = stream.read_to_end(&mut answer);
        (String::from_utf8(answer).unwrap(), sent.elapsed())
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn refuses_requests_for_no_host_or_for_two() {
    let (address, ..) = start(LIMITS).await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: u@h\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: localhost:8080\r\nConnection: close\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n", "200"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
    ] {
        let (answer, _) = exchange(address, &[head]).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head:?}: {answer}");
        assert_eq!(answer.contains("content-type: application/problem+json\r\n"), status == "400", "{head:?}");
    }
}

#[tokio::test]
async fn a_header_that_never_ends_is_cut_off_and_one_too_long_is_refused() {
    let (address, ..) = start(LIMITS).await;
    let (answer, took) = exchange(address, &["GET / HTTP/1.1\r\nHost: a\r\n"]).await;
    assert_eq!(answer, "");
    assert!(took >= LIMITS.header && took < LIMITS.idle, "{took:?}");
    let (answer, _) = exchange(address, &["GET / HTTP/1.1\r\nHost: a\r\nX: ", &"x".repeat(HEADER_BYTES_MAX)]).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn idle_connections_are_closed_before_and_after_a_request() {
    let (address, ..) = start(LIMITS).await;
    let (answer, took) = exchange(address, &[]).await;
    assert_eq!(answer, "");
    assert!(took >= LIMITS.idle && took < LIMITS.idle * 3, "{took:?}");
    let (answer, took) = exchange(address, &["GET / HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
    assert!(answer.ends_with("ok"));
    assert!(took >= LIMITS.idle && took < LIMITS.idle * 3, "{took:?}");
}

#[tokio::test]
async fn a_request_under_way_outlasts_every_time_out_of_the_connection() {
    let (address, ..) = start(LIMITS).await;
    let (answer, _) = exchange(address, &["GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]).await;
    assert!(answer.ends_with("slow"), "{answer}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_503_and_the_next_one_is_served_again() {
    let (address, ..) = start(Limits { connections: 1, ..LIMITS }).await;
    let held = spawn_blocking(move || TcpStream::connect(address).unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (answer, _) = exchange(address, &[]).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("content-length: {}", body.len())), "{answer}");
    serde_json::from_str::<serde_json::Value>(body).unwrap();
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (answer, _) = exchange(address, &["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way_and_closes_the_rest() {
    let (address, shutdown, serving) = start(LIMITS).await;
    let idle = spawn_blocking(move || TcpStream::connect(address).unwrap()).await.unwrap();
    let under_way = tokio::spawn(exchange(address, &["GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    shutdown.cancel();
    let (answer, _) = under_way.await.unwrap();
    assert!(answer.ends_with("slow"), "{answer}");
    tokio::time::timeout(Duration::from_secs(2), serving).await.expect("serve returns").unwrap();
    assert!(spawn_blocking(move || TcpStream::connect(address)).await.unwrap().is_err());
    drop(idle);
}
