//! What rests is sent again: one message or many, as often as one likes, and never a second ticket.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{activity, codes, count, delivered, now, operation, replay, replay_all, switched};
use crate::delivery::{JSON, accept, emit, message, once_it_is};
use crate::dynamo::Dynamo;
use crate::harness::{ONBOARD, Server, TICKETS, all, engine, eventually, post, settings};
use crate::ops::{self, Answer, Ops};
use crate::proxy::{Fault, Proxy, Refusal, pass};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_keeps_id_and_body_and_starts_the_schedule_afresh() {
    let engine = engine().await;
    let (ops, status) = switched(422).await;
    let emit = emit(&engine, &ops.url(), "0s,0s").await;
    let id = accept(&emit, "onb-1").await;
    let dead = once_it_is(&emit, &id, "dead").await;
    assert_eq!(dead["attempts_total"], 3);
    for round in 1..=2 {
        let again = replay(&emit, &id).await;
        assert_eq!(
            (again.status, &again.body["state"], &again.body["webhook_id"]),
            (202, &json!("pending"), &json!(id))
        );
        assert_eq!((&again.body["delivered_at"], again.body["next_attempt_at"].is_string()), (&Value::Null, true));
        assert_eq!(again.body["accepted_at"], dead["accepted_at"]);
        let dead = once_it_is(&emit, &id, "dead").await;
        assert_eq!(dead["attempts_total"], 3 + 3 * round, "the whole schedule again");
    }
    status.store(200, Ordering::Relaxed);
    assert_eq!(replay(&emit, &id).await.status, 202);
    let first = once_it_is(&emit, &id, "delivered").await;
    assert_eq!(replay(&emit, &id).await.status, 202, "a delivered one too");
    eventually(10, "again", async || (message(&emit, &id).await["attempts_total"] == 11).then_some(())).await;
    let second = once_it_is(&emit, &id, "delivered").await;
    assert!(second["delivered_at"].as_str() > first["delivered_at"].as_str());
    let seen = ops.of(&id);
    assert!(seen.len() == 11 && seen.iter().all(|other| other.body == seen[0].body));
    let told = activity(&emit, "&session_id=onb-1&level=info").await;
    assert_eq!((told.len(), &told[0]["code"], &told[0]["webhook_id"]), (4, &json!("message_replayed"), &json!(id)));
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pending_or_unknown_is_not_replayed() {
    let engine = engine().await;
    let ops = Ops::start(|_, _| Answer::Stall(Vec::new())).await;
    let emit = emit(&engine, &ops.url(), "1m").await;
    let id = accept(&emit, "onb-1").await;
    replay(&emit, &id).await.assert_problem(409, "conflict");
    for unknown in ["msg_01a21094-9390-7584-b3a5-42f12baff001", "x", "act_1", "breaker%23x", "%00"] {
        replay(&emit, unknown).await.assert_problem(404, "not_found");
    }
    let url = emit.url(&format!("/api/v1/outbox/{id}/replay"));
    post(&format!("{url}?x=1"), &[], "").await.assert_problem(400, "invalid_query");
    crate::harness::get(&url, &[]).await.assert_problem(405, "method_not_allowed");
    assert_eq!(message(&emit, &id).await["state"], "pending");
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_a_bulk_replay_is_named_and_nothing_is_replayed() {
    let engine = engine().await;
    let (ops, _status) = switched(410).await;
    let emit = emit(&engine, &ops.url(), "0s").await;
    let id = accept(&emit, "onb-1").await;
    once_it_is(&emit, &id, "parked").await;
    let time = "2026-11-24T00:00:00Z";
    for (body, pointers) in [
        (json!({}), vec!["/state"]),
        (json!([]), vec![""]),
        (json!({"state": "pending"}), vec!["/state"]),
        (json!({"state": 1}), vec!["/state"]),
        (json!({"state": "lost"}), vec!["/state"]),
        (json!({"state": "parked", "form": time}), vec![""]),
        (json!({"state": "parked", "from": "yesterday"}), vec!["/from"]),
        (json!({"state": "parked", "from": 1, "to": "2026-11-24"}), vec!["/from", "/to"]),
        (json!({"state": "parked", "dry_run": "yes"}), vec!["/dry_run"]),
        (json!({"state": "delivered"}), vec!["/from", "/to"]),
        (json!({"state": "delivered", "from": time}), vec!["/to"]),
        (json!({"state": "delivered", "from": null, "to": time}), vec!["/from"]),
    ] {
        let reply = replay_all(&emit, body.clone()).await;
        reply.assert_problem(422, "invalid_event");
        let errors = reply.body["errors"].as_array().unwrap();
        let found: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(found, pointers, "{body}");
    }
    let url = emit.url("/api/v1/outbox/replay");
    post(&url, &[JSON], "{").await.assert_problem(400, "malformed_json");
    post(&url, &[], "{}").await.assert_problem(415, "unsupported_media_type");
    post(&url, &[JSON], "x".repeat(70_000)).await.assert_problem(413, "payload_too_large");
    assert_eq!((codes(&emit).await, count(&emit, "parked").await), (vec!["message_parked".to_owned()], 1));
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_replay_counts_first_and_takes_what_was_accepted_in_that_time() {
    let engine = engine().await;
    let (ops, status) = switched(410).await;
    let emit = emit(&engine, &ops.url(), "0s").await;
    let mut parked = Vec::new();
    for number in 0..5 {
        let id = accept(&emit, &format!("onb-{number}")).await;
        parked.push(once_it_is(&emit, &id, "parked").await);
    }
    status.store(200, Ordering::Relaxed);
    let (from, to) = (&parked[1]["accepted_at"], &parked[4]["accepted_at"]);
    let dry = replay_all(&emit, json!({"state": "parked", "from": from, "to": to, "dry_run": true})).await;
    assert_eq!((dry.status, dry.body), (200, json!({"count": 3, "more": false})));
    assert_eq!(count(&emit, "parked").await, 5);
    let done = replay_all(&emit, json!({"state": "parked", "from": from, "to": to})).await;
    assert_eq!((done.status, done.body), (202, json!({"count": 3, "more": false})));
    eventually(10, "delivered", async || (count(&emit, "delivered").await == 3).then_some(())).await;
    for place in [0, 4] {
        assert_eq!(message(&emit, parked[place]["webhook_id"].as_str().unwrap()).await["state"], "parked");
    }
    let rest = replay_all(&emit, json!({"state": "parked", "dry_run": false})).await;
    assert_eq!((rest.status, rest.body), (202, json!({"count": 2, "more": false})));
    let none = replay_all(&emit, json!({"state": "dead"})).await;
    assert_eq!((none.status, none.body), (202, json!({"count": 0, "more": false})));
    eventually(10, "delivered", async || (count(&emit, "delivered").await == 5).then_some(())).await;
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_thousand_delivered_ones_are_replayed_by_calls_that_go_on_where_the_last_one_ended() {
    let engine = engine().await;
    let (ops, _status) = switched(200).await;
    let emit = emit(&engine, &ops.url(), "0s").await;
    let mut posts = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let url = emit.url(crate::harness::EMIT);
        posts.spawn(async move {
            for number in (worker..1_100).step_by(8) {
                let body = json!({"event": "dns.applied", "session_id": format!("onb-{number}")}).to_string();
                assert_eq!(post(&url, &[JSON], body).await.status, 202);
            }
        });
    }
    posts.join_all().await;
    eventually(60, "sent", async || (ops.counts().len() == 1_100).then_some(())).await;
    eventually(60, "recorded", async || (count(&emit, "pending").await == 0).then_some(())).await;
    let (mut replayed, mut calls, mut wanted) = (0, 0, delivered());
    // What is replayed is delivered again later than that, and so is not found again.
    wanted["to"] = json!(now());
    let mut dry = wanted.clone();
    dry["dry_run"] = json!(true);
    let dry = replay_all(&emit, dry).await;
    assert_eq!((dry.status, &dry.body["count"], &dry.body["more"]), (200, &json!(1_000), &json!(true)));
    loop {
        let done = replay_all(&emit, wanted.clone()).await;
        assert_eq!(done.status, 202, "{done:?}");
        replayed += done.body["count"].as_u64().unwrap();
        calls += 1;
        assert!(calls < 20, "it does not end");
        assert_eq!(done.body["more"].as_bool(), Some(done.body["next_from"].is_string()));
        if done.body["more"] == false {
            break;
        }
        wanted["from"] = done.body["next_from"].clone();
    }
    assert!(calls >= 2, "a call replays at most 1,000");
    assert_eq!(replayed, 1_100, "each once");
    eventually(60, "all again", async || ops.counts().values().all(|count| *count == 2).then_some(())).await;
    emit.stop().await;
}

/// The ids of all tickets, each once.
async fn tickets(query: &Server) -> BTreeSet<String> {
    let items = all(query.addr, TICKETS).await;
    let ids: BTreeSet<String> = items.iter().map(|ticket| ticket["ticket_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), items.len(), "a ticket twice");
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_three_times_over_nothing_becomes_a_second_ticket_and_a_new_database_gets_every_ticket_once() {
    let (outbox, desk) = (engine().await, engine().await);
    let desk_settings = settings(desk.addr(), &[]);
    let receive = Server::receive(desk_settings.clone()).await;
    let query = Server::query(desk_settings).await;
    let way = Proxy::start(receive.addr, pass()).await;
    let emit = emit(&outbox, &format!("http://{}{ONBOARD}", way.addr), "0s").await;
    // Three die on the way, and are replayed.
    way.set_plan(|_| Fault::Refuse(Refusal::Internal));
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(accept(&emit, &format!("onb-{number}")).await);
    }
    for id in &ids {
        once_it_is(&emit, id, "dead").await;
    }
    way.set_plan(|_| Fault::Pass);
    assert_eq!(replay_all(&emit, json!({"state": "dead"})).await.body, json!({"count": 3, "more": false}));
    for number in 3..20 {
        ids.push(accept(&emit, &format!("onb-{number}")).await);
    }
    eventually(10, "delivered", async || (count(&emit, "delivered").await == 20).then_some(())).await;
    let before = tickets(&query).await;
    assert_eq!(before.len(), 20);
    for round in 1..=3 {
        assert_eq!(replay_all(&emit, delivered()).await.body, json!({"count": 20, "more": false}), "{round}");
        eventually(10, "delivered", async || (count(&emit, "delivered").await == 20).then_some(())).await;
    }
    assert_eq!(tickets(&query).await, before);
    // Ops begins afresh.
    let fresh = engine().await;
    let fresh_settings = settings(fresh.addr(), &[]);
    let (receive, query) = (Server::receive(fresh_settings.clone()).await, Server::query(fresh_settings).await);
    way.point_at(receive.addr);
    assert_eq!(replay_all(&emit, delivered()).await.body, json!({"count": 20, "more": false}));
    eventually(10, "all back", async || (tickets(&query).await == before).then_some(())).await;
    eventually(10, "delivered", async || (count(&emit, "delivered").await == 20).then_some(())).await;
    assert_eq!(tickets(&query).await, before);
    emit.stop().await;
}

/// A copy of a database, made row by row.
async fn copy(engine: &Dynamo) -> Dynamo {
    let copy = crate::harness::engine().await;
    for table in ["opshook_outbox", "opshook_webhook_events"] {
        let rows = operation(engine, "Scan", json!({"TableName": table})).await;
        assert_eq!(rows["LastEvaluatedKey"], Value::Null, "more than one page");
        for row in rows["Items"].as_array().unwrap() {
            operation(&copy, "PutItem", json!({"TableName": table, "Item": row})).await;
        }
    }
    copy
}

/// What the operations guide says to post when ops was restored, with these times in place of its own.
fn as_the_guide_says(from: &str, to: &str) -> Value {
    let guide = include_str!("../../../../../docs/operations.md");
    let (_, restore) = guide.split_once("**Ops's disk is lost or restored.**").unwrap();
    let (_, command) = restore.split_once("/api/v1/outbox/replay").unwrap();
    let body = command.split('\'').find(|quoted| quoted.starts_with('{')).unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    assert!(body["from"].is_string() && body["to"].is_string(), "{body}");
    (body["from"], body["to"]) = (json!(from), json!(to));
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ops_restored_from_a_backup_has_every_ticket_once_after_what_the_guide_says() {
    let (outbox, desk) = (engine().await, engine().await);
    let desk_settings = settings(desk.addr(), &[]);
    let (receive, query) = (Server::receive(desk_settings.clone()).await, Server::query(desk_settings).await);
    let way = Proxy::start(receive.addr, pass()).await;
    let emit = emit(&outbox, &format!("http://{}{ONBOARD}", way.addr), &["1s"; 50].join(",")).await;
    let accept_all = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            accept(&emit, &format!("onb-{number}")).await;
        }
    };
    let all_delivered = async |number: usize| {
        eventually(60, "delivered", async || (count(&emit, "delivered").await == number).then_some(())).await;
    };
    accept_all(0..4).await;
    all_delivered(4).await;
    // Accepted before the backup, and delivered after it.
    way.set_plan(|_| Fault::Refuse(Refusal::Unavailable));
    accept_all(4..9).await;
    let (backup, backed_up_at) = (copy(&desk).await, now());
    way.set_plan(|_| Fault::Pass);
    accept_all(9..12).await;
    all_delivered(12).await;
    let before = tickets(&query).await;
    assert_eq!(before.len(), 12);
    let restored = settings(backup.addr(), &[]);
    let (receive, query) = (Server::receive(restored.clone()).await, Server::query(restored).await);
    assert_eq!(tickets(&query).await.len(), 4);
    way.point_at(receive.addr);
    let done = replay_all(&emit, as_the_guide_says(&backed_up_at, &now())).await;
    assert_eq!((done.status, done.body), (202, json!({"count": 8, "more": false})));
    eventually(60, "all back", async || (tickets(&query).await == before).then_some(())).await;
    all_delivered(12).await;
    assert_eq!(tickets(&query).await, before);
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_replay_that_storage_cuts_short_says_what_it_did_and_the_next_call_goes_on() {
    let engine = engine().await;
    let (ops, status) = switched(410).await;
    let way = Proxy::start(engine.addr(), pass()).await;
    let more = [("OPS_WEBHOOK_URL", ops.url()), ("OPS_WEBHOOK_RETRY_SCHEDULE", "0s".to_owned())];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    let emit = Server::emit(settings(way.addr, &more)).await;
    for number in 0..60 {
        accept(&emit, &format!("onb-{number}")).await;
    }
    eventually(60, "parked", async || (count(&emit, "parked").await == 60).then_some(())).await;
    status.store(200, Ordering::Relaxed);
    // Storage is slow, and then takes nothing more.
    let mut passed = 0;
    way.set_plan(move |call| {
        passed += u32::from(call.operation == "TransactWriteItems");
        if passed > 25 { Fault::Refuse(Refusal::Throttling) } else { Fault::Pass }
    });
    let cut = replay_all(&emit, json!({"state": "parked"})).await;
    assert_eq!((cut.status, &cut.body["more"]), (202, &json!(true)), "{cut:?}");
    let first = cut.body["count"].as_u64().unwrap();
    assert!((1..60).contains(&first), "{first}");
    replay_all(&emit, json!({"state": "parked"})).await.assert_problem(503, "storage_unavailable");
    way.set_plan(|_| Fault::Pass);
    let rest = replay_all(&emit, json!({"state": "parked"})).await;
    assert_eq!((rest.status, &rest.body["more"]), (202, &json!(false)));
    assert_eq!(first + rest.body["count"].as_u64().unwrap(), 60);
    eventually(60, "delivered", async || (count(&emit, "delivered").await == 60).then_some(())).await;
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_replays_at_the_same_moment_one_counts() {
    let engine = engine().await;
    let ops = Ops::start(|_, before| ops::status(if before == 0 { 410 } else { 200 }, "")).await;
    let emit = emit(&engine, &ops.url(), "0s").await;
    let id = accept(&emit, "onb-1").await;
    once_it_is(&emit, &id, "parked").await;
    let replies = futures_util::future::join_all((0..8).map(|_| replay(&emit, &id))).await;
    let taken = replies.iter().filter(|reply| reply.status == 202).count();
    assert!(taken >= 1 && replies.iter().all(|reply| [202, 409].contains(&reply.status)));
    eventually(10, "delivered", async || (message(&emit, &id).await["state"] == "delivered").then_some(())).await;
    let told = activity(&emit, "&level=info").await.len();
    assert_eq!(told, taken, "an entry for each replay that counts");
    emit.stop().await;
}
