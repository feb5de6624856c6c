//! What stands between a connection and a function's router: how many requests may be under way, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use service::http::{self, Access, ReadyCheck};
use service::problem::{Code, Problem};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::server::Limits;

/// A router within its limits, for all connections of a server.
#[derive(Clone)]
pub(crate) struct Guard {
    router: Router,
    busy: Router,
    late: Router,
    places: Arc<Semaphore>,
    time: Duration,
}

impl Guard {
    pub(crate) fn new(name: &'static str, router: Router, limits: &Limits) -> Self {
        Self {
            router,
            busy: refusal(name, "too many requests are under way; try again in a moment"),
            late: refusal(name, "the request took too long; it may have been carried out, sending it again is safe"),
            places: Arc::new(Semaphore::new(limits.requests)),
            time: limits.request,
        }
    }

    /// Answers a request. `seen` becomes true as soon as there is one.
    pub(crate) async fn answer(&self, request: Request, seen: &AtomicBool) -> Response {
        seen.store(true, Ordering::Release);
        let twin = twin(&request);
        // An overloaded server must still say so to whoever watches it.
        let _place = match (request.uri().path(), self.places.try_acquire()) {
            ("/health" | "/metrics", _) => None,
            (_, Ok(place)) => Some(place),
            (_, Err(_)) => return call(&self.busy, twin).await,
        };
        match tokio::time::timeout(self.time, call(&self.router, request)).await {
            Ok(response) => response,
            Err(_) => call(&self.late, twin).await,
        }
    }
}

async fn call(router: &Router, request: Request) -> Response {
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A function that says no to everything, wrapped like every function, so that a refusal has its request id, its log
/// line and its count like every answer.
fn refusal(name: &'static str, detail: &'static str) -> Router {
    let refuse = move || async move { Problem::new(Code::Overloaded, detail).into_response() };
    let ready: ReadyCheck = Arc::new(|| Box::pin(async { Vec::new() }));
    http::wrap(name, Router::new().route("/", any(refuse)).route("/{*path}", any(refuse)), Access::Open, ready)
}

/// What is left to answer by when a request is refused or given up: its head, for the id and the log, without its body.
fn twin(request: &Request) -> Request {
    let mut twin = Request::new(Body::empty());
    *twin.method_mut() = request.method().clone();
    *twin.uri_mut() = request.uri().clone();
    for id in request.headers().get_all("x-request-id") {
        twin.headers_mut().append("x-request-id", id.clone());
    }
    twin
}
