//! What every function answers alike (contract §6).

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::ops;
use crate::dynamo::{Dynamo, items, operation};
use crate::harness::{EMIT, EVENTS, ONBOARD, Server, World, settings, store};
use crate::raw::Raw;

fn functions(world: &World) -> [(&'static str, SocketAddr, &'static str); 3] {
    [
        ("receive", world.receive.addr, ONBOARD),
        ("query-events", world.query.addr, EVENTS),
        ("emit-retry", world.emit.addr, EMIT),
    ]
}

#[tokio::test]
async fn a_request_id_is_echoed_where_it_is_well_formed_and_made_where_not() {
    let world = World::start().await;
    for (_, server, api) in functions(&world) {
        for target in ["/health", "/nothing", api] {
            for good in ["a", "A-z_0.9", &"x".repeat(128), "...", "-"] {
                let reply = Raw::get(target).header("x-request-id", good).send(server).await;
                assert_eq!(reply.headers["x-request-id"], good);
                assert!(reply.status == 200 || reply.body["request_id"] == good, "{reply:?}");
            }
            let long = "x".repeat(129);
            let bad: [&[u8]; 10] =
                [b"", b" ", long.as_bytes(), b"a b", b"a/b", b"a,b", b"<x>", b"a\xff", "ü".as_bytes(), b"a;b=\"c\""];
            for bad in bad {
                let reply = Raw::get(target).header("x-request-id", bad).send(server).await;
                assert_made(&reply, bad);
            }
            // API Gateway would join them, so none of them is taken here either.
            let twice = Raw::get(target).header("x-request-id", "one").header("x-request-id", "two");
            let reply = twice.send(server).await;
            assert_made(&reply, b"one");
            assert_made(&reply, b"two");
        }
    }
}

#[track_caller]
fn assert_made(reply: &crate::harness::Reply, given: &[u8]) {
    let made: Vec<_> = reply.headers.get_all("x-request-id").iter().collect();
    assert_eq!(made.len(), 1, "{reply:?}");
    assert_ne!(made[0].as_bytes(), given);
    assert_eq!(made[0].len(), 36, "{reply:?}");
    assert!(reply.status == 200 || reply.body["request_id"] == made[0].to_str().unwrap(), "{reply:?}");
}

#[tokio::test]
async fn health_says_who_it_is_to_anyone_and_asks_nobody() {
    let world = World::start().await;
    let servers = functions(&world).map(|(name, server, _)| (name, server));
    for (name, server) in servers {
        let body = format!(r#"{{"status":"ok","function":"{name}","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
        for target in ["/health", "/ready", "/health?x=1"] {
            let reply = Raw::get(target).send(server).await;
            assert_eq!((reply.status, &reply.text), (200, &body), "{target}");
            assert_eq!(reply.headers["content-type"], "application/json");
        }
        let head = Raw::new("HEAD", "/health").send(server).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    let World { engine, receive, query, emit, .. } = world;
    engine.stop().await;
    for (_, server) in servers {
        assert_eq!(Raw::get("/health").send(server).await.status, 200);
        let reply = Raw::get("/ready").send(server).await;
        reply.assert_problem(503, "storage_unavailable");
        assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
        assert_eq!(reply.body["detail"], "storage can't be reached", "and no error text of ours");
    }
    for server in [receive, query, emit] {
        server.stop().await;
    }
}

#[tokio::test]
async fn a_table_that_is_missing_or_another_is_named_and_not_made() {
    let engine = Dynamo::start().await;
    let settings = settings(engine.addr(), &[("OPS_WEBHOOK_URL", "http://127.0.0.1:9/")]);
    let servers = [
        (Server::receive(settings.clone()).await, "opshook_webhook_events"),
        (Server::query(settings.clone()).await, "opshook_webhook_events"),
        (Server::emit(settings.clone()).await, "opshook_outbox"),
    ];
    let call = async |name: &str, body: Value| operation(engine.addr(), name, &body).await;
    let not_ready = async |server: &Server, table: &str| {
        assert_eq!(Raw::get("/health").send(server.addr).await.status, 200);
        let reply = Raw::get("/ready").send(server.addr).await;
        reply.assert_problem(503, "storage_unavailable");
        assert!(reply.body["detail"].as_str().unwrap().contains(table), "{reply:?}");
    };
    for (server, table) in &servers {
        not_ready(server, table).await;
    }
    assert_eq!(call("ListTables", json!({})).await, json!({"TableNames": []}));
    for table in ["opshook_webhook_events", "opshook_outbox"] {
        let body = json!({
            "TableName": table, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}]
        });
        call("CreateTable", body).await;
    }
    for (server, table) in &servers {
        not_ready(server, table).await;
    }
    for table in ["opshook_webhook_events", "opshook_outbox"] {
        assert_eq!(items(engine.addr(), table).await, 0);
        call("DeleteTable", json!({"TableName": table})).await;
    }
    store(&settings).await.create_tables(store::tables::ALL).await.unwrap();
    for (server, _) in &servers {
        assert_eq!(Raw::get("/ready").send(server.addr).await.status, 200);
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text_with_few_labels_whatever_callers_invent() {
    let world = World::start().await;
    for (name, server, api) in functions(&world) {
        for n in 0..5 {
            let invented = format!("/invented-{n}?invented=1");
            ops(Raw::new(&format!("INVENTED{n}"), &invented)).send(server).await;
            ops(Raw::get(&format!("{api}/invented-{n}"))).send(server).await;
            Raw::get("/health").header("x-request-id", format!("invented-{n}")).send(server).await;
        }
        let reply = Raw::get("/metrics").send(server).await;
        assert_eq!(reply.status, 200);
        assert!(reply.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"), "{reply:?}");
        let of_mine = |line: &&str| line.contains(&format!(r#"function="{name}""#));
        let counted = |line: &&str| line.starts_with("opshook_requests_total{") && line.contains(r#"status="404""#);
        assert!(reply.text.lines().filter(of_mine).any(|line| counted(&line)), "{}", reply.text);
        assert!(reply.text.contains("# TYPE opshook_requests_total counter"), "{}", reply.text);
        assert!(reply.text.contains("opshook_request_seconds_bucket{"), "{}", reply.text);
        assert!(!reply.text.to_lowercase().contains("invented"), "{}", reply.text);
        for line in reply.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && series.starts_with("opshook_"), "{line}");
        }
    }
}
