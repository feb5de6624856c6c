//! Starts the functions as their hosts do, and speaks HTTP to them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::id::WebhookId;
use contract::signature::{DEVELOPMENT_SECRET, Secrets};
use jiff::Timestamp;
use serde_json::Value;
use service::host::{Environment, Service};
use store::{Store, StoreConfig};
use tokio::sync::watch;

use crate::dynamo::{Dynamo, access_key};

pub const TOKEN: &str = "a-token-for-tests-of-24-or-more";
pub const ONBOARD: &str = "/api/v1/webhooks/onboard";
pub const EVENTS: &str = "/api/v1/webhooks/events";
pub const TICKETS: &str = "/api/v1/desk/tickets";
pub const EMIT: &str = "/api/v1/events";

/// Settings by name, over those that every test has.
pub type Settings = HashMap<String, String>;

/// The settings that reach an engine at `engine`, with the given ones over them.
pub fn settings(engine: SocketAddr, more: &[(&str, &str)]) -> Settings {
    let (endpoint, key) = (format!("http://{engine}"), access_key(engine));
    let base = [
        ("AWS_ENDPOINT_URL_DYNAMODB", endpoint.as_str()),
        ("AWS_REGION", "local"),
        ("AWS_ACCESS_KEY_ID", key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("WEBHOOK_SECRET", DEVELOPMENT_SECRET),
        ("OPS_WEBHOOK_SECRET", DEVELOPMENT_SECRET),
        ("OPS_API_TOKEN", TOKEN),
        ("LISTEN_ADDR", "127.0.0.1:0"),
    ];
    base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub fn environment(settings: Settings) -> Environment {
    Environment::from_fn(move |name| settings.get(name).cloned())
}

/// A store on an engine.
pub async fn store(settings: &Settings) -> Store {
    let config = StoreConfig::from_lookup("opshook_".to_owned(), |name| settings.get(name).cloned());
    Store::connect(&config.unwrap())
}

/// A database with its tables.
pub async fn engine() -> Dynamo {
    let engine = Dynamo::start().await;
    store(&settings(engine.addr(), &[])).await.create_tables(store::tables::ALL).await.unwrap();
    engine
}

/// A function on a port of its own. It stops when this is dropped.
pub struct Server {
    pub addr: SocketAddr,
    stop: watch::Sender<bool>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Hosts a function.
    pub async fn host(service: Service) -> Self {
        let listener = adapter::server::bind(service.listen, "LISTEN_ADDR").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move {
            let _ = adapter::server::serve(service.name, listener, service.router, service.background, stopped).await;
        });
        Self { addr, stop, served: Some(served) }
    }

    pub async fn receive(settings: Settings) -> Self {
        Self::host(receive::start(&environment(settings)).await.unwrap()).await
    }

    pub async fn query(settings: Settings) -> Self {
        Self::host(query_events::start(&environment(settings)).await.unwrap()).await
    }

    pub async fn emit(settings: Settings) -> Self {
        Self::host(emit_retry::start(&environment(settings)).await.unwrap()).await
    }

    /// Stops it as SIGTERM does, and waits until it has.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(served) = self.served.take() {
            served.await.unwrap();
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

/// receive and query-events on one engine, and emit-retry that delivers to that receive.
pub struct World {
    pub settings: Settings,
    pub receive: Server,
    pub query: Server,
    pub emit: Server,
    pub engine: Dynamo,
}

impl World {
    pub async fn start() -> Self {
        let engine = engine().await;
        let settings = settings(engine.addr(), &[]);
        let receive = Server::receive(settings.clone()).await;
        let query = Server::query(settings.clone()).await;
        let mut emit_settings = settings.clone();
        emit_settings.insert("OPS_WEBHOOK_URL".to_owned(), receive.url(ONBOARD));
        let emit = Server::emit(emit_settings).await;
        Self { settings, receive, query, emit, engine }
    }

    /// `GET` from query-events, with the token.
    pub async fn ops(&self, path_and_query: &str) -> Reply {
        ops(self.query.addr, path_and_query).await
    }

    /// Every item of a list, page after page. Panics after 1,000 pages.
    pub async fn all(&self, path_and_query: &str) -> Vec<Value> {
        all(self.query.addr, path_and_query).await
    }

    /// Sends a body signed with the development secret under a new id.
    pub async fn deliver(&self, body: &str) -> Reply {
        deliver_to(self.receive.addr, body).await
    }
}

/// `GET` from a query-events, with the token.
pub async fn ops(query: SocketAddr, path_and_query: &str) -> Reply {
    get(&format!("http://{query}{path_and_query}"), &[("authorization", &format!("Bearer {TOKEN}"))]).await
}

/// Every item of a query-events' list, page after page. Panics after 1,000 pages.
pub async fn all(query: SocketAddr, path_and_query: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    for _ in 0..1_000 {
        let joint = if path_and_query.contains('?') { '&' } else { '?' };
        let reply = ops(query, &format!("{path_and_query}{joint}limit=500{cursor}")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        items.extend(reply.body["items"].as_array().unwrap().iter().cloned());
        match reply.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
    panic!("the list does not end");
}

/// Sends a body to a receive, signed with the development secret under a new id.
pub async fn deliver_to(receive: SocketAddr, body: &str) -> Reply {
    let headers = signed(&new_id(), body.as_bytes());
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    post(&format!("http://{receive}{ONBOARD}"), &headers, body.to_owned()).await
}

/// A `webhook-id` that no other call gave.
pub fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("msg_test_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The headers of a delivery of now, signed with the development secret.
pub fn signed(id: &str, body: &[u8]) -> Vec<(&'static str, String)> {
    signed_at(DEVELOPMENT_SECRET, id, Timestamp::now().as_second(), body)
}

/// The headers of a delivery.
pub fn signed_at(secrets: &str, id: &str, seconds: i64, body: &[u8]) -> Vec<(&'static str, String)> {
    let signature = Secrets::parse(secrets).unwrap().sign(&WebhookId::parse(id).unwrap(), seconds, body);
    vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ]
}

/// An `account.created` of a session and a domain.
pub fn account_created(session: &str, domain: &str) -> String {
    serde_json::json!({
        "event": "account.created", "session_id": session, "domain": domain,
        "timestamp": "2026-11-24T10:15:30Z",
        "data": {"email": "ana@example.com", "account_verified": true, "needs_review": false,
                 "dns_mode": "cloudflare", "mail_aliases": ["postmaster", "abuse"]}
    })
    .to_string()
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// The body as JSON; null where it is none.
    pub body: Value,
}

impl Reply {
    /// Panics unless this is the problem with that status and code, whole (contract §6).
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let mut fields: Vec<&str> = self.body.as_object().unwrap().keys().map(String::as_str).collect();
        fields.retain(|field| *field != "errors");
        assert_eq!(fields, ["code", "detail", "request_id", "status", "title", "type"]);
        assert_eq!(self.body["type"], format!("urn:opshook:problem:{code}"));
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["request_id"], self.headers["x-request-id"].to_str().unwrap());
        assert!(self.body["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(self.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert_eq!(self.body["errors"].is_array(), status == 422);
    }
}

pub fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No pooled connections: each test has a runtime of its own.
        reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap()
    })
}

pub async fn get(url: &str, headers: &[(&str, &str)]) -> Reply {
    call(reqwest::Method::GET, url, headers, String::new()).await
}

pub async fn post(url: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Reply {
    call(reqwest::Method::POST, url, headers, body).await
}

pub async fn call(
    method: reqwest::Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Reply {
    let mut request = client().request(method, url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Reply { status, headers, text, body }
}

/// Asks again until `done` says yes; panics after `seconds`.
pub async fn eventually<T>(seconds: u64, what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(value) = done().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < end, "not within {seconds} s: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}
