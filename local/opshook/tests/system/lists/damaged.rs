//! Rows of `webhook_events` that are damaged.

use serde_json::{Value, json};

use super::{Desk, event, text, unix_ms};
use crate::dynamo::operation;
use crate::harness::{EVENTS, TICKETS};

const TABLE: &str = "opshook_webhook_events";

/// What is done to a record's row, and what is shown of it otherwise then.
fn damages() -> Vec<(Value, Value)> {
    let gone = Value::Null;
    vec![
        (json!({"webhook_id": gone}), json!({"webhook_id": ""})),
        (json!({"event": {"N": "1"}}), json!({"event": ""})),
        (json!({"session_id": {"L": []}, "domain": {"BOOL": true}}), json!({"session_id": "", "domain": ""})),
        (json!({"timestamp": {"N": "1"}}), json!({"timestamp": null})),
        (json!({"data": gone}), json!({"data": {}})),
        (json!({"data": {"S": "[1"}}), json!({"data": {}})),
        (json!({"data": {"S": "{\"a\":1,\"a\":2}"}}), json!({"data": {}})),
        (json!({"data": {"M": {"a": {"N": "1"}}}}), json!({"data": {}})),
        (json!({"data_sha256": gone}), json!({})),
        (json!({"outcome": {"S": "lost"}}), json!({})),
        (json!({"outcome": gone}), json!({})),
        (json!({"payload_changed": {"S": "yes"}}), json!({"payload_changed": false})),
        (json!({"payload_changed": gone}), json!({"payload_changed": false})),
        (json!({"expires_at": {"S": "soon"}}), json!({})),
        // All that can go, the keys of the indexes apart.
        (
            json!({"webhook_id": gone, "event": gone, "session_id": gone, "domain": gone, "timestamp": gone, "data": gone,
                   "data_sha256": gone, "outcome": gone, "payload_changed": gone}),
            json!({"webhook_id": "", "event": "", "session_id": "", "domain": "", "timestamp": null, "data": {},
                   "payload_changed": false}),
        ),
    ]
}

/// The same for what only a ticket has.
fn damages_of_tickets() -> Vec<(Value, Value)> {
    let gone = Value::Null;
    vec![
        (json!({"subject": gone}), json!({"subject": ""})),
        (json!({"status": {"S": "lost"}}), json!({})),
        (json!({"status": {"N": "1"}}), json!({})),
        (json!({"status": gone}), json!({})),
        (json!({"email": {"N": "1"}}), json!({"email": null})),
        (json!({"updated_at": gone}), json!({"updated_at": ""})),
        (json!({"closed_at": {"L": []}}), json!({"closed_at": null})),
        (json!({"ticket_id": {"N": "1"}}), json!({})),
        (json!({"data": gone}), json!({})),
    ]
}

impl Desk {
    async fn damage(&self, key: &str, damage: &Value) {
        let wanted = json!({"TableName": TABLE, "Key": {"pk": {"S": key}}});
        let mut row = operation(self.engine.addr(), "GetItem", &wanted).await["Item"].take();
        for (name, value) in damage.as_object().unwrap() {
            if value.is_null() {
                row.as_object_mut().unwrap().remove(name);
            } else {
                row[name] = value.clone();
            }
        }
        operation(self.engine.addr(), "PutItem", &json!({"TableName": TABLE, "Item": row})).await;
    }
}

fn damaged(shown: &Value, otherwise: &Value) -> Value {
    let mut shown = shown.clone();
    for (name, value) in otherwise.as_object().unwrap() {
        shown[name] = value.clone();
    }
    shown["damaged"] = json!(true);
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_of_a_damaged_record_is_shown_and_no_page_breaks() {
    let desk = Desk::start().await;
    let start = unix_ms("2026-11-24T10:00:00Z");
    let mut expected = Vec::new();
    for (place, (damage, otherwise)) in (0..).zip(damages()) {
        // A good one after each.
        for (ms, damage) in [(start + 2 * place, Some((damage, otherwise))), (start + 2 * place + 1, None)] {
            let id = desk.deliver(&text(ms), &event("dns.applied", "s", "one.example", "{\"x\":1}")).await;
            let url = format!("{EVENTS}/{id}");
            let good = desk.get(&url, &[]).await.body;
            let mut shown = good.clone();
            if let Some((damage, otherwise)) = damage {
                desk.damage(&id, &damage).await;
                shown = damaged(&good, &otherwise);
            }
            let one = desk.get(&url, &[]).await;
            assert_eq!((one.status, &one.body), (200, &shown));
            shown.as_object_mut().unwrap().remove("body");
            expected.push(shown);
        }
    }
    for order in ["asc", "desc"] {
        for list in [&[][..], &[("session_id", "s")], &[("domain", "one.example")]] {
            let query = [list, &[("order", order)]].concat();
            for limit in [1, 7, 500] {
                let (items, _) = desk.pages(EVENTS, &query, || limit).await;
                assert_eq!(items.len(), expected.len(), "{query:?} by {limit}");
                let wanted: Vec<&Value> =
                    if order == "asc" { expected.iter().collect() } else { expected.iter().rev().collect() };
                assert!(items.iter().eq(wanted), "{query:?} by {limit}");
            }
        }
    }
    let id = desk.deliver("2026-11-24T10:01:00Z", &event("dns.applied", "s", "", "{}")).await;
    desk.damage(&id, &json!({"body": null})).await;
    let one = desk.get(&format!("{EVENTS}/{id}"), &[]).await;
    assert_eq!((one.status, &one.body["damaged"], one.body.get("body")), (200, &json!(true), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_of_a_damaged_ticket_is_shown_and_no_page_breaks() {
    let desk = Desk::start().await;
    let start = unix_ms("2026-11-24T10:00:00Z");
    let mut expected = Vec::new();
    for (place, (damage, otherwise)) in (0..).zip(damages_of_tickets()) {
        for (ms, damage) in [(start + 2 * place, Some((damage, otherwise))), (start + 2 * place + 1, None)] {
            let body = event("account.created", &format!("s{ms}"), "one.example", "{}");
            let reply = desk.receive.deliver(ms, &body).await;
            let id = reply.body["ticket_id"].as_str().unwrap();
            let url = format!("{TICKETS}/{id}");
            let mut shown = desk.get(&url, &[]).await.body;
            if let Some((damage, otherwise)) = damage {
                desk.damage(id, &damage).await;
                shown = damaged(&shown, &otherwise);
                let record = desk.get(&format!("{EVENTS}/{}", shown["event_id"].as_str().unwrap()), &[]).await;
                assert_eq!((record.status, &record.body["damaged"]), (200, &json!(true)), "the row is the record, too");
            }
            let one = desk.get(&url, &[]).await;
            assert_eq!((one.status, &one.body), (200, &shown));
            expected.insert(0, shown);
        }
    }
    for list in
        [&[][..], &[("status", "open")], &[("domain", "one.example")], &[("domain", "one.example"), ("status", "open")]]
    {
        for limit in [1, 7, 500] {
            let (items, _) = desk.pages(TICKETS, list, || limit).await;
            assert_eq!(items, expected, "{list:?} by {limit}");
        }
    }
    let (none, _) = desk.pages(TICKETS, &[("status", "closed"), ("domain", "one.example")], || 7).await;
    assert_eq!(none, [Value::Null; 0]);
    // A change mends what it writes.
    let id = expected[expected.len() - 3]["ticket_id"].as_str().unwrap().to_owned();
    let closed = desk.call(reqwest::Method::PATCH, &format!("{TICKETS}/{id}"), &[], "{\"status\":\"closed\"}").await;
    assert_eq!((closed.status, &closed.body["status"], closed.body.get("damaged")), (200, &json!("closed"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_whose_id_is_damaged_are_shown_once_and_the_list_goes_on_after_them() {
    let desk = Desk::start().await;
    let start = unix_ms("2026-11-24T10:00:00Z");
    let mut ids: Vec<String> = Vec::new();
    for place in 0..12 {
        let mut id = desk.deliver(&text(start + place), &event("dns.applied", "s", "one.example", "{}")).await;
        if place % 3 > 0 {
            // Two that no id is between.
            let good = &ids[ids.len() - usize::try_from(place % 3).unwrap()];
            let broken = format!("{}x{}", &good[..14], place % 3);
            desk.damage(&id, &json!({"event_id": {"S": broken}})).await;
            id = broken;
        }
        ids.push(id);
    }
    ids.sort_unstable();
    for order in ["asc", "desc"] {
        for list in [&[][..], &[("session_id", "s")], &[("domain", "one.example")]] {
            for limit in [1, 2, 5, 500] {
                let (items, _) = desk.pages(EVENTS, &[list, &[("order", order)]].concat(), || limit).await;
                let mut shown = super::ids(&items);
                if order == "desc" {
                    shown.reverse();
                }
                assert_eq!(shown, ids, "{list:?} {order} by {limit}");
                assert_eq!(items.iter().filter(|item| item["damaged"] == true && item["received_at"] == "").count(), 8);
            }
        }
    }
}
