//! The engine as its clients and its host see it: real sockets, real directories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use opshook_engine::{Engine, EngineError, Storage};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

const TABLE: &str = r#"{"TableName":"things","BillingMode":"PAY_PER_REQUEST",
    "AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}],
    "KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}]}"#;

/// Sends one request in bytes, and reads the answer to its end.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Calls an operation as the SDK does, but without its signature.
fn call(address: SocketAddr, operation: &str, body: &str) -> (u16, String) {
    let headers = format!("host: {address}\r\nx-amz-target: DynamoDB_20120810.{operation}\r\n");
    let answer = exchange(address, &request("POST", "/", &headers, body));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn start(dir: &Path) -> Result<Engine, EngineError> {
    Engine::start(Storage::Directory(dir.to_owned()), LOOPBACK).await
}

#[tokio::test]
async fn an_operation_is_answered_as_dynamodb_does() {
    let engine = Engine::start(Storage::Memory, LOOPBACK).await.unwrap();
    let headers = format!("host: localhost:{}\r\nx-amz-target: DynamoDB_20120810.ListTables\r\n", engine.addr().port());
    let answer = exchange(engine.addr(), &request("POST", "/", &headers, "{}"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: application/x-amz-json-1.0\r\n"), "{answer}");
    assert!(answer.contains("x-amzn-requestid: "), "{answer}");
    assert!(answer.ends_with(r#"{"TableNames":[]}"#), "{answer}");
    assert_eq!(call(engine.addr(), "ExecuteStatement", "{}").0, 400);
    assert!(exchange(engine.addr(), &request("GET", "/", "", "")).contains("healthy"));
    assert!(exchange(engine.addr(), &request("GET", "/shell", "", "")).starts_with("HTTP/1.1 404 "));
    assert!(exchange(engine.addr(), &request("DELETE", "/", "", "")).starts_with("HTTP/1.1 404 "));
    engine.stop().await;
}

#[tokio::test]
async fn a_web_page_is_refused_whatever_it_sends() {
    let engine = Engine::start(Storage::Memory, LOOPBACK).await.unwrap();
    let local = format!("host: {}\r\n", engine.addr());
    let target = "x-amz-target: DynamoDB_20120810.ListTables\r\n";
    for origin in ["http://evil.example", "null", "http://localhost:3000"] {
        for (method, path) in [("POST", "/"), ("OPTIONS", "/"), ("GET", "/"), ("GET", "/shell")] {
            let headers = format!("{local}{target}origin: {origin}\r\naccess-control-request-method: POST\r\n");
            let answer = exchange(engine.addr(), &request(method, path, &headers, "{}"));
            assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {path} {origin}: {answer}");
            assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        }
    }
    for host in ["evil.example", "127.0.0.1.evil.example:8000", "192.168.0.1"] {
        let answer = exchange(engine.addr(), &request("POST", "/", &format!("host: {host}\r\n{target}"), "{}"));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
    }
    engine.stop().await;
}

#[tokio::test]
async fn a_second_engine_on_a_directory_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path()).await.unwrap();
    let error = start(dir.path()).await.unwrap_err();
    assert!(matches!(error, EngineError::Held { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("process {}, listening on {}", std::process::id(), first.addr())), "{text}");
    assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
    first.stop().await;
    start(dir.path()).await.unwrap().stop().await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_nobody_else_can_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let engine = start(&dir).await.unwrap();
    assert_eq!(call(engine.addr(), "CreateTable", TABLE).0, 200);
    let put = r#"{"TableName":"things","Item":{"pk":{"S":"a"},"note":{"S":"kept"}}}"#;
    assert_eq!(call(engine.addr(), "PutItem", put).0, 200);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("opshook.db"))), (0o700, 0o600));
    assert_eq!(mode(&dir.join("opshook.db-wal")), 0o600);
    engine.stop().await;
    assert!(!dir.join("opshook.db-wal").exists(), "the database was not closed");

    let engine = start(&dir).await.unwrap();
    let (status, item) = call(engine.addr(), "GetItem", r#"{"TableName":"things","Key":{"pk":{"S":"a"}}}"#);
    assert_eq!(status, 200);
    assert!(item.contains("kept"), "{item}");
    engine.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_none_and_a_damaged_database_are_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = start(&path).await.unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
    let damaged = dir.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("opshook.db"), "this is no database, however long one looks at it".repeat(100))
        .unwrap();
    let error = start(&damaged).await.unwrap_err();
    assert!(matches!(error, EngineError::Database { .. }));
    assert!(error.to_string().contains("opshook.db") && error.to_string().contains("backup"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_taken_or_not_loopback_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let address = taken.local_addr().unwrap();
    let storage = || Storage::Directory(dir.path().to_owned());
    let error = Engine::start(storage(), address).await.unwrap_err();
    assert_eq!(error.to_string(), format!("can't listen on {address}: the port is in use by another program"));
    let error = Engine::start(storage(), "0.0.0.0:0".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, EngineError::NotLoopback(_)));
    Engine::start(storage(), LOOPBACK).await.expect("the directory is free after a failure").stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_no_half_sent_request() {
    let dir = tempfile::tempdir().unwrap();
    for half in ["", "POST / HT", "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{"] {
        let engine = start(dir.path()).await.unwrap();
        let mut stream = TcpStream::connect(engine.addr()).unwrap();
        stream.write_all(half.as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = Instant::now();
        engine.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{half:?} held the stop for {:?}", begun.elapsed());
    }
    start(dir.path()).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_stop_closes_connections_that_are_kept_alive_at_once() {
    let engine = Engine::start(Storage::Memory, LOOPBACK).await.unwrap();
    let mut stream = TcpStream::connect(engine.addr()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    let begun = Instant::now();
    engine.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dropped_engine_lets_its_directory_go() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path()).await.unwrap());
    let begun = Instant::now();
    while let Err(error) = start(dir.path()).await.map(drop) {
        assert!(matches!(error, EngineError::Held { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(6), "still held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_large_request_is_taken_and_a_larger_one_refused() {
    let engine = Engine::start(Storage::Memory, LOOPBACK).await.unwrap();
    assert_eq!(call(engine.addr(), "CreateTable", TABLE).0, 200);
    let item = |bytes: usize| {
        format!(r#"{{"TableName":"things","Item":{{"pk":{{"S":"a"}},"text":{{"S":"{}"}}}}}}"#, "x".repeat(bytes))
    };
    assert_eq!(call(engine.addr(), "PutItem", &item(390_000)).0, 200);
    let (status, json) = call(engine.addr(), "PutItem", &item(3_000_000));
    assert_eq!(status, 400);
    assert!(json.contains("ValidationException"), "{json}");
    engine.stop().await;
}
