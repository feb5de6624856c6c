//! The protocol over HTTP, for programs on this machine and for no web page.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::answer::answer;
use crate::directory::Store;

/// DynamoDB's own limit on a request.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Requests that may be with SQLite or next in line. It does one thing at a time; the rest wait here, where a client
/// that gives up takes its request along instead of leaving it to be run for nobody.
const WITH_DATABASE: usize = 4;

/// What the handlers share. The last one to go closes the database.
pub(crate) struct Shared {
    store: Store,
    places: Arc<Semaphore>,
    in_flight: AtomicUsize,
    request: AtomicU64,
}

impl Shared {
    pub(crate) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self {
            store,
            places: Arc::new(Semaphore::new(WITH_DATABASE)),
            in_flight: AtomicUsize::new(0),
            request: AtomicU64::new(0),
        })
    }

    /// Requests whose head has come and whose answer has not gone.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Deletes what its time to live has passed. It blocks, and lets requests in between its pages.
    pub(crate) fn sweep(&self) {
        match self.store.db.sweep_ttl() {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "expired items deleted"),
            Err(error) => tracing::warn!(%error, "expired items could not be deleted; trying again in an hour"),
        }
    }
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(healthy).merge(post(operation)).fallback(not_found))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), count))
        .layer(middleware::from_fn(refuse_web_pages))
        .with_state(shared)
}

async fn healthy() -> &'static str {
    "healthy: opshook's embedded engine\n"
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "<UnknownOperationException/>\n")
}

async fn operation(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let id = shared.request.fetch_add(1, Ordering::Relaxed);
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    // The permit goes along: it is free again when SQLite is done, not when the client has gone.
    let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else {
        return internal(id);
    };
    let answered = tokio::task::spawn_blocking(move || {
        let _place = place;
        match str::from_utf8(&body) {
            Ok(body) => answer(&shared.store.db, &target, body),
            Err(_) => (400, r#"{"__type":"com.amazon.coral.service#SerializationException"}"#.to_owned()),
        }
    })
    .await;
    match answered {
        Ok((status, json)) => reply(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), json, id),
        Err(error) => {
            tracing::error!(%error, "the embedded engine failed and must be started again");
            internal(id)
        }
    }
}

fn internal(id: u64) -> Response {
    let json = r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"the engine failed"}"#;
    reply(StatusCode::INTERNAL_SERVER_ERROR, json.to_owned(), id)
}

fn reply(status: StatusCode, json: String, id: u64) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-amz-json-1.0".to_owned()),
        (HeaderName::from_static("x-amzn-requestid"), format!("{id:032X}")),
    ];
    (status, headers, json).into_response()
}

/// Counts a request for as long as it is being answered, also when its client goes away.
async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    struct Counted(Arc<Shared>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
    shared.in_flight.fetch_add(1, Ordering::AcqRel);
    let _counted = Counted(shared);
    next.run(request).await
}

/// A web page in a browser on this machine can reach the port; the browser marks what it sends with `Origin`, or, where
/// a page's name was made to point here (DNS rebinding), with that name in `Host`. Programs send neither.
async fn refuse_web_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    if headers.contains_key(header::ORIGIN) || hosts.chain(authority).any(|host| !is_loopback(host)) {
        return (StatusCode::FORBIDDEN, "the embedded engine answers programs on this machine only\n").into_response();
    }
    next.run(request).await
}

/// Whether a `Host` header names this machine by a loopback address or as `localhost`, with a port or without.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "127.9.9.9:1", "[::1]:8000", "[::1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1:8000", "0.0.0.0", "1"]
        {
            assert!(!is_loopback(host), "{host}");
        }
        for host in ["127.0.0.1.evil.example", "127.0.0.1:80@evil.example", "user@localhost", "[::1", "[::2]:8000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
