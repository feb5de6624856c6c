//! emit-retry: what it takes in can be delivered, and what it can't take leaves no trace (contract §1, §5).

use contract::id::WebhookId;
use serde_json::json;

use super::assert_all_under_api_wants_a_token;
use crate::dynamo::items;
use crate::harness::{EMIT, Reply, Server, World, account_created, engine, eventually, get, settings};
use crate::raw::Raw;

const MOST: usize = 65_536;
const OUTBOX: &str = "opshook_outbox";

fn emitted(body: impl Into<Vec<u8>>) -> Raw {
    Raw::json("POST", EMIT, body)
}

fn pointers(reply: &Reply) -> Vec<&str> {
    reply.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_field_that_the_contract_does_not_know_is_a_422_that_points_at_it() {
    let world = World::start().await;
    let with = |more: &str| emitted(format!(r#"{{"event":"account.created","session_id":"s",{more}}}"#));
    let long = "k".repeat(1_000);
    for (more, pointer) in [
        (r#""emial":"x""#.to_owned(), "/emial".to_owned()),
        (r#""Domain":"example.com""#.to_owned(), "/Domain".to_owned()),
        (r#""":1"#.to_owned(), "/".to_owned()),
        (r#""a/b~c":null"#.to_owned(), "/a~1b~0c".to_owned()),
        (format!(r#""{long}":1"#), format!("/{}…", &long[..127])),
    ] {
        let reply = with(&more).send(world.emit.addr).await;
        reply.assert_problem(422, "invalid_event");
        assert_eq!(pointers(&reply), [pointer]);
    }
    let several = with(r#""domain":"a b","x":1,"data":[],"y":2"#).send(world.emit.addr).await;
    assert_eq!(pointers(&several), ["/domain", "/data", "/x", "/y"]);
    let many: Vec<String> = (0..3_000).map(|n| format!(r#""k{n}":0"#)).collect();
    assert_eq!(pointers(&with(&many.join(",")).send(world.emit.addr).await).len(), 20);
    assert_eq!(items(world.engine.addr(), OUTBOX).await, 0);
}

#[tokio::test]
async fn a_body_that_is_wrong_for_receive_is_wrong_here_too() {
    let world = World::start().await;
    let good = account_created("onb-1", "example.com");
    let cases = [
        (emitted(good.as_str()).body("x".repeat(MOST + 1)), 413, "payload_too_large"),
        (emitted(good.as_str()).with("content-type", "text/plain"), 415, "unsupported_media_type"),
        (emitted(good.as_str()).without("content-type"), 415, "unsupported_media_type"),
        (emitted(""), 400, "malformed_json"),
        (emitted(&good[1..]), 400, "malformed_json"),
        (emitted(good.replace("\"domain\"", "\"session_id\"")), 400, "malformed_json"),
        (emitted("[]"), 422, "invalid_event"),
        (emitted("{}"), 422, "invalid_event"),
        (emitted(good.replace("example.com\",\"", "a b\",\"")), 422, "invalid_event"),
    ];
    for (request, status, code) in cases {
        request.send(world.emit.addr).await.assert_problem(status, code);
    }
    assert_eq!(items(world.engine.addr(), OUTBOX).await, 0);
}

/// An event of exactly so many bytes, with these fields beside a padded `data`.
fn padded(fields: &str, bytes: usize) -> String {
    let (before, after) = (format!(r#"{{{fields},"data":{{"pad":""#), r#""}}"#);
    let pad = "x".repeat(bytes - before.len() - after.len());
    format!("{before}{pad}{after}")
}

#[tokio::test]
async fn what_is_measured_is_what_will_be_sent_so_that_what_is_taken_can_be_delivered() {
    let world = World::start().await;
    let as_sent = |domain: &str| {
        format!(r#""event":"a","session_id":"s","domain":"{domain}","timestamp":"2026-11-24T10:15:30Z""#)
    };
    // A timestamp is added, a domain becomes punycode, `type` becomes `event`: each makes it larger than it came.
    for grows in [
        r#""event":"a","session_id":"s""#.to_owned(),
        as_sent("ü.ü.ü.example"),
        as_sent("example.com").replace(r#""event""#, r#""type""#),
        as_sent("").replace(r#""domain":"","#, ""),
    ] {
        let body = padded(&grows, MOST);
        assert_eq!(body.len(), MOST);
        emitted(body).send(world.emit.addr).await.assert_problem(413, "payload_too_large");
    }
    assert_eq!(items(world.engine.addr(), OUTBOX).await, 0);

    let spaced = format!("{}{}", padded(r#""event":"a","session_id":"s""#, MOST - 100), " ".repeat(100));
    for body in [padded(&as_sent("example.com"), MOST), spaced] {
        let accepted = emitted(body).send(world.emit.addr).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let message = world.emit.url(&format!("/api/v1/outbox/{}", accepted.body["webhook_id"].as_str().unwrap()));
        let attempts = eventually(10, "delivered", async || {
            let message = get(&message, &[]).await.body;
            (message["state"] == "delivered").then(|| message["attempts_total"].clone())
        })
        .await;
        assert_eq!(attempts, 1);
    }
}

#[tokio::test]
async fn an_idempotency_key_is_1_to_255_visible_ascii_characters_and_stands_once() {
    let world = World::start().await;
    let good = emitted(account_created("onb-1", "example.com"));
    let long = "k".repeat(256);
    let wrong: [&[u8]; 9] =
        [b"", b"  ", long.as_bytes(), b"a,b", b",", b"a b", b"a\tb", "schlüssel".as_bytes(), b"\xff"];
    for key in wrong {
        let reply = good.clone().header("idempotency-key", key).send(world.emit.addr).await;
        reply.assert_problem(400, "invalid_header");
        assert!(reply.body["detail"].as_str().unwrap().contains("Idempotency-Key"), "{reply:?}");
    }
    for second in ["k", "other", ""] {
        let twice = good.clone().header("idempotency-key", "k").header("Idempotency-Key", second);
        twice.send(world.emit.addr).await.assert_problem(400, "invalid_header");
    }
    assert_eq!(items(world.engine.addr(), OUTBOX).await, 0);
    for key in ["k", "!", "~a.b/c:d;e=", &"k".repeat(255)] {
        let reply = good.clone().header("idempotency-key", key).send(world.emit.addr).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    }
}

#[tokio::test]
async fn a_key_that_comes_again_with_another_body_is_a_422_and_adds_nothing() {
    let world = World::start().await;
    let body = account_created("onb-1", "example.com");
    let send = async |body: &str| emitted(body).header("idempotency-key", "key-1").send(world.emit.addr).await;
    let first = send(&body).await;
    assert_eq!(first.status, 202, "{first:?}");
    // The message, and what is known of the endpoint once it is delivered.
    let known = 2;
    let is_noted = async || (items(world.engine.addr(), OUTBOX).await == known).then_some(());
    eventually(20, "the delivery is noted", is_noted).await;
    let session = body.replace("onb-1", "onb-2");
    // The bytes count: what means the same and is written otherwise is another body.
    for other in [session.as_str(), &format!("{body} "), &body.replace(":true", ": true")] {
        send(other).await.assert_problem(422, "idempotency_mismatch");
    }
    // A body that is none is told so first, whatever the key.
    send("{}").await.assert_problem(422, "invalid_event");
    let again = send(&body).await;
    assert_eq!((again.status, &again.body["webhook_id"]), (202, &first.body["webhook_id"]));
    assert_eq!(items(world.engine.addr(), OUTBOX).await, known);
}

#[tokio::test]
async fn disabled_it_takes_what_is_valid_and_keeps_nothing() {
    let engine = engine().await;
    let mut settings = settings(engine.addr(), &[("OPS_WEBHOOK_ENABLED", "false")]);
    settings.remove("OPS_WEBHOOK_SECRET");
    let emit = Server::emit(settings).await;
    let good = emitted(account_created("onb-1", "example.com"));
    for request in [good.clone(), good.clone().header("idempotency-key", "key-1"), good.clone()] {
        let reply = request.send(emit.addr).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"state":"disabled"}"#));
    }
    let key = WebhookId::from_idempotency_key("key-1");
    let message = Raw::get(&format!("/api/v1/outbox/{key}")).send(emit.addr).await;
    message.assert_problem(404, "not_found");
    emitted("{}").send(emit.addr).await.assert_problem(422, "invalid_event");
    emitted("{").send(emit.addr).await.assert_problem(400, "malformed_json");
    let unknown = json!({"event": "a", "session_id": "s", "x": 1}).to_string();
    emitted(unknown).send(emit.addr).await.assert_problem(422, "invalid_event");
    emitted(vec![b' '; MOST + 1]).send(emit.addr).await.assert_problem(413, "payload_too_large");
    emitted(padded(r#""event":"a","session_id":"s""#, MOST))
        .send(emit.addr)
        .await
        .assert_problem(413, "payload_too_large");
    good.clone().without("content-type").send(emit.addr).await.assert_problem(415, "unsupported_media_type");
    good.header("idempotency-key", "a,b").send(emit.addr).await.assert_problem(400, "invalid_header");
    assert_eq!(items(engine.addr(), OUTBOX).await, 0);
}

#[tokio::test]
async fn with_a_token_set_all_under_api_wants_it() {
    let engine = engine().await;
    let second = "an-older-token-of-24-or-more";
    let tokens = format!("{} {second}", crate::harness::TOKEN);
    let more = [("EMIT_API_TOKEN", tokens.as_str()), ("OPS_WEBHOOK_URL", "http://127.0.0.1:9/")];
    let emit = Server::emit(settings(engine.addr(), &more)).await;
    assert_all_under_api_wants_a_token(emit.addr).await;
    assert_eq!(items(engine.addr(), OUTBOX).await, 0);
    assert_eq!(Raw::get("/health").send(emit.addr).await.status, 200);
    let good = emitted(account_created("onb-1", "example.com"));
    for token in [crate::harness::TOKEN, second] {
        for scheme in ["Bearer ", "bearer ", "BEARER   "] {
            let reply = good.clone().header("authorization", format!("{scheme}{token}")).send(emit.addr).await;
            assert_eq!(reply.status, 202, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_message_that_there_is_not_is_a_404_and_a_parameter_a_400() {
    let world = World::start().await;
    let long = "m".repeat(257);
    for id in ["msg_1", "a.b", "%20", "%00", "%ff", "%c3%bc", "a%2Fb", "..", &long] {
        let reply = Raw::get(&format!("/api/v1/outbox/{id}")).send(world.emit.addr).await;
        reply.assert_problem(404, "not_found");
    }
    let reply = Raw::get("/api/v1/outbox/msg_1?state=dead").send(world.emit.addr).await;
    reply.assert_problem(400, "invalid_query");
    assert!(reply.body["detail"].as_str().unwrap().contains("`state`"), "{reply:?}");
    for (method, allow) in [("DELETE", "GET,HEAD"), ("POST", "GET,HEAD")] {
        let reply = Raw::json(method, "/api/v1/outbox/msg_1", "{}").send(world.emit.addr).await;
        reply.assert_problem(405, "method_not_allowed");
        assert_eq!(reply.headers["allow"], allow);
    }
}
