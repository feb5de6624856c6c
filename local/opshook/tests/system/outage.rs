//! Storage that is gone, or hangs: 503 in time, nothing half done, and on without a restart once it is back.

use std::net::SocketAddr;
use std::time::Duration;

use engine::{Engine, Storage};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::dynamo::ask;
use crate::faults::Site;
use crate::harness::{
    EVENTS, ONBOARD, Reply, TICKETS, TOKEN, account_created, call, deliver_to, eventually, get, ops, post, settings,
    store,
};
use crate::process::free_port;
use crate::proxy::{Fault, Refusal};

/// The reply and how long it took.
async fn timed(reply: impl Future<Output = Reply>) -> (Reply, Duration) {
    let begun = Instant::now();
    (reply.await, begun.elapsed())
}

#[track_caller]
fn assert_refused((reply, took): &(Reply, Duration), within_seconds: u64) {
    reply.assert_problem(503, "storage_unavailable");
    let seconds: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert!(*took < Duration::from_secs(within_seconds), "it took {took:?}");
}

/// What every function says while it has no storage: it lives, it is not ready, and it changes nothing by saying so.
async fn assert_not_ready(address: SocketAddr) {
    let health = get(&format!("http://{address}/health"), &[]).await;
    assert_eq!((health.status, health.body["status"].as_str()), (200, Some("ok")));
    let (ready, took) = timed(get(&format!("http://{address}/ready"), &[])).await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(took < Duration::from_secs(2), "/ready took {took:?}");
    assert_eq!(get(&format!("http://{address}/metrics"), &[]).await.status, 200);
}

async fn assert_ready(address: SocketAddr) {
    eventually(5, "ready", async || (get(&format!("http://{address}/ready"), &[]).await.status == 200).then_some(()))
        .await;
}

async fn refused_by_receive(site: &Site) {
    let receive = site.world.receive.addr;
    for event in [account_created("onb-away", "example.com"), json!({"event": "x", "domain": "a.example"}).to_string()]
    {
        assert_refused(&timed(deliver_to(receive, &event)).await, 2);
    }
    // What needs no storage is answered as ever.
    deliver_to(receive, "{").await.assert_problem(400, "malformed_json");
    post(&site.world.receive.url(ONBOARD), &[], "{}").await.assert_problem(401, "signature_missing");
    assert_not_ready(receive).await;
}

async fn refused_by_emit_retry(site: &Site) {
    let event = account_created("onb-away", "example.com");
    assert_refused(&timed(site.emit(&event, None)).await, 2);
    assert_refused(&timed(site.emit(&event, Some("key-away"))).await, 2);
    site.emit("{}", None).await.assert_problem(422, "invalid_event");
    assert_not_ready(site.world.emit.addr).await;
}

async fn refused_by_query_events(site: &Site, ticket: &str, event_id: &str) {
    let query = site.world.query.addr;
    let token = format!("Bearer {TOKEN}");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let url = site.world.query.url(&format!("{TICKETS}/{ticket}"));
    let change = timed(call(reqwest::Method::PATCH, &url, &headers, r#"{"status":"closed"}"#));
    let one = format!("{EVENTS}/{event_id}");
    let (events, tickets, one, change, ()) = tokio::join!(
        timed(ops(query, EVENTS)),
        timed(ops(query, TICKETS)),
        timed(ops(query, &one)),
        change,
        assert_not_ready(query),
    );
    // A page makes more calls than a write, and has more time.
    for page in [&events, &tickets, &one] {
        assert_refused(page, 7);
    }
    assert_refused(&change, 2);
}

/// All that must hold while `site` has no storage, which had this ticket before.
async fn assert_away(site: &Site, created: &Value) {
    let (ticket, event_id) = (created["ticket_id"].as_str().unwrap(), created["event_id"].as_str().unwrap());
    tokio::join!(
        refused_by_receive(site),
        refused_by_emit_retry(site),
        refused_by_query_events(site, ticket, event_id),
    );
}

/// Every item of a table, as the engine has it.
async fn scan(site: &Site, table: &str) -> String {
    let reply = ask(site.storage.addr, "Scan", &json!({"TableName": table})).await;
    assert_eq!((reply.status, reply.body.get("LastEvaluatedKey")), (200, None), "{reply:?}");
    reply.text
}

/// All that must hold once storage is back, with no function started again.
async fn assert_back(site: &Site, created: &Value) {
    for server in [&site.world.receive, &site.world.query, &site.world.emit] {
        assert_ready(server.addr).await;
    }
    for table in ["opshook_webhook_events", "opshook_outbox"] {
        assert!(!scan(site, table).await.contains("onb-away"), "what was refused is in {table}");
    }
    let event = account_created("onb-away", "example.com");
    assert_eq!(site.world.deliver(&event).await.status, 201);
    let accepted = site.emit(&event, Some("key-away")).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let message = site.delivered(accepted.body["webhook_id"].as_str().unwrap()).await;
    assert_eq!((&message["attempts_total"], &message["attempts"][0]["status"]), (&json!(1), &json!(200)));
    let ticket = site.world.ops(&format!("{TICKETS}/{}", created["ticket_id"].as_str().unwrap())).await.body;
    assert_eq!((&ticket["status"], &ticket["event_id"]), (&json!("open"), &created["event_id"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_engine_each_function_answers_503_in_time_and_goes_on_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let open = || Engine::start(Storage::Directory(dir.path().to_owned()), address);
    let engine = open().await.unwrap();
    store(&settings(address, &[])).await.create_tables(store::tables::ALL).await.unwrap();
    // The functions' engine is that one, with nothing in between.
    let site = Site::direct(address).await;
    let created = site.world.deliver(&account_created("onb-1", "example.com")).await.body;

    // One message that waits for its next attempt, and one whose attempt is under way, when the engine goes away.
    site.ops.set_plan(|call| match (call.before, call.body.contains("onb-waits")) {
        (0, true) => Fault::Refuse(Refusal::Internal),
        (_, true) => Fault::Pass,
        (_, false) => Fault::Delay(Duration::from_secs(1)),
    });
    let mut ids = Vec::new();
    for session in ["onb-waits", "onb-under-way"] {
        let accepted = site.emit(&json!({"event": "x", "session_id": session}).to_string(), None).await;
        ids.push(accepted.body["webhook_id"].as_str().unwrap().to_owned());
    }
    let url = site.world.emit.url(&format!("/api/v1/outbox/{}", ids[0]));
    eventually(5, "the first attempt failed", async || {
        (get(&url, &[]).await.body["attempts_total"] == 1).then_some(())
    })
    .await;
    eventually(5, "the other is under way", async || (site.ops.counts().len() == 2).then_some(())).await;
    eventually(5, "ops has it", async || {
        (!site.world.all(&format!("{EVENTS}?session_id=onb-under-way")).await.is_empty()).then_some(())
    })
    .await;
    engine.stop().await;
    assert_away(&site, &created).await;
    let engine = open().await.unwrap();

    // The dispatcher goes on by itself: nobody asks emit-retry for anything but how it is.
    let waited = site.delivered(&ids[0]).await;
    let statuses: Vec<&Value> =
        waited["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(statuses, [500, 200], "{waited}");
    assert_eq!(site.delivered(&ids[1]).await["attempts_total"], 1, "its outcome waited for storage");
    assert_eq!(site.world.all(&format!("{EVENTS}?session_id=onb-under-way")).await.len(), 1);
    site.ops.set_plan(|_| Fault::Pass);
    assert_back(&site, &created).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_engine_that_takes_calls_and_never_answers_each_function_answers_503_in_time() {
    let site = Site::start().await;
    let created = site.world.deliver(&account_created("onb-1", "example.com")).await.body;
    site.storage.set_plan(|_| Fault::Hang);
    assert_away(&site, &created).await;
    site.storage.set_plan(|_| Fault::Pass);
    assert_back(&site, &created).await;
}
