//! What each function is asked on both, good and bad.

use serde_json::Value;

use super::{Pairs, delivery, ops};
use crate::harness::{EMIT, EVENTS, ONBOARD, TICKETS, TOKEN, account_created};
use crate::raw::Raw;

/// The requests that every function answers, by a route of it that takes only `method`.
fn frame(target: &str, method: &str) -> Vec<Raw> {
    let other = if method == "POST" { "GET" } else { "POST" };
    let mut requests = vec![
        Raw::get("/health"),
        Raw::get("/ready"),
        Raw::get("/metrics"),
        Raw::new("HEAD", "/health"),
        Raw::json("POST", "/health", "{}"),
        Raw::get("/"),
        Raw::get("/nothing?x=1"),
        Raw::get("/api/v1/nothing"),
        Raw::get("/prod/health"),
        ops(Raw::get("/api/v1/%20")),
        ops(Raw::json(other, target, "{}")),
        ops(Raw::json("DELETE", target, "{}")),
        ops(Raw::new("OPTIONS", target)),
    ];
    for id in ["", "a b", "a/b", "ü"] {
        requests.push(Raw::get("/health").header("x-request-id", id));
    }
    requests.push(Raw::get("/nothing").header("x-request-id", "one").header("x-request-id", "two"));
    requests
}

#[tokio::test]
async fn receive_answers_alike_on_both() {
    let Pairs { receive: mut pair, query: _query, emit: _emit, _silent, _engine: engine } = Pairs::start().await;
    let event = account_created("onb-1", "Bücher.example");
    let good = delivery(event.as_str());
    let large = format!("{event}{}", " ".repeat(65_537 - event.len()));
    let twice = |name: &str| good.clone().header(name, good.value(name));
    let mut requests = vec![
        good.clone(),
        good.clone(),
        delivery(event.replace("ana@", "eva@")),
        delivery(format!("{event} ")),
        delivery(event.replace("account.created", "dns.applied")),
        delivery("{\"type\":\"a\",\"session_id\":\"\u{1d516} ü\",\"data\":{\"n\":1e99}}"),
        good.clone().without("webhook-id"),
        good.clone().with("webhook-id", ""),
        good.clone().with("webhook-id", "a.b"),
        good.clone().with("webhook-timestamp", "1"),
        good.clone().with("webhook-signature", "v1,AAAA"),
        twice("webhook-id"),
        twice("webhook-timestamp"),
        twice("webhook-signature"),
        twice("content-type"),
        good.clone().with("content-type", "application/json; a=b").header("content-type", "application/json"),
        good.clone().with("content-type", "text/plain"),
        good.clone().without("content-type"),
        delivery(&large[..65_536]),
        delivery(large),
        delivery(""),
        delivery(b"\xff\x00\xfe".to_vec()),
        delivery(format!("\u{feff}{event}")),
        delivery("{"),
        delivery("[]"),
        delivery("{}"),
        delivery(r#"{"event":"A","session_id":1,"domain":"a b","timestamp":"x","data":[]}"#),
        delivery(format!(r#"{{"event":"a","session_id":"s","data":{}}}"#, "[".repeat(100))),
        Raw::get(&format!("{ONBOARD}/")),
        Raw::get(&format!("/{ONBOARD}")),
        Raw::get("/api/v1/webhooks/%6fnboard"),
    ];
    requests.extend(frame(ONBOARD, "POST"));
    for request in requests {
        for stage in ["$default", "prod"] {
            pair.ask(request.clone(), stage).await;
        }
    }
    let (reply, _) = pair.ask(good.clone(), "prod").await;
    assert_eq!((reply.status, reply.body["outcome"].as_str()), (200, Some("duplicate")), "{reply:?}");
    engine.stop().await;
    let (reply, _) = pair.ask(good, "prod").await;
    assert_eq!((reply.status, reply.headers["retry-after"].to_str().unwrap()), (503, "1"), "{reply:?}");
    pair.ask(Raw::get("/ready"), "prod").await;
}

#[tokio::test]
async fn query_events_answers_alike_on_both() {
    let Pairs { mut receive, query: mut pair, emit: _emit, _silent, _engine } = Pairs::start().await;
    let (mut ids, mut ticket) = (Vec::new(), String::new());
    for (session, domain) in [("onb 1+ü/%", "example.com"), ("onb-2", "Bücher.example"), ("onb-3", "example.com")] {
        let (plain, lambda) = receive.ask(delivery(account_created(session, domain)), "$default").await;
        assert_eq!(plain.status, 201, "{plain:?}");
        ids.push((plain.body["event_id"].clone(), lambda["event_id"].clone()));
        ticket = plain.body["ticket_id"].as_str().unwrap().to_owned();
    }
    let mut requests = vec![Raw::get(EVENTS), Raw::get(EVENTS).header("authorization", "Basic YTpi")];
    for token in ["Bearer a-wrong-token-of-24-or-more", "Bearer", "", &format!("bearer {TOKEN}")] {
        requests.push(Raw::get(TICKETS).header("authorization", token));
    }
    let bearer = format!("Bearer {TOKEN}");
    requests.push(ops(Raw::get(EVENTS)).header("authorization", &bearer));
    requests.push(Raw::get(EVENTS).header("authorization", "Basic YTpi").header("authorization", &bearer));
    requests.push(Raw::get(EVENTS).header("authorization", "Bearer a-wrong-token-of-24-or-more, x"));
    for query in [
        "",
        "?",
        "?&",
        "?limit=2",
        "?limit=2&order=asc",
        "?session_id=",
        "?session_id=onb+1%2B%C3%BC%2F%25",
        "?session_id=onb%201%2B%c3%bc/%25",
        "?session_id=onb+1+%C3%BC",
        "?domain=B%C3%BCcher.example&outcome=ticket_created",
        "?domain=&limit=5",
        "?event=account.created&payload_changed=false",
        "?from=2020-01-01T00:00:00%2B01:00&to=2099-01-01T00:00:00Z",
        "?from=2020-01-01T00:00:00+01:00",
        "?limit=0",
        "?limit",
        "?limit=5&limit=5",
        "?unknown=%3Cscript%3E",
        "?session_id=%ff",
        "?session_id=%00",
        "?cursor=%2F%3D",
        "?x=a=b&y",
    ] {
        requests.push(ops(Raw::get(&format!("{EVENTS}{query}"))));
    }
    for query in ["", "?status=open&limit=1", "?status=closed", "?status=", "?session_id=a", "?domain=example.com"] {
        requests.push(ops(Raw::get(&format!("{TICKETS}{query}"))));
    }
    for id in ["x", "%20", "%ff", "a%2Fb", "..", "tkt_x", &ticket, &format!("{ticket}?x=1"), &format!("{ticket}/")] {
        requests.push(ops(Raw::get(&format!("{TICKETS}/{id}"))));
        requests.push(ops(Raw::get(&format!("{EVENTS}/{id}"))));
    }
    let target = format!("{TICKETS}/{ticket}");
    for body in [r#"{"status":"closed"}"#, r#"{"status":"open" }"#, r#"{"status":"x"}"#, "{", "", "[]", "{}"] {
        requests.push(ops(Raw::json("PATCH", &target, body)));
    }
    requests.push(ops(Raw::json("PATCH", &target, vec![b' '; 65_537])));
    requests.push(ops(Raw::json("PATCH", &target, b"\x80".to_vec())));
    requests.push(ops(Raw::json("PATCH", &target, "{}").with("content-type", "text/plain")));
    requests.push(ops(Raw::json("PATCH", &format!("{TICKETS}/tkt_{:032x}", 1), r#"{"status":"closed"}"#)));
    requests.push(Raw::json("PATCH", &target, r#"{"status":"closed"}"#));
    requests.extend(frame(TICKETS, "GET"));
    for request in requests {
        for stage in ["$default", "prod"] {
            pair.ask(request.clone(), stage).await;
        }
    }
    for (plain, lambda) in ids {
        let of = |id: &Value| ops(Raw::get(&format!("{EVENTS}/{}", id.as_str().unwrap())));
        let (reply, _) = pair.ask_each(of(&plain), of(&lambda), "prod").await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let mut cursors = (String::new(), String::new());
    let mut pages = 0;
    loop {
        let of = |cursor: &str| ops(Raw::get(&format!("{EVENTS}?limit=1{cursor}")));
        let (reply, lambda) = pair.ask_each(of(&cursors.0), of(&cursors.1), "prod").await;
        assert_eq!((reply.status, reply.body["items"].as_array().map(Vec::len)), (200, Some(1)));
        pages += 1;
        let (Some(plain), Some(lambda)) = (reply.body["next_cursor"].as_str(), lambda["next_cursor"].as_str()) else {
            break;
        };
        cursors = (format!("&cursor={plain}"), format!("&cursor={lambda}"));
    }
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn emit_retry_answers_alike_on_both() {
    let Pairs { emit: mut pair, receive: _receive, query: _query, _silent, _engine } = Pairs::start().await;
    let event = account_created("onb-1", "Bücher.example");
    let good = ops(Raw::json("POST", EMIT, event.as_str()));
    let with_key = |key: &str| good.clone().header("idempotency-key", key);
    let large = format!(r#"{{"event":"a","session_id":"s","data":{{"pad":"{}"}}}}"#, "x".repeat(65_400));
    let of_another = with_key("key-1").body(event.replace("onb-1", "onb-2"));
    let mut requests = vec![
        good.clone(),
        with_key("key-1"),
        with_key("key-1"),
        of_another,
        with_key("key-1").body("{}"),
        with_key(""),
        with_key("a,b"),
        with_key("a b"),
        with_key(&"k".repeat(256)),
        with_key("one").header("idempotency-key", "two"),
        with_key("one").header("idempotency-key", "one"),
        good.clone().body(r#"{"event":"a","session_id":"s","x":1,"a/b":2} "#),
        good.clone().body("{}"),
        good.clone().body(""),
        good.clone().body(b"\xff".to_vec()),
        good.clone().body(large.clone()),
        good.clone().body(format!("{large}{}", " ".repeat(200))),
        good.clone().without("content-type"),
        good.clone().with("content-type", "application/json; charset=latin1"),
        good.clone().without("authorization"),
        good.clone().with("authorization", "Bearer x"),
        good.clone().header("authorization", "Bearer x"),
        ops(Raw::get("/api/v1/outbox/msg_1")),
        ops(Raw::get("/api/v1/outbox/a.b")),
        ops(Raw::get("/api/v1/outbox/msg_1?x=1")),
        ops(Raw::get("/api/v1/outbox/%ff")),
        ops(Raw::json("POST", "/api/v1/outbox/msg_1", "{}")),
    ];
    requests.extend(frame(EMIT, "POST"));
    for request in requests {
        for stage in ["$default", "prod"] {
            pair.ask(request.clone(), stage).await;
        }
    }
    let id = contract::id::WebhookId::from_idempotency_key("key-1");
    let message = ops(Raw::get(&format!("/api/v1/outbox/{id}")));
    let (reply, _) = pair.ask(message, "prod").await;
    assert_eq!((reply.status, reply.body["state"].as_str()), (200, Some("pending")), "{reply:?}");
}
