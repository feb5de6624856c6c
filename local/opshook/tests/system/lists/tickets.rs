//! The desk.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Case, Desk, Hands, event, text, unix_ms};
use crate::harness::{Reply, TICKETS};

const CLOSED: &str = r#"{"status":"closed"}"#;
const OPEN: &str = r#"{ "status" : "open" }"#;

impl Desk {
    async fn ticket(&self, time: &str, session: &str, domain: &str) -> String {
        let reply = self.receive.deliver(unix_ms(time), &event("account.created", session, domain, "{}")).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.body["ticket_id"].as_str().unwrap().to_owned()
    }

    async fn patch(&self, id: &str, body: &str) -> Reply {
        self.call(Method::PATCH, &format!("{TICKETS}/{id}"), &[], body).await
    }

    async fn ticket_ids(&self, query: &[(&str, &str)]) -> Vec<String> {
        let (items, _) = self.pages(TICKETS, query, || 2).await;
        items.iter().map(|item| item["ticket_id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_closed_and_opened_again_and_nothing_else_of_it_changes() {
    let desk = Desk::start().await;
    let id = desk.ticket("2026-11-24T10:00:00.001Z", "s", "one.example").await;
    let url = format!("{TICKETS}/{id}");
    let mut expected = desk.get(&url, &[]).await.body;
    let now = |clock: &Hands| Value::from(text(clock.ms()));
    // To set what is set changes nothing, the times included.
    let steps = [(OPEN, false), (CLOSED, true), (CLOSED, false), (OPEN, true), (OPEN, false), (CLOSED, true)];
    for (body, changes) in steps {
        desk.clock.set(desk.clock.ms() + 61_001);
        if changes {
            let closed = body == CLOSED;
            expected["status"] = if closed { "closed" } else { "open" }.into();
            expected["updated_at"] = now(&desk.clock);
            expected["closed_at"] = if closed { now(&desk.clock) } else { Value::Null };
        }
        let reply = desk.patch(&id, body).await;
        assert_eq!((reply.status, &reply.body), (200, &expected), "{body}");
        assert_eq!(desk.get(&url, &[]).await.body, expected);
        assert_eq!(desk.page(TICKETS, &[]).await.0, [expected.clone()]);
    }
    // Closing it does not reopen the key, and another delivery does not open it.
    let again = desk.receive.deliver(desk.clock.ms(), &event("account.created", "s", "one.example", "{}")).await;
    assert_eq!((again.status, again.body["ticket_id"].as_str()), (200, Some(id.as_str())));
    assert_eq!(desk.get(&url, &[]).await.body, expected);
    for (body, pointer) in [("{}", "/status"), (r#"{"status":"done"}"#, "/status"), (r#"{"status":null}"#, "/status")] {
        let reply = desk.patch(&id, body).await;
        reply.assert_problem(422, "invalid_event");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer);
    }
    desk.patch(&id, "[]").await.assert_problem(422, "invalid_event");
    desk.patch(&id, r#"{"status":"open","subject":"mine"}"#).await.assert_problem(422, "invalid_event");
    desk.patch(&id, "{").await.assert_problem(400, "malformed_json");
    assert_eq!(desk.get(&url, &[]).await.body, expected);
    let other = format!("tkt_{}", "0".repeat(32));
    for unknown in [other.as_str(), "tkt_1", "x", &id.to_uppercase()] {
        desk.get(&format!("{TICKETS}/{unknown}"), &[]).await.assert_problem(404, "not_found");
        desk.patch(unknown, CLOSED).await.assert_problem(404, "not_found");
    }
    // A record that is no ticket is none, and no PATCH makes one.
    let record = desk.deliver("2026-11-24T11:00:00Z", &event("dns.applied", "s", "", "{}")).await;
    desk.get(&format!("{TICKETS}/{record}"), &[]).await.assert_problem(404, "not_found");
    desk.patch(&record, CLOSED).await.assert_problem(404, "not_found");
    assert_eq!(desk.page(TICKETS, &[]).await.0, [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_are_listed_newest_first_by_status_domain_and_time() {
    let desk = Desk::start().await;
    let mut ids = Vec::new();
    for (place, domain) in
        ["one.example", "two.example", "", "one.example", "two.example", "bücher.example"].iter().enumerate()
    {
        let time = format!("2026-11-{:02}T10:00:00.500Z", 10 + place);
        ids.push(desk.ticket(&time, &format!("s{place}"), domain).await);
        // What is no ticket stands in the same indexes.
        desk.deliver(&time, &event("account.created", &format!("s{place}"), domain, r#"{"a":1}"#)).await;
        desk.deliver(&time, &event("dns.applied", &format!("s{place}"), domain, "{}")).await;
    }
    for place in [1, 3] {
        assert_eq!(desk.patch(&ids[place], CLOSED).await.status, 200);
    }
    let cases: &[Case<'_>] = &[
        (&[], &[5, 4, 3, 2, 1, 0]),
        (&[("status", "open")], &[5, 4, 2, 0]),
        (&[("status", "closed")], &[3, 1]),
        (&[("domain", "one.example")], &[3, 0]),
        (&[("domain", "ONE.example.")], &[3, 0]),
        (&[("domain", "Bücher.example")], &[5]),
        (&[("domain", "")], &[2]),
        (&[("domain", ""), ("status", "closed")], &[]),
        (&[("domain", "two.example"), ("status", "open")], &[4]),
        (&[("domain", "two.example"), ("status", "closed")], &[1]),
        (&[("from", "2026-11-12T10:00:00.500Z")], &[5, 4, 3, 2]),
        (&[("from", "2026-11-12T10:00:00.501Z")], &[5, 4, 3]),
        (&[("to", "2026-11-12T11:00:00.500+01:00")], &[1, 0]),
        (&[("to", "2026-11-12T10:00:00.501Z")], &[2, 1, 0]),
        (&[("from", "2026-11-11T10:00:00.5Z"), ("to", "2026-11-15T10:00:00.5Z"), ("status", "closed")], &[3, 1]),
        (&[("from", "2026-11-12T00:00:00Z"), ("domain", "one.example")], &[3]),
        (&[("from", "2026-11-16T00:00:00Z")], &[]),
    ];
    for (query, expected) in cases {
        let expected: Vec<&String> = expected.iter().map(|place| &ids[*place]).collect();
        assert_eq!(desk.ticket_ids(query).await.iter().collect::<Vec<_>>(), expected, "{query:?}");
    }
    for (name, value) in [("status", "done"), ("status", ""), ("order", "asc"), ("session_id", "s"), ("from", "soon")] {
        let reply = desk.get(TICKETS, &[(name, value)]).await;
        reply.assert_problem(400, "invalid_query");
        assert!(reply.body["detail"].as_str().unwrap().contains(name), "{reply:?}");
    }
    assert_eq!(desk.patch(&ids[3], OPEN).await.body["closed_at"], json!(null));
    assert_eq!(desk.ticket_ids(&[("status", "closed")]).await, [ids[1].clone()]);
}
