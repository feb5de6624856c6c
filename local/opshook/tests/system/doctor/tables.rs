//! Tables that are missing, of another version, or not the same for receive and query-events.

use std::net::SocketAddr;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use serde_json::{Value, json};

use super::{Files, Told, doctor, local, owned, portal, query, receive, run, store_at, with};
use crate::harness::{Server, client, engine, get, post};
use crate::process::free_port;

/// Looks at an ops host whose two functions have these settings; neither runs.
async fn ops(receive: &[(&str, &str)], query: &[(&str, &str)]) -> Told {
    let files = Files::new();
    let paths = [files.put("receive.env", receive), files.put("query-events.env", query)];
    files.doctor("ops", &[&paths[0], &paths[1]]).await
}

/// Not a fault here: nobody knows where they listen.
const UNKNOWN: &str = "127.0.0.1:0";

async fn empty_engine() -> engine::Engine {
    engine::Engine::start(engine::Storage::Memory, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_or_has_no_tables_is_told() {
    let away = format!("http://127.0.0.1:{}", free_port());
    let told = ops(&receive(&away, UNKNOWN), &query(&away, UNKNOWN)).await;
    told.assert_failed(
        &["receive tables", "query-events tables"],
        &["no DynamoDB", away.strip_prefix("http://").unwrap(), "refused"],
        &["start DynamoDB", "AWS_ENDPOINT_URL_DYNAMODB"],
    );
    assert_eq!(told.of("same tables")["status"], "ok");
    let engine = empty_engine().await;
    let endpoint = local(engine.addr());
    let told = ops(&receive(&endpoint, UNKNOWN), &query(&endpoint, UNKNOWN)).await;
    told.assert_failed(
        &["receive tables", "query-events tables"],
        &["opshook_webhook_events", "not there"],
        &["opshook tables create"],
    );
    // The remedy works.
    assert_eq!(run(&["tables", "create"], &store_at(&endpoint)).await.0, 0);
    assert_eq!(ops(&receive(&endpoint, UNKNOWN), &query(&endpoint, UNKNOWN)).await.status, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_see_different_tables_are_told_with_the_settings_that_differ() {
    let (one, other) = (engine().await, engine().await);
    let (here, there) = (local(one.addr()), local(other.addr()));
    let ours = receive(&here, UNKNOWN);
    assert_eq!(ops(&ours, &query(&here, UNKNOWN)).await.status, 0);
    let told = ops(&ours, &query(&there, UNKNOWN)).await;
    let different = "receive and query-events see different tables";
    told.assert_failed(&["same tables"], &[different, "AWS_ENDPOINT_URL_DYNAMODB"], &["both the same AWS_ENDPOINT"]);
    // The same place by another name is the same.
    let by_name = there.replace("127.0.0.1", "localhost");
    assert_eq!(ops(&receive(&by_name, UNKNOWN), &query(&there, UNKNOWN)).await.of("same tables")["status"], "ok");
    let prefixed = with(query(&here, UNKNOWN), "TABLE_PREFIX", "mine_");
    let told = ops(&ours, &prefixed).await;
    told.assert_failed(
        &["query-events tables", "same tables"],
        &["mine_webhook_events", "not there"],
        &["tables create"],
    );
    assert!(told.of("same tables")["saw"].as_str().unwrap().contains("TABLE_PREFIX"));
}

/// What DynamoDB Local is without `-sharedDb`: a database for each access key.
async fn apart(one: SocketAddr, other: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let forward = move |request: Request| async move {
        let (head, body) = request.into_parts();
        let is_one = head.headers["authorization"].to_str().unwrap().contains("Credential=opshook/");
        let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
        let mut sent = client().post(local(if is_one { one } else { other })).body(body);
        for name in ["x-amz-target", "content-type"] {
            sent = sent.header(name, head.headers[name].to_str().unwrap());
        }
        let answer = sent.send().await.unwrap();
        let status = axum::http::StatusCode::from_u16(answer.status().as_u16()).unwrap();
        let response: Response = (status, answer.bytes().await.unwrap()).into_response();
        response
    };
    let router = axum::Router::new().fallback(any(forward));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_differ_are_a_fault_only_where_they_hide_the_tables() {
    let (one, other) = (engine().await, engine().await);
    let shared = local(one.addr());
    let another = with(query(&shared, UNKNOWN), "AWS_ACCESS_KEY_ID", "another");
    let told = ops(&receive(&shared, UNKNOWN), &another).await;
    assert_eq!((told.status, told.of("same tables")["status"].as_str()), (0, Some("ok")));
    assert!(told.of("same tables")["saw"].as_str().unwrap().ends_with("they differ in AWS_ACCESS_KEY_ID"));
    let separate = local(apart(one.addr(), other.addr()).await);
    let another = with(query(&separate, UNKNOWN), "AWS_ACCESS_KEY_ID", "another");
    let told = ops(&receive(&separate, UNKNOWN), &another).await;
    told.assert_failed(
        &["same tables"],
        &["different tables", "AWS_ACCESS_KEY_ID"],
        &["-sharedDb", "AWS_ACCESS_KEY_ID"],
    );
}

/// Makes `opshook_outbox` as another version would: without some of its indexes, and with others.
async fn make_outbox(endpoint: &str, without: Option<&str>, also: Option<&str>) {
    let index = |name: &str, range: &str, fields: &[&str]| {
        let projection = match fields {
            [] => json!({"ProjectionType": "KEYS_ONLY"}),
            _ => json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": fields}),
        };
        let keys = [(name, "HASH"), (range, "RANGE")].map(|(n, kind)| json!({"AttributeName": n, "KeyType": kind}));
        json!({"IndexName": name, "KeySchema": keys, "Projection": projection})
    };
    let fields = ["state", "session_id", "expires_at"];
    let mut indexes = vec![
        index("due_key", "due_at", &["expires_at"]),
        index("state_key", "accepted_key", &fields),
        index("session_key", "accepted_key", &fields),
    ];
    indexes.retain(|index| index["IndexName"].as_str() != without);
    indexes.extend(also.map(|name| index(name, "accepted_key", &[])));
    let mut names = vec!["pk".to_owned()];
    for key in indexes.iter().flat_map(|index| index["KeySchema"].as_array().unwrap()) {
        let name = key["AttributeName"].as_str().unwrap().to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let kind = |name: &str| if name == "due_at" { "N" } else { "S" };
    let attributes: Vec<Value> =
        names.iter().map(|name| json!({"AttributeName": name, "AttributeType": kind(name)})).collect();
    let table = json!({"TableName": "opshook_outbox", "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": attributes, "GlobalSecondaryIndexes": indexes});
    let headers = [("x-amz-target", "DynamoDB_20120810.CreateTable"), ("content-type", "application/x-amz-json-1.0")];
    let reply = post(endpoint, &headers, table.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_another_version_is_told_by_doctor_ready_and_tables_create_alike() {
    for (without, also, fault) in [
        (None, Some("priority_key"), None),
        (Some("session_key"), None, Some("its index session_key is missing; it is older than this program")),
        (
            Some("session_key"),
            Some("priority_key"),
            Some("its index session_key is missing; it has priority_key, which this program"),
        ),
    ] {
        let engine = empty_engine().await;
        let endpoint = local(engine.addr());
        make_outbox(&endpoint, without, also).await;
        let emit = Server::emit(owned(&portal(&endpoint, UNKNOWN, "http://127.0.0.1:1/"))).await;
        let ready = get(&emit.url("/ready"), &[]).await;
        let (status, said) = run(&["tables", "create"], &store_at(&endpoint)).await;
        let told = doctor(&["portal"], &portal(&endpoint, UNKNOWN, "http://127.0.0.1:1/")).await;
        let of_doctor = told.of("emit-retry tables");
        let Some(fault) = fault else {
            assert_eq!(
                (ready.status, status, of_doctor["status"].as_str()),
                (200, 0, Some("ok")),
                "more is fine: {said}"
            );
            continue;
        };
        ready.assert_problem(503, "storage_unavailable");
        assert_eq!((status, of_doctor["status"].as_str()), (1, Some("fail")));
        let [ready, saw] = [&ready.body["detail"], &of_doctor["saw"]].map(|text| text.as_str().unwrap());
        for text in [ready, saw, &said] {
            assert!(text.contains(&format!("table opshook_outbox: {fault}")), "{text}");
            assert_eq!(text.contains("upgrade this program"), also.is_some(), "{text}");
        }
    }
}
