//! What a record and a ticket show: the contract's fields, and what came as it came.

use contract::wire::{EventRecord, Page};
use serde_json::{Value, json};

use super::{Desk, event, names};
use crate::harness::{EVENTS, TICKETS};

const RECORD: &str =
    "event_id received_at webhook_id event session_id domain timestamp data outcome ticket_id payload_changed";
const TICKET: &str = "ticket_id subject status event session_id domain email event_id created_at updated_at closed_at";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_tickets_have_the_contracts_fields_and_no_others() {
    let desk = Desk::start().await;
    let bodies = [
        event("account.created", "s", "Bücher.example", r#"{"email":"ana@example.com"}"#),
        event("account.created", "s", "xn--bcher-kva.example", r#"{"email":"bea@example.com"}"#),
        r#"{"type":"dns.applied","session_id":"s","timestamp":"2026-11-24T10:15:30.5+01:00","surplus":1}"#.to_owned(),
        event("account.created", "", "two.example", "{}"),
    ];
    let mut answers = Vec::new();
    for (body, second) in bodies.iter().zip(0..) {
        let ms = super::unix_ms("2026-11-24T10:15:30.123Z") + second * 1_000;
        answers.push(desk.receive.deliver(ms, body).await.body);
    }
    let (records, _) = desk.page(EVENTS, &[("order", "asc")]).await;
    let expected = [
        json!({"event": "account.created", "session_id": "s", "domain": "xn--bcher-kva.example", "timestamp": null,
               "data": {"email": "ana@example.com"}, "outcome": "ticket_created", "payload_changed": false,
               "received_at": "2026-11-24T10:15:30.123Z"}),
        json!({"event": "account.created", "session_id": "s", "domain": "xn--bcher-kva.example", "timestamp": null,
               "data": {"email": "bea@example.com"}, "outcome": "duplicate", "payload_changed": true,
               "received_at": "2026-11-24T10:15:31.123Z"}),
        json!({"event": "dns.applied", "session_id": "s", "domain": "", "timestamp": "2026-11-24T10:15:30.5+01:00",
               "data": {}, "outcome": "recorded", "payload_changed": false,
               "received_at": "2026-11-24T10:15:32.123Z"}),
        json!({"event": "account.created", "session_id": "", "domain": "two.example", "timestamp": null,
               "data": {}, "outcome": "ticket_created", "payload_changed": false,
               "received_at": "2026-11-24T10:15:33.123Z"}),
    ];
    for (((record, mut expected), answer), body) in records.iter().zip(expected).zip(&answers).zip(&bodies) {
        for name in ["event_id", "webhook_id", "ticket_id"] {
            expected[name] = answer[name].clone();
        }
        assert_eq!(names(&expected), RECORD.split(' ').collect());
        assert_eq!(*record, expected);
        let id = answer["event_id"].as_str().unwrap();
        expected["body"] = body.as_str().into();
        for id in [id.to_owned(), id.to_uppercase()] {
            assert_eq!(desk.get(&format!("{EVENTS}/{id}"), &[]).await.body, expected);
        }
    }
    assert_eq!(records.len(), 4);
    let (tickets, _) = desk.page(TICKETS, &[]).await;
    let ticket = json!({"ticket_id": answers[0]["ticket_id"], "event_id": answers[0]["event_id"],
        "subject": "[account.created] xn--bcher-kva.example — ana@example.com", "status": "open",
        "event": "account.created", "session_id": "s", "domain": "xn--bcher-kva.example", "email": "ana@example.com",
        "created_at": "2026-11-24T10:15:30.123Z", "updated_at": "2026-11-24T10:15:30.123Z", "closed_at": null});
    assert_eq!(names(&ticket), TICKET.split(' ').collect());
    assert_eq!(tickets[1], ticket);
    assert_eq!(desk.get(&format!("{TICKETS}/{}", answers[0]["ticket_id"].as_str().unwrap()), &[]).await.body, ticket);
    let mut bare: Vec<(&str, &Value)> = TICKET.split(' ').map(|name| (name, &tickets[0][name])).collect();
    bare.retain(|(name, _)| ["subject", "email", "session_id"].contains(name));
    let (subject, empty) = (json!("[account.created] two.example"), json!(""));
    assert_eq!(bare, [("subject", &subject), ("session_id", &empty), ("email", &Value::Null)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_and_body_are_kept_as_they_came() {
    let desk = Desk::start().await;
    let deep = format!("{}1{}", r#"{"x":["#.repeat(30), "]}".repeat(30));
    let data = [
        r#"{"b":1,"a":2,"":3,"B":4}"#,
        r#"{"n":[1e999,-0,-0.0,1.50,1E+2,123456789012345678901234567890123456789012345678901234567890]}"#,
        r#"{ "s" : "\u00e9é\ud83e\udd80🦀\/\n\u0000" ,"t": null,  "e":{},"l":[ ] }"#,
        "{\"lines\":\n\t[1,\r\n 2]}",
        r#"{"body":"{\"data\":{}}","pk":"x","event_id":"y","N":{"N":"1"}}"#,
        &deep,
    ];
    for (data, minute) in data.iter().zip(0..) {
        let body = format!("\n {{\"domain\":\"one.example\" ,\"data\":{data},\"type\":\"dns.applied\"}}\r\n");
        let id = desk.deliver(&format!("2026-11-24T10:{minute:02}:00Z"), &body).await;
        let one = desk.get(&format!("{EVENTS}/{id}"), &[]).await;
        let record: EventRecord = serde_json::from_str(&one.text).unwrap();
        assert_eq!((record.body.as_deref(), record.data.as_str()), (Some(body.as_str()), *data));
        for list in [("limit", "1"), ("domain", "one.example")] {
            let page = desk.get(EVENTS, &[list]).await;
            let page: Page<EventRecord> = serde_json::from_str(&page.text).unwrap();
            assert_eq!((page.items[0].body.as_deref(), page.items[0].data.as_str()), (None, *data));
        }
    }
}
