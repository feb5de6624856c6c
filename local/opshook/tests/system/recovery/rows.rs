//! Rows that can't be read, and rows of a process whose clock is wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::outbox::Claim;
use tokio::time::Instant;

use super::{activity, count, operation, put, replay, switched};
use crate::delivery::{emit, message, once_it_is};
use crate::harness::{engine, eventually, get, settings, store};

/// What may happen to an attribute by hand or by another version.
struct Damage {
    name: &'static str,
    /// None where it is removed.
    value: Option<Value>,
    /// Whether the rest is enough to send.
    is_whole: bool,
}

fn damages() -> Vec<Damage> {
    let (number, word) = (json!({"N": "7"}), json!({"S": "soon"}));
    let set = |name: &'static str, value: &Value| Damage { name, value: Some(value.clone()), is_whole: name != "body" };
    let remove = |name: &'static str| Damage { name, value: None, is_whole: name != "body" };
    vec![
        set("version", &number),
        remove("version"),
        remove("domain"),
        remove("event"),
        set("attempts_total", &word),
        set("tried_at", &word),
        remove("step"),
        set("lease_until", &word),
        set("next_attempt_at", &word),
        remove("next_attempt_at"),
        remove("accepted_at"),
        set("replay", &word),
        set("state", &json!({"S": "delivered"})),
        set("state", &json!({"S": "lost"})),
        remove("state"),
        set("body", &number),
        remove("body"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_parked_and_told_and_stops_nothing_else() {
    let engine = engine().await;
    let store = store(&settings(engine.addr(), &[])).await;
    // At the head of all that is due, more than are sent at once.
    let long_ago = Timestamp::now() - SignedDuration::from_hours(1);
    let mut damaged = Vec::new();
    for round in 0..6 {
        for Damage { name, value, is_whole } in damages() {
            let id = put(&store, &format!("damaged-{round}"), long_ago, None).await;
            let mut request = json!({
                "TableName": "opshook_outbox", "Key": {"pk": {"S": id}}, "UpdateExpression": "REMOVE #name",
                "ExpressionAttributeNames": {"#name": name},
            });
            if let Some(value) = value {
                request["UpdateExpression"] = json!("SET #name = :value");
                request["ExpressionAttributeValues"] = json!({":value": value});
            }
            operation(&engine, "UpdateItem", request).await;
            damaged.push((id, name, is_whole));
        }
    }
    let mut good = Vec::new();
    for number in 0..5 {
        good.push(put(&store, &format!("good-{number}"), Timestamp::now(), None).await);
    }
    let (ops, _status) = switched(200).await;
    let emit = emit(&engine, &ops.url(), "1s").await;
    for id in &good {
        once_it_is(&emit, id, "delivered").await;
    }
    let parked = damaged.len();
    eventually(20, "parked", async || (count(&emit, "parked").await == parked).then_some(())).await;
    let told = activity(&emit, "&level=warn").await;
    assert_eq!(told.len(), parked);
    for entry in &told {
        assert_eq!(entry["code"], "message_unreadable");
        let id = entry["webhook_id"].as_str().unwrap();
        assert!(damaged.iter().any(|(damaged, ..)| damaged == id));
        assert!(entry["message"].as_str().unwrap().contains("can't be read ("), "{entry}");
    }
    // What is whole enough is sent when someone has it replayed.
    for (id, update, is_whole) in &damaged[..damages().len()] {
        assert_eq!(message(&emit, id).await["state"], "parked");
        let again = replay(&emit, id).await;
        if *is_whole {
            assert_eq!(again.status, 202, "{update}: {again:?}");
            let delivered = once_it_is(&emit, id, "delivered").await;
            assert_eq!(
                (&delivered["event"], &delivered["session_id"]),
                (&json!("account.created"), &json!("damaged-0"))
            );
            assert!(ops.of(id)[0].body.contains("ana@example.com"), "{update}");
        } else {
            again.assert_problem(409, "conflict");
        }
    }
    let list = get(&emit.url("/api/v1/outbox?limit=500"), &[]).await;
    assert_eq!((list.status, list.body["items"].as_array().unwrap().len()), (200, damaged.len() + good.len()));
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_clock_is_an_hour_ahead_strands_nothing_for_the_others() {
    let engine = engine().await;
    let store = store(&settings(engine.addr(), &[])).await;
    let now = Timestamp::now();
    let hour_ahead = now + SignedDuration::from_hours(1);
    let claim = |id: &str| Claim::new(id.to_owned(), hour_ahead);
    let mut ids = Vec::new();
    for number in 0..40 {
        // It was leased when that process died.
        ids.push(put(&store, &format!("onb-{number}"), now, Some(&claim(&format!("claim-{number}")))).await);
    }
    let far = put(&store, "far", now + SignedDuration::from_hours(31), None).await;
    let (ops, _status) = switched(200).await;
    let started = Instant::now();
    let emit = emit(&engine, &ops.url(), "1s").await;
    for id in ids.iter().chain([&far]) {
        once_it_is(&emit, id, "delivered").await;
    }
    assert!(started.elapsed() < Duration::from_secs(12), "no lease was waited for: {:?}", started.elapsed());
    assert!(ops.counts().values().all(|count| *count == 1));
    emit.stop().await;
}
