//! A fake of the Lambda Runtime API: it hands invocations to the function that asks for the next one, and takes its answer
//! or its error.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::harness::Settings;
use crate::process::{Process, function_binary};

/// How an invocation ended.
#[derive(Debug)]
pub enum Answer {
    Success(Value),
    /// Such as `{"errorType":"unknown_trigger","errorMessage":"…"}`.
    Failure(Value),
}

impl Answer {
    #[track_caller]
    pub fn success(self) -> Value {
        match self {
            Self::Success(body) => body,
            Self::Failure(error) => panic!("the invocation failed: {error}"),
        }
    }

    /// Panics unless it failed by that, and answers its text.
    #[track_caller]
    pub fn failure(self, kind: &str) -> String {
        let Self::Failure(error) = self else { panic!("it should have failed by {kind}: {self:?}") };
        assert_eq!(error["errorType"], kind, "{error}");
        error["errorMessage"].as_str().unwrap().to_owned()
    }
}

struct Invocation {
    id: String,
    payload: String,
    deadline: Timestamp,
}

struct Api {
    next: AsyncMutex<UnboundedReceiver<Invocation>>,
    answers: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
}

/// A function that runs as a Lambda. It ends when this is dropped.
pub struct Lambda {
    api: Arc<Api>,
    invocations: UnboundedSender<Invocation>,
    ids: AtomicU64,
    server: JoinHandle<()>,
    process: Process,
}

impl Drop for Lambda {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What Lambda sets for each function.
fn lambda_settings(api: String) -> Settings {
    let names = [
        ("AWS_LAMBDA_RUNTIME_API", api.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "opshook"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    ];
    names.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Lambda {
    /// Starts a function's binary as a Lambda.
    pub async fn start(name: &str, settings: Settings) -> Self {
        let (invocations, next) = unbounded_channel();
        let api = Arc::new(Api { next: AsyncMutex::new(next), answers: Mutex::default() });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(take_response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(take_error))
            .with_state(Arc::clone(&api));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings;
        settings.extend(lambda_settings(listener.local_addr().unwrap().to_string()));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let process = Process::start(&function_binary(name), &[], settings);
        Self { api, invocations, ids: AtomicU64::new(0), server, process }
    }

    /// Invokes it under a new request id. Panics unless it answers within `time`.
    pub async fn invoke(&self, payload: impl Into<String>, time: Duration) -> Answer {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        self.invoke_as(&format!("8476a536-e9f4-11e8-9739-{number:012x}"), payload, time).await.0
    }

    /// Invokes it under this request id; answers also how long it took.
    pub async fn invoke_as(&self, id: &str, payload: impl Into<String>, time: Duration) -> (Answer, Duration) {
        let (sender, answer) = oneshot::channel();
        self.api.answers.lock().unwrap().insert(id.to_owned(), sender);
        let deadline = Timestamp::now() + time;
        self.invocations.send(Invocation { id: id.to_owned(), payload: payload.into(), deadline }).unwrap();
        let began = Instant::now();
        let answered = timeout(time, answer).await;
        let answer = answered.unwrap_or_else(|_| panic!("no answer within {time:?}: Lambda would have ended it"));
        (answer.unwrap(), began.elapsed())
    }

    /// Ends it, and answers its log.
    pub async fn log(mut self) -> String {
        self.process.last_words().await.join("\n")
    }

    /// The first line of its log with that in it.
    pub async fn line_with(&mut self, part: &str) -> String {
        self.process.line_with(part).await
    }
}

async fn next_invocation(State(api): State<Arc<Api>>) -> Response {
    let Some(Invocation { id, payload, deadline }) = api.next.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.as_millisecond().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:123456789012:function:opshook".to_owned()),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0".to_owned()),
    ];
    (headers, payload).into_response()
}

async fn take_response(State(api): State<Arc<Api>>, Path(id): Path<String>, body: String) -> Response {
    accepted(&api, &id, Answer::Success(serde_json::from_str(&body).unwrap()))
}

async fn take_error(State(api): State<Arc<Api>>, Path(id): Path<String>, body: String) -> Response {
    accepted(&api, &id, Answer::Failure(serde_json::from_str(&body).unwrap()))
}

/// Hands an answer to whoever waits for it. As the real one, it takes one for each invocation.
fn accepted(api: &Api, id: &str, answer: Answer) -> Response {
    let Some(waiting) = api.answers.lock().unwrap().remove(id) else {
        return (StatusCode::BAD_REQUEST, Json(json!({"errorType": "InvalidRequestID"}))).into_response();
    };
    let _ = waiting.send(answer);
    (StatusCode::ACCEPTED, Json(json!({"status": "OK"}))).into_response()
}
