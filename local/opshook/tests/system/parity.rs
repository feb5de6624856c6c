//! The same request gets the same answer as a Lambda and as a plain server (contract §6): API Gateway's events (HTTP API,
//! payload 2.0) through the Lambda path, and what a client writes on a socket, to functions with the same settings.

mod functions;

use std::collections::BTreeMap;

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use store::tables::ALL;
use tokio::net::TcpListener;

use crate::harness::{ONBOARD, Reply, Server, Settings, TOKEN, environment, settings};
use crate::raw::{Raw, signature};

/// A Lambda is never on loopback, so neither the development secret nor an emit-retry without a token is taken there.
const SECRET: &str = "whsec_cGFyaXR5LXBhcml0eS1wYXJpdHktcGFyaXR5LTMy";
const KEY: &[u8] = b"parity-parity-parity-parity-32";

/// A function twice: a router as a Lambda has it, and a plain server, on tables of their own.
struct Pair {
    lambda: Router,
    plain: Server,
    /// How often it was asked.
    asked: usize,
}

struct Pairs {
    receive: Pair,
    query: Pair,
    emit: Pair,
    /// Where emit-retry's messages go: it takes connections and says nothing, so that messages stay pending.
    _silent: TcpListener,
    _engine: crate::dynamo::Dynamo,
}

impl Pairs {
    async fn start() -> Self {
        let engine = crate::dynamo::Dynamo::start().await;
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let of = |prefix: &str| {
            let more = [
                ("TABLE_PREFIX", prefix),
                ("WEBHOOK_SECRET", SECRET),
                ("OPS_WEBHOOK_SECRET", SECRET),
                ("OPS_WEBHOOK_URL", &url),
                ("EMIT_API_TOKEN", TOKEN),
            ];
            settings(engine.addr(), &more)
        };
        let (lambda, plain) = (of("lambda_"), of("plain_"));
        for prefix in ["lambda_", "plain_"] {
            let config = store::StoreConfig::from_lookup(prefix.to_owned(), |name| plain.get(name).cloned()).unwrap();
            store::Store::connect(&config).create_tables(ALL).await.unwrap();
        }
        let on_lambda = |settings: &Settings| {
            let mut environment = environment(settings.clone());
            environment.on_lambda = true;
            environment
        };
        let receive = receive::start(&on_lambda(&lambda)).await.unwrap().router;
        let query = query_events::start(&on_lambda(&lambda)).await.unwrap().router;
        let emit = emit_retry::start(&on_lambda(&lambda)).await.unwrap();
        assert!(emit.background.is_none(), "nothing runs after a Lambda's answer");
        let pair = |lambda, plain| Pair { lambda, plain, asked: 0 };
        Self {
            receive: pair(receive, Server::receive(plain.clone()).await),
            query: pair(query, Server::query(plain.clone()).await),
            emit: pair(emit.router, Server::emit(plain).await),
            _silent: silent,
            _engine: engine,
        }
    }
}

/// A request as API Gateway hands it on. `stage` is in front of the path unless it is `$default`.
pub fn event(request: &Raw, stage: &str) -> Value {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let raw_path = if stage == "$default" { path.to_owned() } else { format!("/{stage}{path}") };
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    headers.insert("host".to_owned(), "id.execute-api.eu-central-1.amazonaws.com".to_owned());
    headers.insert("x-forwarded-proto".to_owned(), "https".to_owned());
    headers.insert("x-forwarded-for".to_owned(), "192.0.2.1".to_owned());
    headers.insert("content-length".to_owned(), request.body.len().to_string());
    for (name, value) in &request.headers {
        let value = str::from_utf8(value).unwrap();
        // Payload 2.0 has one value a header: those that stand twice are joined.
        let joined = headers.get(name).map_or_else(|| value.to_owned(), |before| format!("{before},{value}"));
        headers.insert(name.clone(), joined);
    }
    let mut event = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": raw_path, "rawQueryString": query,
        "headers": headers, "isBase64Encoded": false,
        "requestContext": {
            "accountId": "123456789012", "apiId": "id", "domainName": "id.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "id", "requestId": "JKJaXmPLvHcESHA=", "routeKey": "$default", "stage": stage,
            "time": "24/Nov/2026:10:15:30 +0000", "timeEpoch": 1795515330000_i64,
            "http": {
                "method": request.method, "path": raw_path, "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1", "userAgent": "test"
            }
        }
    });
    if !request.body.is_empty() {
        let text = str::from_utf8(&request.body).ok();
        // API Gateway encodes what is not text to it; a JSON body may come either way, so every second one does.
        let (body, encoded) = match text.filter(|text| text.len() % 2 == 0) {
            Some(text) => (text.to_owned(), false),
            None => (STANDARD.encode(&request.body), true),
        };
        event["body"] = json!(body);
        event["isBase64Encoded"] = json!(encoded);
    }
    event
}

/// What is compared of an answer: all but what frames it on its connection and what each side mints for itself.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u64,
    headers: BTreeMap<String, String>,
    body: Value,
}

fn seen(status: u64, headers: BTreeMap<String, String>, text: &str) -> Seen {
    let mut headers = headers;
    for name in ["connection", "content-length", "date"] {
        headers.remove(name);
    }
    let mut body = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    if headers.get("content-type").is_some_and(|kind| kind.starts_with("text/plain; version")) {
        body = json!("metrics");
    }
    mask(&mut body);
    Seen { status, headers, body }
}

/// Puts a word in the place of ids and times that each side makes anew.
fn mask(value: &mut Value) {
    const MINTED: &[&str] = &[
        "event_id",
        "received_at",
        "created_at",
        "updated_at",
        "closed_at",
        "accepted_at",
        "next_attempt_at",
        "next_cursor",
    ];
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let is_minted = MINTED.contains(&name.as_str()) || (name == "webhook_id" && is_uuid_message(member));
                if is_minted && member.is_string() {
                    *member = json!("minted");
                } else {
                    mask(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

fn is_uuid_message(id: &Value) -> bool {
    id.as_str().and_then(|id| id.strip_prefix("msg_")).is_some_and(|rest| rest.len() == 36)
}

impl Pair {
    /// Asks both, checks that the answers are the same, and gives the plain server's and the Lambda's own.
    async fn ask(&mut self, request: Raw, stage: &str) -> (Reply, Value) {
        self.ask_each(request.clone(), request, stage).await
    }

    /// The same, where a path or query holds what each side minted for itself.
    async fn ask_each(&mut self, plain: Raw, lambda: Raw, stage: &str) -> (Reply, Value) {
        self.asked += 1;
        let id = format!("parity-{}", self.asked);
        let given = plain.headers.iter().any(|(name, _)| name == "x-request-id");
        let with_id = |raw: Raw| if given { raw } else { raw.header("x-request-id", &id) };
        let (plain, lambda) = (with_id(plain), with_id(lambda));
        println!("{} {} {:?} ({stage})", plain.method, plain.target, String::from_utf8_lossy(&plain.body));
        let invoked = adapter::lambda::invoke(self.lambda.clone(), event(&lambda, stage)).await.unwrap();
        let reply = plain.send(self.plain.addr).await;

        assert_eq!(invoked["isBase64Encoded"], false, "{invoked}");
        let of_lambda: BTreeMap<String, String> = serde_json::from_value(invoked["headers"].clone()).unwrap();
        let text = invoked["body"].as_str().unwrap_or_default();
        // HTTP lets no body follow on a HEAD; API Gateway sees to that.
        let text = if plain.method == "HEAD" { "" } else { text };
        let of_plain = reply.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        let mut from_lambda = seen(invoked["statusCode"].as_u64().unwrap(), of_lambda, text);
        let mut from_plain = seen(reply.status.into(), of_plain, &reply.text);
        if given {
            unname(&mut from_lambda);
            unname(&mut from_plain);
        }
        assert_eq!(from_lambda, from_plain);
        (reply, serde_json::from_str(text).unwrap_or_default())
    }
}

/// Takes out a request id that was made, after checking that header and body say the same.
fn unname(seen: &mut Seen) {
    let id = seen.headers.insert("x-request-id".to_owned(), "made".to_owned()).unwrap();
    if seen.body.get("request_id").is_some() {
        assert_eq!(seen.body["request_id"], id);
        seen.body["request_id"] = json!("made");
    }
    assert_eq!(id.len(), 36, "{id} was not made");
}

fn delivery(body: impl Into<Vec<u8>>) -> Raw {
    let (body, now) = (body.into(), jiff::Timestamp::now().as_second().to_string());
    let id = crate::harness::new_id();
    let signature = signature(KEY, id.as_bytes(), now.as_bytes(), &body);
    Raw::json("POST", ONBOARD, body)
        .header("webhook-id", id)
        .header("webhook-timestamp", now)
        .header("webhook-signature", signature)
}

fn ops(request: Raw) -> Raw {
    request.header("authorization", format!("Bearer {TOKEN}"))
}
