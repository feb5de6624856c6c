//! What receive is sent by those who mean it ill or do it wrong: each has the contract's status and problem (§1–§3, §6),
//! and nothing of it is stored.

mod body;
mod fields;
mod random;
mod routes;
mod secrecy;
mod signature;
mod slow;

use crate::dynamo::items;
use crate::harness::{EVENTS, Reply, TICKETS, World, account_created};
use crate::raw::Raw;

/// Sends what must be refused, and checks the whole problem.
async fn refuse(world: &World, request: &Raw, status: u16, code: &str) -> Reply {
    // Shown when the test fails.
    let shown = String::from_utf8_lossy(&request.bytes()).chars().take(600).collect::<String>();
    println!("{status} {code} is due to:\n{shown}\n");
    let reply = request.send(world.receive.addr).await;
    reply.assert_problem(status, code);
    assert!(!reply.headers.contains_key("www-authenticate"), "no bearer token is meant: {reply:?}");
    reply
}

/// Checks that neither ops nor the engine itself knows of anything.
async fn assert_nothing_is_stored(world: &World) {
    assert_eq!(world.all(EVENTS).await.len(), 0);
    assert_eq!(world.all(TICKETS).await.len(), 0);
    assert_eq!(items(world.engine.addr(), "opshook_webhook_events").await, 0);
}

/// Checks that what is good is still taken.
async fn assert_it_still_works(world: &World) {
    let reply = Raw::delivery(account_created("onb-after", "after.example")).send(world.receive.addr).await;
    assert_eq!((reply.status, reply.body["outcome"].as_str()), (201, Some("ticket_created")), "{reply:?}");
    assert_eq!(world.all(&format!("{EVENTS}?session_id=onb-after")).await.len(), 1);
}
