//! The rows of these tests are those that emit-retry writes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{OUTBOX, shard};
use crate::dynamo::{Dynamo, operation};
use crate::harness::{EMIT, Server, account_created, engine, eventually, post, settings};
use crate::ops::{self, Ops};
use crate::paged::Paged;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_listed_in_the_state_that_it_has_by_now() {
    let engine = engine().await;
    let script = |session: &str, _| match session {
        "parked" => ops::status(410, "gone"),
        "dead" => ops::status(422, "no"),
        _ => ops::status(200, ""),
    };
    let ops = Ops::start(script).await;
    let more = [("OPS_WEBHOOK_URL", ops.url()), ("OPS_WEBHOOK_RETRY_SCHEDULE", "0s".to_owned())];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    let emit = Server::emit(settings(engine.addr(), &more)).await;
    let lists = Paged(emit.addr);
    let mut all = Vec::new();
    for state in ["delivered", "parked", "dead"] {
        let body = account_created(state, "example.com");
        let accepted = post(&emit.url(EMIT), &[("content-type", "application/json")], body).await;
        let id = accepted.body["webhook_id"].as_str().unwrap().to_owned();
        let query = [("state", state)];
        let item = eventually(20, state, async || lists.page(OUTBOX, &query).await.0.into_iter().next()).await;
        let mut one = lists.get(&format!("{OUTBOX}/{id}"), &[]).await.body;
        let attempts = one["attempts"].take();
        one.as_object_mut().unwrap().remove("attempts");
        one["last_attempt"] = attempts.as_array().unwrap().last().unwrap().clone();
        assert_eq!(item, one);
        assert_eq!((&item["session_id"], &item["last_attempt"]["ms"].is_u64()), (&json!(state), &true));
        check_row(&engine, &id, state, item["accepted_at"].as_str().unwrap()).await;
        all.insert(0, item);
    }
    assert_eq!(lists.page(OUTBOX, &[]).await, (all, None));
    emit.stop().await;
}

/// The keys of a row are those that `super::message` makes, and all of its attributes have the same types.
async fn check_row(engine: &Dynamo, id: &str, state: &'static str, accepted_at: &str) {
    let body = json!({"TableName": super::TABLE, "Key": {"pk": {"S": id}}});
    let row = operation(engine.addr(), "GetItem", &body).await["Item"].take();
    let key = |name: &str| row[name]["S"].as_str().unwrap().to_owned();
    assert_eq!(key("state_key"), format!("{state}#{}", shard(id)));
    assert_eq!(key("session_key"), format!("={state}"));
    assert_eq!(key("accepted_key"), format!("{accepted_at}#{id}"));
    if state == "delivered" {
        assert_eq!((key("due_key"), &row["due_at"]), (format!("{state}#{}", shard(id)), &row["delivered_at"]));
    }
    let types = |row: &Value| -> BTreeSet<(String, String)> {
        let attributes = row.as_object().unwrap().iter();
        attributes
            .map(|(name, value)| (name.clone(), value.as_object().unwrap().keys().next().unwrap().clone()))
            .collect()
    };
    let ours = types(&super::message(0, state, "s1", None).stored);
    let missing: Vec<_> = ours.difference(&types(&row)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?} of {row}");
}
