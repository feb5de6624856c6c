//! Wraps a function's routes with what each of them needs: request ids, log lines, metrics, problems for whatever is
//! not a success, and `/health`, `/ready`, `/metrics` (contract §6).

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use crate::auth::Tokens;
use crate::hosts::Hosts;
use crate::problem::{Code, Problem};
use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is missing before a function can serve, each a short text for the operator; empty when it is ready.
pub type Missing = Vec<String>;

/// Asks whether the function can serve. Changes nothing.
pub type ReadyCheck = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Missing> + Send>> + Send + Sync>;

/// Who may ask a function.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everyone; its routes have guards of their own.
    Open,
    /// Who has a token: everything under `/api/` needs one, whether it exists or not.
    Tokens(Tokens),
    /// Programs on this machine: everything but `/health` is closed to other pages and hosts.
    Local(Hosts),
}

/// Puts a function's `routes` into their wrapping.
pub fn wrap(name: &'static str, routes: Router, access: Access, ready: ReadyCheck) -> Router {
    telemetry::metrics();
    telemetry::keep_up();
    let own = Router::new()
        .route("/health", get(move || async move { Json(Health::of(name)) }))
        .route("/ready", get(readiness).with_state((name, ready)))
        .route("/metrics", get(render_metrics));
    routes
        .merge(own)
        .fallback(|| async {
            Problem::new(Code::NotFound, "there is no such route; see the README for those there are")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "the header `Allow` names the methods of this route")
        })
        .layer(middleware::from_fn_with_state(access, authorize))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn_with_state(name, observe))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    function: &'static str,
    version: &'static str,
}

impl Health {
    fn of(function: &'static str) -> Self {
        Self { status: "ok", function, version: env!("CARGO_PKG_VERSION") }
    }
}

async fn readiness(State((name, ready)): State<(&'static str, ReadyCheck)>) -> Response {
    let missing = ready().await;
    if missing.is_empty() {
        return Json(Health::of(name)).into_response();
    }
    Problem::new(Code::StorageUnavailable, missing.join("; ")).into_response()
}

async fn render_metrics() -> Response {
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([content_type], telemetry::metrics().render()).into_response()
}

async fn authorize(State(access): State<Access>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let checked = match &access {
        Access::Tokens(tokens) if path.starts_with("/api/") => tokens.check(request.headers()),
        Access::Local(hosts) if path != "/health" => hosts.check(request.uri(), request.headers()),
        Access::Open | Access::Tokens(_) | Access::Local(_) => Ok(()),
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The log has the panic's place in the code by [`telemetry::init`]; its text goes nowhere.
fn answer_panic(_panic: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal().into_response()
}

/// The outermost layer: gives the request its id, and its answer a log line, a count and the rendered problem. A request
/// that carries a [`Problem`] was refused by the host, and is answered with that.
async fn observe(State(function): State<&'static str>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    // The route's pattern and not the path: the path may carry what a caller wrote.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = match request.extensions_mut().remove::<Problem>() {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    };
    let (mut response, problem) = finished(response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let done = Done { function, id: &id, method: &method, route: route.as_deref().unwrap_or("unknown"), started };
    done.tell(response.status(), problem.as_ref());
    response
}

/// A request that has its answer.
struct Done<'a> {
    function: &'static str,
    id: &'a str,
    method: &'a Method,
    route: &'a str,
    started: Instant,
}

impl Done<'_> {
    /// Counts it and logs it. Neither holds anything that a caller wrote, but for a well-formed request id.
    fn tell(&self, status: StatusCode, problem: Option<&Problem>) {
        let Self { function, id, route, .. } = *self;
        let method = method_label(self.method);
        let status = status.as_u16();
        let elapsed = self.started.elapsed();
        let labels = [
            ("function", function.to_owned()),
            ("route", route.to_owned()),
            ("method", method.to_owned()),
            ("status", status.to_string()),
        ];
        metrics::counter!("opshook_requests_total", &labels).increment(1);
        metrics::histogram!("opshook_request_seconds", "function" => function, "route" => route.to_owned())
            .record(elapsed.as_secs_f64());
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let code = problem.map(|problem| problem.code().as_str());
        let cause = problem.and_then(Problem::cause);
        match (status, route) {
            (500.., _) => tracing::warn!(function, request_id = id, method, route, status, code, cause, ms, "answered"),
            (_, "/health" | "/ready" | "/metrics") => {
                tracing::debug!(function, request_id = id, method, route, status, ms, "answered");
            }
            _ => tracing::info!(function, request_id = id, method, route, status, code, ms, "answered"),
        }
    }
}

/// A caller may invent methods; the metrics' labels are few.
fn method_label(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "other",
    }
}

/// Renders the problem of an answer, and makes one for a failure that a framework answered by itself.
fn finished(mut response: Response, request_id: &str) -> (Response, Option<Problem>) {
    let status = response.status();
    if status.is_success() {
        return (response, None);
    }
    let problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| stand_in(status));
    // axum adds `Allow` to a 405 after this.
    (problem.render(request_id), Some(problem))
}

fn stand_in(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "there is no such route"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(Code::MethodNotAllowed, "see the header `Allow`"),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::PayloadTooLarge, "the body is too large"),
        // axum's for a path that is not UTF-8 when it is decoded: no id of ours looks like that.
        StatusCode::BAD_REQUEST => Problem::new(Code::NotFound, "there is nothing with such an id"),
        _ => Problem::internal(),
    }
}

/// The caller's id where it is 1–128 of `[A-Za-z0-9._-]` and stands once, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let one = values.next().filter(|_| values.next().is_none());
    let given = one.and_then(|value| value.to_str().ok()).filter(|text| {
        (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}
