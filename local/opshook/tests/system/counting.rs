//! An engine that counts what it reads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use dynoxide::Database;
use serde_json::Value;
use tokio::task::JoinHandle;

/// An engine's tables, without a socket.
pub struct Tables {
    pub db: Database,
    items: AtomicUsize,
    operations: AtomicUsize,
}

/// A server in front of them. It stops when this is dropped.
pub struct Counting {
    pub tables: Arc<Tables>,
    pub addr: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Counting {
    /// One without tables.
    pub async fn start() -> Self {
        let db = Database::memory().unwrap();
        let tables = Arc::new(Tables { db, items: AtomicUsize::new(0), operations: AtomicUsize::new(0) });
        let router = axum::Router::new().route("/", axum::routing::post(operation)).with_state(Arc::clone(&tables));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { tables, addr, server }
    }
}

async fn operation(State(tables): State<Arc<Tables>>, headers: HeaderMap, body: String) -> impl IntoResponse {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    let shared = Arc::clone(&tables);
    let asked = target.clone();
    let (status, json) = tokio::task::spawn_blocking(move || engine::answer(&shared.db, &asked, &body)).await.unwrap();
    tables.count(&target, &json);
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/x-amz-json-1.0")], json)
}

impl Tables {
    /// Counts from here.
    pub fn reset(&self) {
        self.items.store(0, Ordering::Relaxed);
        self.operations.store(0, Ordering::Relaxed);
    }

    /// How many items were read, by how many operations.
    pub fn read(&self) -> (usize, usize) {
        (self.items.load(Ordering::Relaxed), self.operations.load(Ordering::Relaxed))
    }

    /// Adds up what an answer says was read. A scan would say so too.
    fn count(&self, target: &str, json: &str) {
        let answer: Value = serde_json::from_str(json).unwrap();
        let items = match target.split_once('.').unwrap().1 {
            "Query" | "Scan" => answer["ScannedCount"].as_u64().unwrap(),
            "BatchGetItem" => {
                let tables = answer["Responses"].as_object().unwrap().values();
                tables.map(|items| u64::try_from(items.as_array().unwrap().len()).unwrap()).sum()
            }
            "GetItem" => 1,
            _ => 0,
        };
        self.items.fetch_add(usize::try_from(items).unwrap(), Ordering::Relaxed);
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    pub fn operation(&self, name: &str, body: &Value) -> Value {
        let (status, json) = engine::answer(&self.db, &format!("DynamoDB_20120810.{name}"), &body.to_string());
        assert_eq!(status, 200, "{json}");
        serde_json::from_str(&json).unwrap()
    }
}
