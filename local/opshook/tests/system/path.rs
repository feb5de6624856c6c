//! The whole path of an event.

use crate::harness::{EMIT, World, account_created, eventually, get, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_leaves_the_portal_becomes_one_ticket_however_often_it_is_sent() {
    let world = World::start().await;
    let event = account_created("onb-1", "Bücher.example");
    for round in 0..2 {
        let json = [("content-type", "application/json")];
        let accepted = post(&world.emit.url(EMIT), &json, event.clone()).await;
        assert_eq!((accepted.status, accepted.body["state"].as_str()), (202, Some("pending")), "{accepted:?}");
        let id = accepted.body["webhook_id"].as_str().unwrap().to_owned();
        let url = world.emit.url(&format!("/api/v1/outbox/{id}"));
        let message = eventually(10, "delivered", async || {
            let message = get(&url, &[]).await.body;
            (message["state"] == "delivered").then_some(message)
        })
        .await;
        assert_eq!(message["attempts"][0]["status"], if round == 0 { 201 } else { 200 });
        assert_eq!(message["attempts_total"], 1);
    }
    let tickets = world.all("/api/v1/desk/tickets").await;
    assert_eq!(tickets.len(), 1);
    assert_eq!(tickets[0]["subject"], "[account.created] xn--bcher-kva.example — ana@example.com");
    let records = world.all("/api/v1/webhooks/events?session_id=onb-1&order=asc").await;
    let outcomes: Vec<&str> = records.iter().map(|record| record["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ticket_created", "duplicate"]);
    assert!(records.iter().all(|record| record["ticket_id"] == tickets[0]["ticket_id"]));
}
