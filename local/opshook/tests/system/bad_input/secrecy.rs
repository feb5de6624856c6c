//! What is secret or personal is in no problem and in no log line (contract §6).

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use contract::signature::DEVELOPMENT_SECRET;
use tracing::Dispatch;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::harness::{EMIT, EVENTS, ONBOARD, Server, TICKETS, TOKEN, World, eventually, get};
use crate::process::{OPSHOOK, Process};
use crate::raw::Raw;

/// Stands in every body sent here, in values and in keys.
const MARKER: &str = "marker-7f3a";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Bodies with the marker in `data`: good ones, and each that fails in a way of its own.
fn bodies() -> Vec<String> {
    let data = format!(r#"{{"email":"{MARKER}@example.com","{MARKER}":["{MARKER}"]}}"#);
    let event = |more: &str| format!(r#"{{"event":"account.created","session_id":"s"{more},"data":{data}}}"#);
    let good = event("");
    vec![
        event(r#","domain":"example.com""#),
        event(r#","domain":"a b""#),
        event(r#","timestamp":"soon""#),
        event(r#","event":"account.created""#),
        format!("{good}x"),
        good[..good.len() - 3].to_owned(),
        good.replace("[\"", "[\"\\ud800"),
        good.replace("[\"", "[\"\u{1}"),
        good.replace(&data, &format!(r#"{{"{MARKER}":1,"{MARKER}":2}}"#)),
        good.replace(&data, &format!(r#""{MARKER}""#)),
        good.replace(&data, &format!(r#"["{MARKER}"]"#)),
        good.replace(&data, &format!(r#"{{"a":{}"{MARKER}"{}}}"#, "[".repeat(70), "]".repeat(70))),
        good.replace(&data, &format!(r#"{{"a":"{}{MARKER}"}}"#, "x".repeat(65_536))),
        format!(r#""{MARKER}""#),
        MARKER.to_owned(),
        good,
    ]
}

// One thread: what logs by this test's subscriber is what this test started.
#[tokio::test]
async fn no_problem_and_no_log_line_holds_a_secret_or_what_data_holds() {
    let log = Log::default();
    // The SDK's trace lines are kept out by the log itself: see the test below.
    let levels: Targets = "trace,aws_smithy_runtime=debug".parse().unwrap();
    let lines = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false).with_filter(levels);
    let log_lines = Dispatch::new(tracing_subscriber::registry().with(lines));
    // With one dispatcher alone, a line that a test on another thread comes to first is off for this thread too.
    let _second = Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::dispatcher::set_default(&log_lines);
    let world = World::start().await;
    let mut answers = Vec::new();
    for body in bodies() {
        let delivery = Raw::delivery(body.as_str());
        let wrong_secret = delivery.clone().with("webhook-signature", format!("v1,{MARKER}"));
        let wrong_type = delivery.clone().with("content-type", format!("text/{MARKER}"));
        for request in [delivery, wrong_secret, wrong_type] {
            answers.push(request.send(world.receive.addr).await);
        }
        let emitted = Raw::json("POST", EMIT, body.as_str());
        answers.push(emitted.clone().send(world.emit.addr).await);
        answers.push(emitted.header("idempotency-key", format!("{MARKER},")).send(world.emit.addr).await);
        let bearer = format!("Bearer {TOKEN}");
        let ticket = format!("{TICKETS}/tkt_{}", "0".repeat(32));
        answers.push(Raw::json("PATCH", &ticket, body).header("authorization", bearer).send(world.query.addr).await);
    }
    for token in [format!("Bearer {MARKER}-{MARKER}-{MARKER}"), format!("Basic {MARKER}"), MARKER.to_owned()] {
        answers.push(Raw::get(EVENTS).header("authorization", token).send(world.query.addr).await);
    }
    // Ops fails, and repeats what it was sent.
    let ops = Server::receive(crate::harness::settings(world.engine.addr(), &[("TABLE_PREFIX", "nowhere_")])).await;
    let mut settings = world.settings.clone();
    settings.insert("OPS_WEBHOOK_URL".to_owned(), ops.url(ONBOARD));
    let emit = Server::emit(settings).await;
    let accepted = Raw::json("POST", EMIT, bodies()[0].as_str()).send(emit.addr).await;
    let message = emit.url(&format!("/api/v1/outbox/{}", accepted.body["webhook_id"].as_str().unwrap()));
    eventually(10, "an attempt", async || {
        let attempts = get(&message, &[]).await.body["attempts_total"].as_u64();
        attempts.filter(|attempts| *attempts > 0)
    })
    .await;
    // And with no engine at all.
    let World { receive, query, emit: other_emit, engine, .. } = world;
    engine.stop().await;
    let delivery = Raw::delivery(bodies()[0].as_str()).send(receive.addr).await;
    delivery.assert_problem(503, "storage_unavailable");
    let emitted = Raw::json("POST", EMIT, bodies()[0].as_str()).send(other_emit.addr).await;
    emitted.assert_problem(503, "storage_unavailable");
    let metrics = Raw::get("/metrics").send(receive.addr).await.text;
    answers.extend([delivery, emitted]);
    for server in [receive, query, other_emit, emit, ops] {
        server.stop().await;
    }

    let secrets = [MARKER, TOKEN, "b3BzaG9vay1kZXZlbG9wbWVudC1zZWNyZXQtb25seSE", "opshook-development-secret"];
    for secret in secrets {
        for reply in answers.iter().filter(|reply| reply.status >= 300) {
            assert!(!reply.text.contains(secret), "{reply:?}");
        }
        assert!(!metrics.contains(secret), "{metrics}");
        let leaks: Vec<String> = log.text().lines().filter(|line| line.contains(secret)).map(str::to_owned).collect();
        assert_eq!(leaks, [""; 0]);
    }
    let text = log.text();
    assert!(text.contains("answered") && text.contains("the attempt failed"), "the log was not read: {text}");
}

#[tokio::test]
async fn an_error_of_the_sdk_is_told_without_the_request_that_it_quotes() {
    let engine = crate::harness::engine().await;
    let mut settings = crate::harness::settings(engine.addr(), &[]);
    // A URL to some and none to the SDK, whose error then holds the request.
    settings.insert("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), "http://a{b:1/".to_owned());
    let error = crate::harness::store(&settings).await.check_table(&store::tables::OUTBOX).await.unwrap_err();
    let text = format!("{error}\n{error:?}");
    assert!(!text.contains("TableName") && !text.contains("Request {") && text.len() < 600, "{text}");
}

#[tokio::test]
async fn the_command_logs_nothing_of_it_either_however_much_it_is_told_to_log() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let free = "127.0.0.1:0";
    let arguments = ["up", "--data-dir", data_dir.to_str().unwrap(), "--receive-addr", free, "--query-addr", free];
    let arguments = [&arguments[..], &["--emit-addr", free, "--dynamodb-addr", free]].concat();
    let settings = [("RUST_LOG", "trace"), ("WEBHOOK_SECRET", DEVELOPMENT_SECRET)];
    let mut up = Process::start(Path::new(OPSHOOK), &arguments, settings);
    let mut address = async |name: &str| {
        let line = up.line_with(&format!("{name} http://")).await;
        line.split_once("http://").unwrap().1.parse::<std::net::SocketAddr>().unwrap()
    };
    let (receive, _, emit) = (address("receive").await, address("query-events").await, address("emit-retry").await);
    for body in bodies() {
        Raw::delivery(body.as_str()).send(receive).await;
        Raw::json("POST", EMIT, body).send(emit).await;
    }
    let killed = Command::new("kill").args(["-TERM", &up.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let (status, said) = up.end().await;
    assert_eq!(status, 0, "{said}");
    for secret in [MARKER, "b3BzaG9vay1kZXZlbG9wbWVudC1zZWNyZXQtb25seSE", "opshook-development-secret"] {
        assert_eq!(said.lines().filter(|line| line.contains(secret)).collect::<Vec<_>>(), [""; 0]);
    }
    assert!(said.contains("answered") && said.contains("TRACE"), "the log was not read: {said}");
}
