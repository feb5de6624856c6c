//! What emit-retry shows of its outbox and its activity log (contract §5). The rows are put into the table as they are,
//! so that the tests say what time, state and damage they have; `format` checks that emit-retry writes them so.

mod cost;
mod damaged;
mod delivered;
mod format;
mod model;
mod oldest;
mod paging;
mod parameters;

use contract::id::{IdSource, WebhookId};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::Store;

use crate::dynamo::{self, Dynamo};
use crate::harness::{Server, engine, settings, store};
use crate::paged::Paged;

const OUTBOX: &str = "/api/v1/outbox";
const ACTIVITY: &str = "/api/v1/activity";
const TABLE: &str = "opshook_outbox";
const STATES: [&str; 4] = ["pending", "delivered", "parked", "dead"];
const LEVELS: [&str; 2] = ["info", "warn"];
/// A session that is named as an index may name those without one is the last.
const SESSIONS: [&str; 5] = ["", "s1", "s 2&é#", "activity=s1", "none#1"];

/// A row, and how it should be shown.
#[derive(Debug, Clone)]
struct Row {
    id: String,
    ms: i64,
    /// What lists are sorted by.
    key: String,
    /// Its state or level.
    name: &'static str,
    session: &'static str,
    expired: bool,
    stored: Value,
    shown: Value,
}

fn text(ms: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(ms).unwrap())
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

fn shard(id: &str) -> u8 {
    id.bytes().last().unwrap() % 4
}

/// A new id of a message or an entry; those of one millisecond come in no order.
fn new_id(prefix: &str) -> String {
    let id = WebhookId::new(Timestamp::now(), &IdSource::new()).to_string();
    id.replace("msg_", prefix)
}

/// A message as emit-retry stores and shows it. It expires so many seconds from now.
fn message(ms: i64, state: &'static str, session: &'static str, expires_in_s: Option<i64>) -> Row {
    let id = new_id("msg_");
    let key = format!("{}#{id}", text(ms));
    let session_key = if session.is_empty() { format!("none#{}", shard(&id)) } else { format!("={session}") };
    let attempt = |status| json!({"at": text(ms + 5), "status": status, "error": null, "ms": 7, "answer": "no"});
    let attempts = if state == "pending" { json!([]) } else { json!([attempt(500), attempt(503)]) };
    let number = |number: i64| json!({"N": number.to_string()});
    let mut stored = json!({
        "pk": {"S": id}, "version": {"N": "1"}, "state": {"S": state}, "event": {"S": "dns.applied"},
        "session_id": {"S": session}, "domain": {"S": "one.example"}, "body": {"S": "{\"secret\":1}"},
        "request_sha256": {"S": "00"}, "accepted_at": number(ms), "attempts": {"S": attempts.to_string()},
        "attempts_total": {"N": attempts.as_array().unwrap().len().to_string()}, "step": {"N": "0"},
        "replay": {"N": "0"}, "state_key": {"S": format!("{state}#{}", shard(&id))},
        "session_key": {"S": session_key}, "accepted_key": {"S": key},
    });
    let mut shown = json!({
        "webhook_id": id, "state": state, "event": "dns.applied", "session_id": session, "domain": "one.example",
        "accepted_at": text(ms), "next_attempt_at": null, "delivered_at": null,
        "attempts_total": attempts.as_array().unwrap().len(), "last_attempt": attempts[1],
    });
    let (name, field) = if state == "delivered" { ("delivered_at", ms + 12) } else { ("next_attempt_at", ms) };
    if ["pending", "delivered"].contains(&state) {
        stored[name] = number(field);
        shown[name] = text(field).into();
        stored["due_key"] =
            json!({"S": format!("{}#{}", if state == "delivered" { state } else { "first" }, shard(&id))});
        stored["due_at"] = number(field);
    }
    if let Some(seconds) = expires_in_s {
        stored["expires_at"] = number(Timestamp::now().as_second() + seconds);
    }
    Row { id, ms, key, name: state, session, expired: expires_in_s.is_some_and(|s| s <= 0), stored, shown }
}

/// An entry of the activity log, about a message where it has a session.
fn entry(ms: i64, level: &'static str, session: &'static str, expires_in_s: i64) -> Row {
    let id = new_id("act_");
    let key = format!("{}#{id}", text(ms));
    let expires_at = Timestamp::now().as_second() + expires_in_s;
    let mut stored = json!({
        "pk": {"S": id}, "state": {"S": level}, "code": {"S": "message_dead"}, "message": {"S": "In words."},
        "at": {"N": ms.to_string()}, "expires_at": {"N": expires_at.to_string()},
        "state_key": {"S": format!("activity#{}", shard(&id))}, "accepted_key": {"S": key},
    });
    let mut shown = json!({"at": text(ms), "level": level, "code": "message_dead", "message": "In words.",
                           "webhook_id": null, "session_id": null});
    if !session.is_empty() {
        for (name, value) in [("session_id", session.to_owned()), ("webhook_id", format!("msg_of_{id}"))] {
            stored[name] = json!({"S": value});
            shown[name] = value.into();
        }
        stored["session_key"] = json!({"S": format!("activity={session}")});
    }
    Row { id, ms, key, name: level, session, expired: expires_in_s <= 0, stored, shown }
}

/// An emit-retry that sends nothing, on an engine.
struct Board {
    engine: Dynamo,
    store: Store,
    lists: Paged,
    _emit: Server,
}

impl Board {
    async fn start() -> Self {
        let engine = engine().await;
        let settings = settings(engine.addr(), &[("OPS_WEBHOOK_ENABLED", "false")]);
        let store = store(&settings).await;
        let emit = Server::emit(settings).await;
        Self { engine, store, lists: Paged(emit.addr), _emit: emit }
    }

    async fn operation(&self, name: &str, body: Value) -> Value {
        dynamo::operation(self.engine.addr(), name, &body).await
    }

    async fn put(&self, rows: &[Row]) {
        for rows in rows.chunks(25) {
            let puts: Vec<Value> = rows.iter().map(|row| json!({"PutRequest": {"Item": row.stored}})).collect();
            let answer = self.operation("BatchWriteItem", json!({"RequestItems": {TABLE: puts}})).await;
            assert!(answer["UnprocessedItems"].as_object().is_none_or(serde_json::Map::is_empty), "{answer}");
        }
    }

    /// The ids of the messages that a list shows.
    async fn ids(&self, query: &[(&str, &str)]) -> Vec<String> {
        ids(&self.lists.pages(OUTBOX, query, || 500).await.0)
    }
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["webhook_id"].as_str().unwrap().to_owned()).collect()
}

/// Newest first.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| b.key.cmp(&a.key));
    rows
}
