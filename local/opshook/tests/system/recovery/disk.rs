//! The disk is full.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::count;
use crate::delivery::{once_it_is, send};
use crate::harness::{ONBOARD, Server, TICKETS, account_created, all, deliver_to, eventually, settings, store};
use crate::process::{OPSHOOK, Process, free_port};

/// The files of the engine may grow up to this many blocks of 1 KiB.
const LIMIT_KIB: u32 = 700;
const MOST: usize = 2_000;

/// An event that fills a disk soon.
fn large(session: &str) -> String {
    let mut event: Value = serde_json::from_str(&account_created(session, "example.com")).unwrap();
    event["data"]["notes"] = "x".repeat(20_000).into();
    event.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_full_disk_each_function_answers_503_and_goes_on_by_itself_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    // A file that may not grow is what a full disk is to a database; the signal would only end it.
    let command = format!("trap '' XFSZ; ulimit -S -f {LIMIT_KIB}; exec \"$0\" \"$@\"");
    let (listen, data_dir) = (format!("127.0.0.1:{port}"), dir.path().to_str().unwrap());
    let arguments = ["-c", &command, OPSHOOK, "engine", "--listen", &listen, "--data-dir", data_dir];
    let mut engine = Process::start(Path::new("/bin/bash"), &arguments, [("HOME", "/"), ("RUST_LOG", "off")]);
    engine.line_with(&listen).await;
    let base = settings(listen.parse().unwrap(), &[]);
    store(&base).await.create_tables(store::tables::ALL).await.unwrap();
    let receive = Server::receive(base.clone()).await;
    let query = Server::query(base.clone()).await;
    let url = receive.url(ONBOARD);
    let more = [("OPS_WEBHOOK_URL", url.as_str()), ("OPS_WEBHOOK_RETRY_SCHEDULE", "1s,1s,1s,1s,1s,1s,1s,1s,1s")];
    let emit = Server::emit(settings(listen.parse().unwrap(), &more)).await;
    let mut accepted = Vec::new();
    let refused = loop {
        assert!(accepted.len() < MOST, "the disk is never full");
        let session = format!("onb-{}", accepted.len());
        let reply =
            crate::harness::post(&emit.url(crate::harness::EMIT), &[crate::delivery::JSON], large(&session)).await;
        if reply.status != 202 {
            break reply;
        }
        accepted.push(reply.body["webhook_id"].as_str().unwrap().to_owned());
    };
    refused.assert_problem(503, "storage_unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    eventually(10, "receive is full too", async || {
        let reply = deliver_to(receive.addr, &large("direct")).await;
        (reply.status == 503).then(|| reply.assert_problem(503, "storage_unavailable"))
    })
    .await;
    // There is room again.
    let lifted = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &engine.id().to_string()]).status();
    assert!(lifted.unwrap().success());
    for id in &accepted {
        once_it_is(&emit, id, "delivered").await;
    }
    assert_eq!(count(&emit, "delivered").await, accepted.len(), "nothing is half accepted");
    let reply = send(&emit, "afterwards").await;
    assert_eq!(reply.status, 202, "{reply:?}");
    once_it_is(&emit, reply.body["webhook_id"].as_str().unwrap(), "delivered").await;
    let tickets = all(query.addr, TICKETS).await;
    let sessions = tickets.iter().filter(|ticket| ticket["session_id"].as_str().unwrap().starts_with("onb-")).count();
    assert_eq!(sessions, accepted.len(), "one ticket each");
    emit.stop().await;
}
