//! emit-retry brings what it accepted to ops (contract §5), whatever ops and its own hosts do.

mod accepted;
mod answers;
mod many;
mod over_time;

use jiff::Timestamp;
use serde_json::Value;

use crate::dynamo::Dynamo;
use crate::harness::{EMIT, Reply, Server, account_created, eventually, get, post, settings};

pub const JSON: (&str, &str) = ("content-type", "application/json");

/// An emit-retry on an engine that delivers to `url` by a schedule.
pub async fn emit(engine: &Dynamo, url: &str, schedule: &str) -> Server {
    let more = [("OPS_WEBHOOK_URL", url), ("OPS_WEBHOOK_RETRY_SCHEDULE", schedule)];
    Server::emit(settings(engine.addr(), &more)).await
}

/// Posts an event of a session.
pub async fn send(emit: &Server, session: &str) -> Reply {
    post(&emit.url(EMIT), &[JSON], account_created(session, "example.com")).await
}

/// Posts an event of a session and answers with the message's id.
pub async fn accept(emit: &Server, session: &str) -> String {
    let reply = send(emit, session).await;
    assert_eq!((reply.status, reply.body["state"].as_str()), (202, Some("pending")), "{reply:?}");
    reply.body["webhook_id"].as_str().unwrap().to_owned()
}

/// A message as it is now.
pub async fn message(emit: &Server, id: &str) -> Value {
    let reply = get(&emit.url(&format!("/api/v1/outbox/{id}")), &[]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

/// A message once it has that state.
pub async fn once_it_is(emit: &Server, id: &str, state: &str) -> Value {
    eventually(20, state, async || Some(message(emit, id).await).filter(|message| message["state"] == state)).await
}

/// A message once so many attempts are recorded.
pub async fn after_attempts(emit: &Server, id: &str, count: u64) -> Value {
    let what = format!("{count} attempts");
    eventually(20, &what, async || Some(message(emit, id).await).filter(|it| it["attempts_total"] == count)).await
}

/// A time in an answer, in milliseconds.
#[track_caller]
pub fn ms(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.len() == 24 && text.ends_with('Z'), "{text} is not in UTC with milliseconds");
    text.parse::<Timestamp>().unwrap().as_millisecond()
}
