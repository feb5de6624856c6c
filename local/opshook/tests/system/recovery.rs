//! What happens when ops or storage was away, and when someone has what rests sent again (contract §5).

mod disk;
mod down;
mod fencing;
mod replay;
mod rows;
mod stop;
mod storage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use contract::event::{Event, UnknownFields};
use contract::id::{IdSource, WebhookId};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::outbox::{Acceptance, Claim, NewMessage};
use store::{Deadline, Store};

use crate::delivery::JSON;
use crate::dynamo::{self, Dynamo};
use crate::harness::{Reply, Server, account_created, get, post};
use crate::ops::{self, Ops};

const OUTBOX: &str = "/api/v1/outbox";
const ACTIVITY: &str = "/api/v1/activity";

/// An endpoint whose status the test changes.
pub(crate) async fn switched(status: u16) -> (Ops, Arc<AtomicU16>) {
    let switch = Arc::new(AtomicU16::new(status));
    let now = Arc::clone(&switch);
    (Ops::start(move |_, _| ops::status(now.load(Ordering::Relaxed), "")).await, switch)
}

/// What the activity log says, newest first.
async fn activity(emit: &Server, query: &str) -> Vec<Value> {
    let reply = get(&emit.url(&format!("{ACTIVITY}?limit=500{query}")), &[]).await;
    assert_eq!((reply.status, &reply.body["next_cursor"]), (200, &Value::Null), "{reply:?}");
    reply.body["items"].as_array().unwrap().clone()
}

/// The codes of it.
async fn codes(emit: &Server) -> Vec<String> {
    activity(emit, "").await.iter().map(|entry| entry["code"].as_str().unwrap().to_owned()).collect()
}

/// How many messages have that state.
async fn count(emit: &Server, state: &str) -> usize {
    let reply = get(&emit.url(&format!("{OUTBOX}?state={state}&limit=500")), &[]).await;
    assert_eq!((reply.status, &reply.body["next_cursor"]), (200, &Value::Null), "{reply:?}");
    reply.body["items"].as_array().unwrap().len()
}

async fn replay(emit: &Server, id: &str) -> Reply {
    post(&emit.url(&format!("{OUTBOX}/{id}/replay")), &[], "").await
}

async fn replay_all(emit: &Server, body: Value) -> Reply {
    post(&emit.url(&format!("{OUTBOX}/replay")), &[JSON], body.to_string()).await
}

/// The time, as opshook writes it.
fn now() -> String {
    contract::time::format_ms(Timestamp::now())
}

/// All that was delivered until now.
fn delivered() -> Value {
    json!({"state": "delivered", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})
}

/// Puts a message into the outbox as an emit-retry whose clock says `now` would, with a claim or without.
pub(crate) async fn put(store: &Store, session: &str, now: Timestamp, claim: Option<&Claim>) -> String {
    let request = account_created(session, "example.com");
    let event = Event::parse(request.as_bytes(), UnknownFields::Refuse).unwrap();
    let webhook_id = WebhookId::new(now, &IdSource::new());
    let body = event.to_body(now);
    let message = NewMessage {
        webhook_id: &webhook_id,
        event: &event,
        body: &body,
        request: request.as_bytes(),
        accepted_at: now,
    };
    let deadline = Deadline::within(std::time::Duration::from_secs(10));
    assert!(matches!(store.accept(&message, claim, deadline).await.unwrap(), Acceptance::Accepted(_)));
    webhook_id.to_string()
}

/// One operation on an engine, as DynamoDB's protocol has it.
pub(crate) async fn operation(engine: &Dynamo, name: &str, body: Value) -> Value {
    dynamo::operation(engine.addr(), name, &body).await
}
