//! Faults on the way from the portal's host to ops.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, DATE, LOCATION};
use axum::response::{IntoResponse, Response};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use super::{OTHER_SECRET, Told, doctor, local, owned, portal, receive, with};
use crate::harness::{ONBOARD, Server, engine};
use crate::process::free_port;

const KNOWN: &str = r#"{"code":"malformed_json"}"#;

/// An ops side that answers by `answer`.
pub(super) async fn fake(answer: impl Fn(Request) -> Response + Clone + Send + Sync + 'static) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move |request: Request| {
        let answer = answer.clone();
        async move { answer(request) }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

pub(super) fn answer(status: u16, body: &'static str) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    (status, [(CONTENT_TYPE, "application/problem+json")], body).into_response()
}

/// The same by a clock that is so many seconds ahead.
fn answer_ahead(status: u16, body: &'static str, seconds: i64) -> Response {
    let date = Timestamp::now() + SignedDuration::from_secs(seconds);
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
    let mut answer = answer(status, body);
    answer.headers_mut().insert(DATE, date.parse().unwrap());
    answer
}

/// A portal's host that is well, with ops at this URL.
struct Portal {
    endpoint: String,
    emit: Server,
    _engine: crate::dynamo::Dynamo,
}

impl Portal {
    async fn start() -> Self {
        let engine = engine().await;
        let endpoint = local(engine.addr());
        let emit = Server::emit(owned(&portal(&endpoint, "127.0.0.1:0", "http://127.0.0.1:1/"))).await;
        Self { endpoint, emit, _engine: engine }
    }

    async fn doctor(&self, url: &str) -> Told {
        doctor(&["portal"], &portal(&self.endpoint, &self.emit.addr.to_string(), url)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_differ_are_told_without_sending_them() {
    let host = Portal::start().await;
    let other = with(receive(&host.endpoint, "127.0.0.1:0"), "WEBHOOK_SECRET", OTHER_SECRET);
    let ops = Server::receive(owned(&other)).await;
    let told = host.doctor(&ops.url(ONBOARD)).await;
    told.assert_failed(&["ops secret"], &["none of the secrets in OPS_WEBHOOK_SECRET"], &["WEBHOOK_SECRET of receive"]);
    assert_eq!(told.of("ops clock")["status"], "ok");
    // While a secret is rotated both ends know one.
    let both = format!("{OTHER_SECRET} {}", super::SECRET);
    let ops = Server::receive(owned(&with(other, "WEBHOOK_SECRET", &both))).await;
    assert_eq!(host.doctor(&ops.url(ONBOARD)).await.of("ops secret")["status"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_never_in_what_is_sent_and_what_is_sent_is_no_event() {
    let host = Portal::start().await;
    let (seen, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let ops = fake(move |request| {
        seen.send(request).unwrap();
        answer(400, KNOWN)
    })
    .await;
    let told = host.doctor(&format!("http://{ops}{ONBOARD}")).await;
    assert_eq!(told.of("ops secret")["status"], "ok");
    let request = sent.recv().await.unwrap();
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1_000).await.unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_err(), "nothing can be made of it");
    let text = format!("{head:?} {body:?}");
    assert!(!text.contains(&super::SECRET[6..]) && !text.contains(super::EMIT_TOKEN), "{text}");
    assert!(head.headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    assert!(sent.try_recv().is_err(), "one request is enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_differ_by_more_than_a_minute_are_told() {
    let host = Portal::start().await;
    let look = async |status: u16, code: &'static str, ahead: i64| {
        let ops = fake(move |_| answer_ahead(status, code, ahead)).await;
        host.doctor(&format!("http://{ops}/")).await
    };
    for ahead in [-45, 45] {
        assert_eq!(look(400, KNOWN, ahead).await.status, 0);
    }
    let told = look(400, KNOWN, -120).await;
    told.assert_failed(&["ops clock"], &["s behind ours", "past 300 s"], &["NTP"]);
    let told = look(401, r#"{"code":"timestamp_out_of_tolerance"}"#, 900).await;
    told.assert_failed(
        &["ops clock"],
        &["s ahead of ours", "refuses what we send"],
        &["NTP", "set the one that is wrong"],
    );
    assert_eq!(told.of("ops secret")["status"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_not_there_is_told() {
    let host = Portal::start().await;
    let told = host.doctor(&format!("http://127.0.0.1:{}/", free_port())).await;
    told.assert_failed(
        &["ops reach"],
        &["takes no connection", "refused"],
        &["start receive", "firewalls", "OPS_WEBHOOK_URL"],
    );
    // No resolver is asked for a label this long.
    let told = host.doctor(&format!("http://{}.example/", "a".repeat(70))).await;
    told.assert_failed(&["ops reach"], &["has no address"], &["DNS"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_something_else_is_told() {
    let host = Portal::start().await;
    for (status, saw, remedy) in [
        (404, "no place for webhooks", "/api/v1/webhooks/onboard"),
        (200, "which receive never says", "OPS_WEBHOOK_URL"),
        (403, "which receive never says", "proxy"),
        (302, "a redirect", "where it leads"),
        (500, "ops answers 500", "log of receive"),
    ] {
        let ops = fake(move |_| ([(LOCATION, "http://127.0.0.1:1/")], answer(status, "{}")).into_response()).await;
        host.doctor(&format!("http://{ops}/")).await.assert_failed(&["ops secret"], &[saw], &[remedy]);
    }
    let busy = fake(|_| answer(503, r#"{"code":"overloaded"}"#)).await;
    let told = host.doctor(&format!("http://{busy}/")).await;
    told.assert_warned("ops secret", "busy", "again");
    assert_eq!(told.status, 0);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begun = std::time::Instant::now();
    let told = host.doctor(&format!("http://{}/", silent.local_addr().unwrap())).await;
    told.assert_failed(&["ops secret"], &["no answer"], &[]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(9), "{:?}", begun.elapsed());
}
