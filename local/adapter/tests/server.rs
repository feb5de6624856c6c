//! The plain server as its clients and its host see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use common::{Running, read, send, start};
use opshook_adapter::server::{self, Limits, ServeError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);

/// `/slow` answers when `go` is told to, and says on `begun` that it has begun.
struct Slow {
    begun: Arc<Notify>,
    go: Arc<Notify>,
    router: Router,
}

fn slow() -> Slow {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go));
    let router = Router::new()
        .route("/health", get(|| async { "well" }))
        .route(
            "/slow",
            get(move || async move {
                tell.notify_one();
                wait.notified().await;
                "done"
            }),
        )
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }));
    Slow { begun, go, router }
}

const GET_SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: x\r\nx-request-id: mine-1\r\n\r\n";

#[tokio::test]
async fn past_the_limit_a_request_is_refused_at_once_with_a_problem() {
    let Slow { begun, go, router } = slow();
    let server = start(Limits { requests: 1, ..Limits::default() }, router, None).await;
    let mut first = send(server.address, GET_SLOW).await;
    begun.notified().await;

    let refused = read(send(server.address, b"POST /length HTTP/1.1\r\nhost: x\r\nx-request-id: mine-2\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}").await).await;
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("retry-after: 1") && head.contains("content-type: application/problem+json"), "{head}");
    assert!(head.contains("x-request-id: mine-2"), "{head}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&problem["code"], &problem["request_id"]), (&"overloaded".into(), &"mine-2".into()));
    assert!(common::get(server.address, "/").await.starts_with("HTTP/1.1 503 "));
    assert!(common::get(server.address, "/health").await.ends_with("well"));

    go.notify_one();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert!(common::get(server.address, "/length").await.starts_with("HTTP/1.1 405 "), "the place is free again");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_with_a_problem() {
    let Slow { router, .. } = slow();
    let server = start(Limits { request: Duration::from_millis(100), ..Limits::default() }, router, None).await;
    let answer = common::get(server.address, "/slow").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(r#""code":"overloaded""#), "{answer}");
    let half = b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{";
    let answer = timeout(SOON, read(send(server.address, half).await)).await.expect("the connection is closed");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_never_ends_or_is_too_large_is_cut_off() {
    let Slow { router, .. } = slow();
    let server = start(Limits { head: Duration::from_millis(100), ..Limits::default() }, router, None).await;
    for half in ["", "GET /hea", "GET /health HTTP/1.1\r\nhost: x\r\n"] {
        let stream = send(server.address, half.as_bytes()).await;
        assert_eq!(timeout(SOON, read(stream)).await.expect("the connection is closed"), "", "{half:?}");
    }
    let large = format!("GET /health HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(70_000));
    let answer = timeout(SOON, read(send(server.address, large.as_bytes()).await)).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(common::get(server.address, "/health").await.ends_with("well"));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_place() {
    let router = Router::new()
        .route("/large", get(|| async { vec![b'x'; 64 * 1024 * 1024] }))
        .route("/health", get(|| async { "well" }));
    let limits = Limits { connections: 1, unread: Duration::from_secs(1), ..Limits::default() };
    let server = start(limits, router, None).await;
    let _unread = send(server.address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = timeout(Duration::from_secs(20), common::get(server.address, "/health")).await;
    assert!(answer.expect("the place is free again").ends_with("well"));
}

#[tokio::test]
async fn a_stop_finishes_the_request_under_way_and_takes_no_other() {
    let Slow { begun, go, router } = slow();
    let Running { address, stop, mut ended } = start(Limits::default(), router, None).await;
    let stream = send(address, GET_SLOW).await;
    begun.notified().await;
    stop.send(true).unwrap();
    timeout(SOON, async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("new connections are refused");
    assert!(timeout(Duration::from_millis(500), &mut ended).await.is_err(), "it did not wait for the request");
    go.notify_one();
    let answer = timeout(SOON, read(stream)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
    assert_eq!(timeout(SOON, ended).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn idle_and_unused_connections_hold_up_no_stop() {
    let Slow { router, .. } = slow();
    let server = start(Limits::default(), router, None).await;
    let mut idle = send(server.address, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    let _unused = send(server.address, b"").await;
    let _half = send(server.address, b"GET /hea").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    server.stop.send(true).unwrap();
    server.ended.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_that_was_accepted_before_the_stop_gets_its_answer() {
    let Slow { router, .. } = slow();
    let server = start(Limits::default(), router, None).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(send(server.address, b"").await);
    }
    // Connections are accepted in their order, so those before this one were.
    assert!(common::get(server.address, "/health").await.ends_with("well"));
    server.stop.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for stream in &mut streams {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    }
    for stream in streams {
        let answer = timeout(SOON, read(stream)).await.expect("the connection is closed");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("well"), "{answer:?}");
    }
    assert_eq!(timeout(SOON, server.ended).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn a_stop_waits_only_so_long() {
    let Slow { begun, router, .. } = slow();
    let limits = Limits { stop: Duration::from_millis(300), ..Limits::default() };
    let server = start(limits, router, Some(Box::new(|_| Box::pin(std::future::pending())))).await;
    let stream = send(server.address, GET_SLOW).await;
    begun.notified().await;
    server.stop.send(true).unwrap();
    assert_eq!(timeout(SOON, server.ended).await.expect("it gave up").unwrap(), Ok(()));
    assert_eq!(read(stream).await, "");
}

#[tokio::test]
async fn the_background_work_is_told_and_waited_for() {
    let finished = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&finished);
    let server = start(
        Limits::default(),
        Router::new(),
        Some(Box::new(move |mut stop| {
            Box::pin(async move {
                let _ = stop.wait_for(|stop| *stop).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                done.store(true, Ordering::SeqCst);
            })
        })),
    )
    .await;
    server.stop.send(true).unwrap();
    assert_eq!(timeout(SOON, server.ended).await.unwrap().unwrap(), Ok(()));
    assert!(finished.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_server_whose_background_work_dies_ends_too() {
    let server = start(Limits::default(), Router::new(), Some(Box::new(|_| Box::pin(async {})))).await;
    assert_eq!(timeout(SOON, server.ended).await.unwrap().unwrap(), Err(ServeError::BackgroundEnded));
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = server::bind(address, "LISTEN_ADDR").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "LISTEN_ADDR: can't listen on {address}: the port is in use by another program; \
             choose another with LISTEN_ADDR"
        )
    );
    assert_eq!(error.exit_status(), 1);
}
