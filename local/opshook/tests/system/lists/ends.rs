//! A page ends early where there is no room or no time for more.

use std::time::Duration;

use contract::time;
use serde_json::{Value, json};
use store::Deadline;
use store::pages::{Order, PageRequest, RecordFilter};

use super::{Desk, event, ids, text, unix_ms};
use crate::dynamo::{Dynamo, operation};
use crate::harness::{EVENTS, settings, store};
use crate::paged::Paged;
use crate::proxy::{Fault, Proxy, Refusal, pass};

const TABLE: &str = "opshook_webhook_events";
const MOST_BYTES: usize = 5_000_000;

/// `count` records a second after each other, each like the one that receive wrote but for its id; oldest first.
async fn fill(desk: &Desk, count: i64, data: &str) -> Vec<String> {
    let start = unix_ms("2026-11-24T10:00:00Z");
    let first = desk.deliver(&text(start), &event("dns.applied", "s", "one.example", data)).await;
    let wanted = json!({"TableName": TABLE, "Key": {"pk": {"S": first}}});
    let row = operation(desk.engine.addr(), "GetItem", &wanted).await["Item"].take();
    let mut all = vec![first.clone()];
    let mut puts = Vec::new();
    for number in 1..count {
        let ms = format!("{:012x}", start + 1_000 * number);
        let id = format!("{}-{}{}", &ms[..8], &ms[8..], &first[13..]);
        let mut row = row.clone();
        for name in ["pk", "event_id"] {
            row[name] = json!({"S": id});
        }
        puts.push(json!({"PutRequest": {"Item": row}}));
        all.push(id);
    }
    for puts in puts.chunks(25) {
        let answer = operation(desk.engine.addr(), "BatchWriteItem", &json!({"RequestItems": {TABLE: puts}})).await;
        assert!(answer["UnprocessedItems"].as_object().is_none_or(serde_json::Map::is_empty), "{answer}");
    }
    all
}

/// Pages through a list and checks each page's size as a Lambda's answer has it.
async fn page_through(lists: &Paged, path: &str, query: &[(&str, &str)]) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, None::<String>);
    loop {
        let mut query = query.to_vec();
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let reply = lists.get(path, &query).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let bytes = Value::from(reply.text.as_str()).to_string().len();
        assert!(bytes < MOST_BYTES, "{bytes} bytes");
        pages += 1;
        items.extend(reply.body["items"].as_array().unwrap().iter().cloned());
        match reply.body["next_cursor"].as_str() {
            Some(next) => {
                assert!(bytes > MOST_BYTES / 2, "a page ends early only where there is no room: {bytes} bytes");
                cursor = Some(next.to_owned());
            }
            None => return (items, pages),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_of_64_kib_page_through_whole_in_both_orders() {
    let desk = Desk::start().await;
    // As long as it may be; the quotes are the longer for each time that they are escaped.
    let data = format!("{{\"x\":\"{}\"}}", "\\\"x".repeat(21_000));
    let mut all = fill(&desk, 500, &data).await;
    let lists = Paged(desk.query.addr);
    for (list, order) in [(&[("session_id", "s")][..], "asc"), (&[], "desc")] {
        if order == "desc" {
            all.reverse();
        }
        let query = [list, &[("order", order), ("limit", "500")]].concat();
        let (items, pages) = page_through(&lists, EVENTS, &query).await;
        assert!(ids(&items) == all, "{order}: a row is lost or shown twice");
        assert!(items.iter().all(|item| item["data"]["x"].as_str().unwrap().len() == 42_000));
        assert!(pages > 8, "{pages}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_whose_time_runs_out_shows_what_it_has_and_the_next_one_goes_on() {
    let desk = Desk::start().await;
    let all = fill(&desk, 450, "{}").await;
    let way = Proxy::start(desk.engine.addr(), pass()).await;
    let store = store(&settings(way.addr, &[])).await;
    let now = time::parse_rfc3339("2026-11-24T12:00:00Z").unwrap();
    let page = async |cursor: Option<&str>, seconds| {
        let filter = RecordFilter { order: Order::Ascending, ..RecordFilter::default() };
        let deadline = Deadline::within(Duration::from_secs(seconds));
        let page = store.records(&filter, PageRequest { limit: 500, cursor, now, deadline }).await;
        page.map(|page| (page.items.into_iter().map(|record| record.event_id).collect::<Vec<_>>(), page.next_cursor))
    };
    for (operation, passed) in [("BatchGetItem", 2), ("Query", 6)] {
        let mut seen = 0;
        way.set_plan(move |call| {
            seen += u32::from(call.operation == operation);
            if call.operation == operation && seen > passed { Fault::Refuse(Refusal::Throttling) } else { Fault::Pass }
        });
        let (mut shown, next) = page(None, 2).await.unwrap();
        assert!((1..450).contains(&shown.len()) && next.is_some(), "{operation}: {}", shown.len());
        // With no progress there is no page.
        assert!(page(next.as_deref(), 1).await.is_err(), "{operation}");
        way.set_plan(|_| Fault::Pass);
        let (rest, end) = page(next.as_deref(), 30).await.unwrap();
        shown.extend(rest);
        assert_eq!((shown == all, end), (true, None), "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_storage_leaves_unprocessed_are_asked_for_again_after_pauses_that_grow() {
    let desk = Desk::start().await;
    let all = fill(&desk, 20, "{}").await;
    let way = Proxy::start(desk.engine.addr(), pass()).await;
    let store = store(&settings(way.addr, &[])).await;
    let now = time::parse_rfc3339("2026-11-24T12:00:00Z").unwrap();
    let page = async || {
        let filter = RecordFilter { order: Order::Ascending, ..RecordFilter::default() };
        let deadline = Deadline::within(Duration::from_secs(2));
        let page = store.records(&filter, PageRequest { limit: 50, cursor: None, now, deadline }).await;
        page.map(|page| page.items.into_iter().map(|record| record.event_id).collect::<Vec<_>>())
    };
    let busy = |call: &crate::proxy::Call| call.operation == "BatchGetItem";
    way.set_plan(move |call| if busy(call) { Fault::Unprocessed } else { Fault::Pass });
    assert!(page().await.is_err());
    // 25, 50, 100, 200 ms at least, and then 300 each.
    let calls = way.count(Fault::Unprocessed);
    assert!((3..=10).contains(&calls), "{calls} calls in 2 s");
    let mut left = 3;
    way.set_plan(move |call| {
        let refuse = busy(call) && left > 0;
        left -= i32::from(refuse);
        if refuse { Fault::Unprocessed } else { Fault::Pass }
    });
    assert_eq!(page().await.unwrap(), all);
}

/// An outbox whose messages' last attempts have long answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outbox_s_pages_end_early_too() {
    let engine: Dynamo = crate::harness::engine().await;
    let emit = crate::harness::Server::emit(settings(engine.addr(), &[("OPS_WEBHOOK_ENABLED", "false")])).await;
    let attempt =
        json!([{"at": "x", "status": 500, "error": null, "ms": 1, "answer": "\"".repeat(20_000)}]).to_string();
    for number in 0..120 {
        let id = format!("msg_{number:03}0");
        let item = json!({
            "pk": {"S": id}, "state": {"S": "dead"}, "attempts": {"S": attempt}, "state_key": {"S": "dead#0"},
            "session_key": {"S": "none#0"}, "accepted_key": {"S": format!("2026-11-24T10:00:00.{number:03}Z#{id}")},
        });
        operation(engine.addr(), "PutItem", &json!({"TableName": "opshook_outbox", "Item": item})).await;
    }
    let (items, pages) = page_through(&Paged(emit.addr), "/api/v1/outbox", &[("limit", "500")]).await;
    let shown: Vec<&str> = items.iter().map(|item| item["webhook_id"].as_str().unwrap()).collect();
    let all: Vec<String> = (0..120).rev().map(|number| format!("msg_{number:03}0")).collect();
    assert_eq!((shown, pages >= 2), (all.iter().map(String::as_str).collect(), true));
}
