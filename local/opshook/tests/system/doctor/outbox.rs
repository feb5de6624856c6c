//! What rests or waits in the outbox.

use crate::dynamo::Dynamo;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Told, doctor, local, owned, portal};
use crate::delivery::once_it_is;
use crate::harness::{Server, engine, store};
use crate::ops::Ops;
use crate::recovery::{operation, put, switched};

struct Portal {
    engine: Dynamo,
    endpoint: String,
    url: String,
    _ops: Ops,
}

impl Portal {
    /// An outbox whose ops side answers with this status, and an emit-retry that tries twice.
    async fn start(status: u16) -> (Self, Server) {
        let engine = engine().await;
        let endpoint = local(engine.addr());
        let (ops, _) = switched(status).await;
        let url = ops.url();
        let settings = [portal(&endpoint, "127.0.0.1:0", &url), vec![("OPS_WEBHOOK_RETRY_SCHEDULE", "0s")]].concat();
        let settings: Vec<_> = settings.into_iter().filter(|(name, _)| *name != "EMIT_API_TOKEN").collect();
        let emit = Server::emit(owned(&settings)).await;
        (Self { engine, endpoint, url, _ops: ops }, emit)
    }

    /// Looks, while emit-retry's server is of no interest.
    async fn doctor(&self) -> Told {
        doctor(&["portal"], &portal(&self.endpoint, "127.0.0.1:0", &self.url)).await
    }

    async fn put(&self, session: &str, accepted_at: Timestamp) -> String {
        put(&store(&owned(&portal(&self.endpoint, "127.0.0.1:0", &self.url))).await, session, accepted_at, None).await
    }

    /// As a newer emit-retry would write it.
    async fn make_newer(&self, id: &str) {
        let change = json!({"TableName": "opshook_outbox", "Key": {"pk": {"S": id}},
            "UpdateExpression": "SET version = :v REMOVE attempts_total", "ExpressionAttributeValues": {":v": {"N": "2"}}});
        operation(&self.engine, "UpdateItem", change).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_parked_messages_are_told_with_the_call_that_sends_them_again() {
    for (status, state) in [(422, "dead"), (410, "parked")] {
        let (host, emit) = Portal::start(status).await;
        let ids = [host.put("one", Timestamp::now()).await, host.put("two", Timestamp::now()).await];
        for id in &ids {
            once_it_is(&emit, id, state).await;
        }
        let told = host.doctor().await;
        let finding = told.of(&format!("outbox {state}"));
        assert_eq!((told.status, finding["status"].as_str()), (1, Some("fail")), "{:#}", told.report);
        let (saw, remedy) = (finding["saw"].as_str().unwrap(), finding["remedy"].as_str().unwrap());
        assert!(saw.starts_with(&format!("2 messages are {state}, the oldest accepted at 20")), "{saw}");
        assert!(
            remedy.contains("/api/v1/outbox/replay") && remedy.contains(&format!("{{\"state\":\"{state}\"}}")),
            "{remedy}"
        );
        assert!(remedy.contains("$EMIT_API_TOKEN"), "the name and never the value: {remedy}");
        emit.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_too_long_is_told_by_the_age_of_the_oldest() {
    let (host, emit) = Portal::start(500).await;
    emit.stop().await;
    let now = Timestamp::now();
    host.put("new", now).await;
    assert_eq!(host.doctor().await.of("outbox pending")["status"], "ok");
    host.put("old", now - SignedDuration::from_mins(30)).await;
    host.doctor().await.assert_warned("outbox pending", "2 messages are pending, the oldest for 30 min", "ops");
    host.put("oldest", now - SignedDuration::from_hours(5)).await;
    let told = host.doctor().await;
    let finding = told.of("outbox pending");
    assert_eq!(finding["status"], "fail");
    assert!(finding["saw"].as_str().unwrap().contains("3 messages are pending, the oldest for 5 h"), "{finding}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_newer_version_are_told_before_and_after_they_are_parked() {
    let (host, emit) = Portal::start(200).await;
    emit.stop().await;
    let id = host.put("newer", Timestamp::now()).await;
    host.make_newer(&id).await;
    let told = host.doctor().await;
    let finding = told.of("outbox format");
    assert!(
        finding["saw"].as_str().unwrap().starts_with("1 of its messages were written by a newer emit-retry"),
        "{finding}"
    );
    assert!(finding["remedy"].as_str().unwrap().contains("upgrade emit-retry"), "{finding}");

    let settings = portal(&host.endpoint, "127.0.0.1:0", &host.url);
    let settings: Vec<_> = settings.into_iter().filter(|(name, _)| *name != "EMIT_API_TOKEN").collect();
    let emit = Server::emit(owned(&settings)).await;
    once_it_is(&emit, &id, "parked").await;
    let activity = crate::harness::get(&emit.url("/api/v1/activity?level=warn"), &[]).await.body;
    let message = activity["items"][0]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("a newer emit-retry wrote it, in format 2, and this one knows 1: upgrade it"),
        "{message}"
    );
    let told = host.doctor().await;
    assert_eq!(told.of("outbox format")["status"], "fail");
    assert_eq!(told.of("outbox parked")["status"], "fail");
    emit.stop().await;
}
