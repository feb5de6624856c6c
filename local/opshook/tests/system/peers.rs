//! The official `standardwebhooks` libraries of Python and JavaScript at both ends of the signature. `scripts/test`
//! installs them into `.tools/` (`OPSHOOK_TOOLS` names another folder).

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::signature::Secret;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{EMIT, ONBOARD, Server, account_created, engine, eventually, new_id, post, settings};
use crate::ops::{self, Ops, Seen};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Peer {
    Python,
    JavaScript,
}

const PEERS: [Peer; 2] = [Peer::Python, Peer::JavaScript];

impl Peer {
    fn command(self) -> Command {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let tools = std::env::var_os("OPSHOOK_TOOLS").map_or_else(|| package.join("../../.tools"), PathBuf::from);
        assert!(
            tools.join("peers.stamp").exists(),
            "the standardwebhooks libraries are not in {}: run scripts/test once, or local/opshook/tests/peers/install \
             .tools",
            tools.display()
        );
        let script = |name: &str| package.join("tests/peers").join(name);
        match self {
            Self::Python => {
                let mut command = Command::new(tools.join("python/bin/python"));
                command.arg(script("peer.py"));
                command
            }
            Self::JavaScript => {
                let mut command = Command::new("node");
                command.arg(script("peer.mjs")).arg(tools.join("node"));
                command
            }
        }
    }

    /// Has the library do some tasks; see `peer.py`.
    async fn run(self, tasks: Vec<Value>) -> Vec<Value> {
        let (count, command) = (tasks.len(), self.command());
        let text = tokio::task::spawn_blocking(move || run_to_end(command, &json!(tasks).to_string()));
        let results: Vec<Value> = serde_json::from_str(&text.await.unwrap()).unwrap();
        assert_eq!(results.len(), count);
        results
    }
}

/// A child's whole output; it is killed when it does not end.
fn run_to_end(mut command: Command, input: &str) -> String {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut output = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{command:?}: {status}");
    reading.join().unwrap().unwrap()
}

/// 24 and 64 bytes, the shortest and the longest, and the 32 that `opshook secret new` makes.
fn secrets() -> [String; 3] {
    let of = |length: usize| format!("whsec_{}", STANDARD.encode(&[b'k'; 64][..length]));
    let (least, most) = (of(24), of(64));
    [Secret::generate([7; 32]).expose(), least, most]
}

fn bodies() -> Vec<String> {
    vec![
        account_created("onb-1", "example.com"),
        "{ \"event\":\"dns.applied\",\n\t\"session_id\": \"ünïcode → 日本 🦀\", \"data\": {\"b\": 1e999, \"a\":\"\\u00e9\"} }"
            .to_owned(),
        json!({"event": "domain.validated", "domain": "a.example", "data": {"text": "x".repeat(60_000)}}).to_string(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_libraries_of_python_and_javascript_sign_what_receive_accepts() {
    let engine = engine().await;
    let [a, b, c] = secrets();
    // What receive is set to, what the library signs with, and whether that is accepted.
    let cases = [
        (a.clone(), vec![&a], true),
        (b.clone(), vec![&b], true),
        (c.clone(), vec![&c], true),
        (format!("{a} {b}"), vec![&a, &b], true),
        // Rotation: one end has the new secret before the other.
        (format!("{b},{a}"), vec![&a], true),
        (a.clone(), vec![&b, &a], true),
        (b.clone(), vec![&b, &a], true),
        (format!("{a} {b}"), vec![&c], false),
        (c.clone(), vec![&a, &b], false),
    ];
    for (of_receive, of_library, accepted) in &cases {
        let receive = Server::receive(settings(engine.addr(), &[("WEBHOOK_SECRET", of_receive)])).await;
        for peer in PEERS {
            let now = Timestamp::now().as_second();
            let messages: Vec<(String, String)> = bodies().into_iter().map(|body| (new_id(), body)).collect();
            let task = |(id, body): &(String, String)| json!({"do": "sign", "secrets": of_library, "id": id, "timestamp": now, "body": body});
            let results = peer.run(messages.iter().map(task).collect()).await;
            for ((id, body), result) in messages.iter().zip(results) {
                let seconds = now.to_string();
                let headers = [
                    ("content-type", "application/json"),
                    ("webhook-id", id),
                    ("webhook-timestamp", &seconds),
                    ("webhook-signature", result["signature"].as_str().unwrap()),
                ];
                let reply = post(&receive.url(ONBOARD), &headers, body.clone()).await;
                if *accepted {
                    assert!(
                        [200, 201].contains(&reply.status),
                        "{peer:?}, signed with {}: {reply:?}",
                        of_library.len()
                    );
                    assert_eq!(reply.body["webhook_id"], **id);
                } else {
                    reply.assert_problem(401, "signature_mismatch");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_libraries_of_python_and_javascript_verify_what_emit_retry_sends() {
    let engine = engine().await;
    let [a, b, c] = secrets();
    let sent_with_one = sent(engine.addr(), &a).await;
    let sent_with_two = sent(engine.addr(), &format!("{b} {a}")).await;
    for seen in sent_with_one.iter().chain(&sent_with_two) {
        seen.assert_delivery(&a);
    }
    let task = |seen: &Seen, secret: &str, body: &str| {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: serde_json::Map<_, _> =
            names.iter().map(|name| ((*name).to_owned(), json!(seen.header(name)))).collect();
        json!({"do": "verify", "secret": secret, "headers": headers, "body": body})
    };
    let mut tasks = Vec::new();
    for seen in &sent_with_one {
        tasks.push((true, task(seen, &a, &seen.body)));
        tasks.push((false, task(seen, &b, &seen.body)));
        tasks.push((false, task(seen, &a, &seen.body.replacen('{', "{ ", 1))));
    }
    for seen in &sent_with_two {
        tasks.push((true, task(seen, &a, &seen.body)));
        tasks.push((true, task(seen, &b, &seen.body)));
        tasks.push((false, task(seen, &c, &seen.body)));
    }
    for peer in PEERS {
        let results = peer.run(tasks.iter().map(|(_, task)| task.clone()).collect()).await;
        for ((good, task), result) in tasks.iter().zip(results) {
            assert_eq!(result["ok"], *good, "{peer:?}: {result} for {task:.300}");
            let error = if *good { Value::Null } else { json!("No matching signature found") };
            assert_eq!(result["error"], error);
        }
    }
}

/// What an emit-retry that signs with `secrets` sends for the bodies.
async fn sent(engine: std::net::SocketAddr, secrets: &str) -> Vec<Seen> {
    let ops = Ops::start(|_, _| ops::status(204, "")).await;
    let more = [("OPS_WEBHOOK_URL", ops.url()), ("OPS_WEBHOOK_SECRET", secrets.to_owned())];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    let emit = Server::emit(settings(engine, &more)).await;
    for body in bodies() {
        let reply = post(&emit.url(EMIT), &[("content-type", "application/json")], body).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    let count = bodies().len();
    let seen = eventually(10, "sent", async || Some(ops.seen()).filter(|seen| seen.len() == count)).await;
    emit.stop().await;
    seen
}
