//! A page in a browser on this machine can reach every loopback port. The engine's takes nothing from it.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::process::{OPSHOOK, Process};
use crate::proxy::{Message, Wire};

/// Sends one request of the engine's protocol with these header lines more.
async fn ask(engine: SocketAddr, method: &str, operation: &str, headers: &str, body: &str) -> Message {
    let request = format!(
        "{method} / HTTP/1.1\r\nhost: {engine}\r\nx-amz-target: DynamoDB_20120810.{operation}\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    Wire::connect(engine).await.unwrap().exchange(request.as_bytes()).await.unwrap()
}

#[track_caller]
fn assert_refused(answer: &Message) {
    assert_eq!(answer.status(), 403, "{}", answer.head);
    assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
    assert!(!String::from_utf8_lossy(&answer.body).contains("opshook_"), "it names a table");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_a_browser_can_neither_read_nor_change_what_opshook_up_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let free = "127.0.0.1:0";
    let arguments = ["up", "--data-dir", data, "--json", "--receive-addr", free, "--query-addr", free, "--emit-addr"];
    let arguments = [&arguments[..], &[free, "--dynamodb-addr", free]].concat();
    let mut up = Process::start(Path::new(OPSHOOK), &arguments, [("RUST_LOG", "warn")]);
    let addresses: Value = serde_json::from_str(&up.line_with(r#""dynamodb":"#).await).unwrap();
    let engine: SocketAddr = addresses["dynamodb"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();

    let delete = r#"{"TableName":"opshook_outbox"}"#;
    // What a page sends with no preflight: a simple request, also from a sandboxed frame or a file.
    for origin in ["https://evil.example", "http://localhost:3000", "null"] {
        let origin = format!("origin: {origin}\r\n");
        let simple = format!("{origin}content-type: text/plain\r\n");
        assert_refused(&ask(engine, "POST", "ListTables", &simple, "{}").await);
        assert_refused(&ask(engine, "POST", "DeleteTable", &simple, delete).await);
        assert_refused(&ask(engine, "GET", "", &origin, "").await);
        // And the preflight for all else.
        let preflight = format!(
            "{origin}access-control-request-method: POST\r\naccess-control-request-headers: x-amz-target\r\n\
             access-control-request-private-network: true\r\n"
        );
        assert_refused(&ask(engine, "OPTIONS", "", &preflight, "").await);
    }
    // A program is served, and finds all in place.
    let tables = ask(engine, "POST", "ListTables", "", "{}").await;
    assert_eq!(tables.status(), 200);
    let tables: Value = serde_json::from_slice(&tables.body).unwrap();
    assert_eq!(tables["TableNames"], serde_json::json!(["opshook_outbox", "opshook_webhook_events"]));
}
