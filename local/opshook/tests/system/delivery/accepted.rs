//! What is accepted, what is sent for it, and `Idempotency-Key`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{JSON, accept, emit, message, ms, once_it_is};
use crate::dynamo::items;
use crate::harness::{EMIT, Reply, Server, World, account_created, engine, eventually, get, post, settings};
use crate::ops::{self, Answer, Ops};

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn post_with_key(emit: &Server, key: &str, body: &str) -> Reply {
    post(&emit.url(EMIT), &[JSON, ("idempotency-key", key)], body.to_owned()).await
}

fn id(reply: &Reply) -> String {
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(names(&reply.body), BTreeSet::from(["state", "webhook_id"]));
    reply.body["webhook_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_the_event_normalised_and_otherwise_as_it_came() {
    let engine = engine().await;
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let emit = emit(&engine, &ops.url(), "1s").await;
    let data =
        r#"{"b": 1e999,"a":[ 1.50,"\u00e9",{}],"n":123456789012345678901234567890123456789012345678901234567890}"#;
    let body = format!(r#" {{"data":{data}, "type":"dns.applied","domain":" Bücher.Example. "}} "#);
    let accepted = post(&emit.url(EMIT), &[JSON], body).await;
    let id = id(&accepted);
    let sent = eventually(5, "sent", async || ops.of(&id).first().cloned()).await;
    let shown = once_it_is(&emit, &id, "delivered").await;
    let timestamp = shown["accepted_at"].as_str().unwrap();
    let expected = format!(
        r#"{{"event":"dns.applied","session_id":"","domain":"xn--bcher-kva.example","timestamp":"{timestamp}","data":{data}}}"#
    );
    assert_eq!(sent.body, expected);
    assert_eq!((&shown["event"], &shown["session_id"]), (&json!("dns.applied"), &json!("")));
    assert_eq!(shown["domain"], "xn--bcher-kva.example");

    let with_time = r#"{"event":"dns.applied","type":"dns.applied","session_id":" s ","domain":null,"timestamp":"2026-11-24T10:15:30.123456+05:30"}"#;
    let accepted = post(&emit.url(EMIT), &[JSON], with_time).await;
    let id = self::id(&accepted);
    let sent = eventually(5, "sent", async || ops.of(&id).first().cloned()).await;
    let expected = r#"{"event":"dns.applied","session_id":" s ","domain":"","timestamp":"2026-11-24T10:15:30.123456+05:30","data":{}}"#;
    assert_eq!(sent.body, expected);
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_shown_with_the_contracts_fields_and_no_others() {
    let engine = engine().await;
    let ops = Ops::start(|_, before| ops::status(if before == 0 { 500 } else { 200 }, "")).await;
    let emit = emit(&engine, &ops.url(), "0s").await;
    let before = jiff::Timestamp::now().as_millisecond();
    let id = accept(&emit, "onb-1").await;
    let shown = once_it_is(&emit, &id, "delivered").await;
    let wanted =
        "webhook_id state event session_id domain accepted_at next_attempt_at delivered_at attempts attempts_total";
    assert_eq!(names(&shown), wanted.split(' ').collect());
    assert_eq!(names(&shown["attempts"][0]), "at status error ms answer".split(' ').collect());
    let fields = ["webhook_id", "event", "session_id", "domain"].map(|name| shown[name].as_str().unwrap());
    assert_eq!(fields, [&id, "account.created", "onb-1", "example.com"]);
    let times = [ms(&shown["accepted_at"]), ms(&shown["attempts"][0]["at"]), ms(&shown["attempts"][1]["at"])];
    assert!(times.is_sorted() && times[0] >= before && times[2] <= ms(&shown["delivered_at"]), "{shown}");
    for unknown in ["msg_none", "a.b", "%20", &"x".repeat(300), &id.to_uppercase()] {
        let reply = get(&emit.url(&format!("/api/v1/outbox/{unknown}")), &[]).await;
        reply.assert_problem(404, "not_found");
    }
    get(&emit.url(&format!("/api/v1/outbox/{id}?all=1")), &[]).await.assert_problem(400, "invalid_query");
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_and_body_is_the_same_message_with_its_state_now() {
    let engine = engine().await;
    let (tell, told) = tokio::sync::watch::channel(false);
    let script = move |session: &str, _| match session {
        "parked" => ops::status(410, ""),
        "dead" => ops::status(500, ""),
        _ => Answer::When(told.clone(), ops::bytes(200, "", "")),
    };
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), "0s").await;
    let body = account_created("delivered", "example.com");
    let mut ids = BTreeSet::new();
    for (key, state) in [("k-1", "delivered"), ("k-2", "parked"), ("k-3", "dead")] {
        let body = account_created(state, "example.com");
        let first = post_with_key(&emit, key, &body).await;
        assert_eq!(first.body["state"], "pending");
        let id = id(&first);
        let hex = id.strip_prefix("msg_").unwrap();
        assert!(hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id}");
        if state == "delivered" {
            let again = post_with_key(&emit, key, &body).await;
            assert_eq!((self::id(&again), &again.body["state"]), (id.clone(), &json!("pending")));
            tell.send(true).unwrap();
        }
        once_it_is(&emit, &id, state).await;
        let again = post_with_key(&emit, key, &body).await;
        assert_eq!((self::id(&again), &again.body["state"]), (id.clone(), &json!(state)));
        assert_eq!(ops.of(&id).len(), if state == "dead" { 2 } else { 1 });
        ids.insert(id);
    }
    // Another body is a fault of the caller, be it the same event; nothing of the message changes.
    let id = id(&post_with_key(&emit, "k-1", &body).await);
    let before = message(&emit, &id).await;
    for other in [account_created("other", "example.com"), format!("{body} "), body.replace("ana@", "bea@")] {
        post_with_key(&emit, "k-1", &other).await.assert_problem(422, "idempotency_mismatch");
    }
    assert_eq!(message(&emit, &id).await, before);
    // Another key, be it in another case, is another message; and so is none at all.
    ids.insert(self::id(&post_with_key(&emit, "K-1", &body).await));
    for _ in 0..2 {
        let id = self::id(&post(&emit.url(EMIT), &[JSON], body.clone()).await);
        let uuid = id.strip_prefix("msg_").unwrap();
        let hyphens: Vec<usize> = uuid.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((uuid.len(), &hyphens[..], &uuid[14..15]), (36, &[8, 13, 18, 23][..], "7"), "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 6);
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_posts_at_once_with_one_key_are_one_message_and_one_delivery() {
    let engine = engine().await;
    let ops = Ops::start(|_, _| Answer::Slow(std::time::Duration::from_millis(100), ops::bytes(201, "", ""))).await;
    let (one, two) = (emit(&engine, &ops.url(), "1s").await, emit(&engine, &ops.url(), "1s").await);
    let body = account_created("onb-1", "example.com");
    let mut posts = JoinSet::new();
    for number in 0..50 {
        let (url, body) = ([&one, &two][number % 2].url(EMIT), body.clone());
        posts.spawn(async move { id(&post(&url, &[JSON, ("idempotency-key", "a-key")], body).await) });
    }
    let ids: BTreeSet<String> = posts.join_all().await.into_iter().collect();
    let [id] = ids.iter().collect::<Vec<_>>()[..] else { panic!("{ids:?}") };
    assert_eq!(once_it_is(&one, id, "delivered").await["attempts_total"], 1);
    one.stop().await;
    two.stop().await;
    assert_eq!(ops.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_fits_through_receive_to_the_byte() {
    let world = World::start().await;
    let of = |padding: usize| {
        format!(r#"{{"type":"dns.applied","session_id":"s","data":{{"x":"{}"}}}}"#, "x".repeat(padding))
    };
    // What is sent has a domain and a timestamp more.
    let small = r#"{"event":"dns.applied","session_id":"s","domain":"","timestamp":"2026-11-24T10:15:30.123Z","data":{"x":""}}"#;
    let fits = 65_536 - small.len();
    assert!(of(fits + 1).len() < 65_536);
    let accepted = post(&world.emit.url(EMIT), &[JSON], of(fits)).await;
    let delivered = once_it_is(&world.emit, &id(&accepted), "delivered").await;
    assert_eq!((&delivered["attempts"][0]["status"], &delivered["attempts_total"]), (&json!(200), &json!(1)));
    let record = world.all("/api/v1/webhooks/events?session_id=s").await;
    let whole = world.ops(&format!("/api/v1/webhooks/events/{}", record[0]["event_id"].as_str().unwrap())).await;
    assert_eq!(whole.body["body"].as_str().unwrap().len(), 65_536);
    post(&world.emit.url(EMIT), &[JSON], of(fits + 1)).await.assert_problem(413, "payload_too_large");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_sending_is_disabled_a_valid_event_is_answered_and_nothing_is_kept() {
    let engine = engine().await;
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let more = [("OPS_WEBHOOK_ENABLED", "false"), ("OPS_WEBHOOK_URL", &ops.url())];
    let emit = Server::emit(settings(engine.addr(), &more)).await;
    let body = account_created("onb-1", "example.com");
    let replies = [post(&emit.url(EMIT), &[JSON], body.clone()).await, post_with_key(&emit, "a-key", &body).await];
    for reply in replies {
        assert_eq!((reply.status, &reply.body), (200, &json!({"state": "disabled"})));
    }
    post(&emit.url(EMIT), &[JSON], "{}").await.assert_problem(422, "invalid_event");
    emit.stop().await;
    assert_eq!(items(engine.addr(), "opshook_outbox").await, 0);
    assert_eq!(ops.seen().len(), 0);
}
