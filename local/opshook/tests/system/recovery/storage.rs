//! The outbox's engine is away while deliveries are under way.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::count;
use crate::delivery::{accept, message, once_it_is, send};
use crate::harness::{Server, engine, eventually, settings};
use crate::ops::{self, Answer, Ops};
use crate::proxy::{Fault, Proxy, pass};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_2xx_that_came_while_storage_was_away_is_recorded_when_it_is_back() {
    let engine = engine().await;
    let way = Proxy::start(engine.addr(), pass()).await;
    let (tell, told) = watch::channel(false);
    let ops = Ops::start(move |_, _| Answer::When(told.clone(), ops::bytes(200, "", ""))).await;
    let url = ops.url();
    let more = [("OPS_WEBHOOK_URL", url.as_str()), ("OPS_WEBHOOK_RETRY_SCHEDULE", "1s,1s")];
    let emit = Server::emit(settings(way.addr, &more)).await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(accept(&emit, &format!("onb-{number}")).await);
    }
    eventually(5, "all under way", async || (ops.counts().len() == 4).then_some(())).await;
    way.set_plan(|_| Fault::CutRequest);
    tell.send(true).unwrap();
    // Longer than a lease holds, so that one who forgot would send again.
    let away = tokio::time::sleep(Duration::from_secs(17));
    let refused = send(&emit, "onb-away").await;
    refused.assert_problem(503, "storage_unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    away.await;
    way.set_plan(|_| Fault::Pass);
    for id in &ids {
        let delivered = once_it_is(&emit, id, "delivered").await;
        assert_eq!((&delivered["attempts_total"], &delivered["attempts"][0]["status"]), (&json!(1), &json!(200)));
        assert_eq!(message(&emit, id).await["state"], "delivered");
    }
    assert_eq!(count(&emit, "pending").await, 0, "nothing is half accepted");
    let counts = ops.counts();
    assert!(counts.len() == 4 && counts.values().all(|count| *count == 1), "each was sent once: {counts:?}");
    emit.stop().await;
}
