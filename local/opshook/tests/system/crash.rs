//! kill -9 of `opshook up` under load, again and again on one data directory: nothing that was answered is lost.
//! `OPSHOOK_TEST_KILLS` says how often (10).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::signature::DEVELOPMENT_SECRET;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::{
    EMIT, EVENTS, ONBOARD, TICKETS, TOKEN, account_created, all, eventually, get, new_id, ops, signed,
};
use crate::process::{OPSHOOK, Process, free_port};

/// Workers that send signed deliveries, and as many that emit.
const WORKERS: usize = 4;

/// `opshook up` on one directory and always the same ports.
struct Up {
    data_dir: String,
    receive: SocketAddr,
    query: SocketAddr,
    emit: SocketAddr,
    dynamodb: SocketAddr,
}

impl Up {
    fn new(data_dir: &Path) -> Self {
        let mut ports = BTreeSet::new();
        while ports.len() < 4 {
            ports.insert(free_port());
        }
        let mut addresses = ports.into_iter().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut next = || addresses.next().unwrap();
        let data_dir = data_dir.to_str().unwrap().to_owned();
        Self { data_dir, receive: next(), query: next(), emit: next(), dynamodb: next() }
    }

    /// Starts it; it is ready when this returns.
    async fn start(&self) -> Process {
        let addresses = [self.receive, self.query, self.emit, self.dynamodb].map(|address| address.to_string());
        let [receive, query, emit, dynamodb] = addresses.each_ref().map(String::as_str);
        let arguments = ["up", "--json", "--data-dir", &self.data_dir, "--receive-addr", receive, "--query-addr"];
        let arguments = [&arguments[..], &[query, "--emit-addr", emit, "--dynamodb-addr", dynamodb]].concat();
        let settings =
            [("WEBHOOK_SECRET", DEVELOPMENT_SECRET), ("OPS_API_TOKEN", TOKEN), ("RUST_LOG", "warn"), ("HOME", "/")];
        let mut process = Process::start(Path::new(OPSHOOK), &arguments, settings);
        let line: Value = serde_json::from_str(&process.line_with(r#""receive":"#).await).unwrap();
        assert_eq!(line["receive"], format!("http://{receive}"));
        process
    }
}

/// A delivery that was answered.
struct Answered {
    webhook_id: String,
    session: String,
    body: Value,
    status: u16,
}

/// The load, and all that it was told.
struct Load {
    receive: String,
    emit: String,
    http: reqwest::Client,
    stop: AtomicBool,
    unanswered: AtomicUsize,
    deliveries: Mutex<Vec<Answered>>,
    /// `webhook_id` and session of each event that was accepted with 202.
    accepted: Mutex<Vec<(String, String)>>,
}

impl Load {
    fn start(up: &Up) -> (Arc<Self>, tokio::task::JoinSet<()>) {
        // TLS is not used, and the client wants its provider all the same.
        let _ = crate::harness::client();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(5));
        let load = Arc::new(Self {
            receive: format!("http://{}{ONBOARD}", up.receive),
            emit: format!("http://{}{EMIT}", up.emit),
            http: http.build().unwrap(),
            stop: AtomicBool::new(false),
            unanswered: AtomicUsize::new(0),
            deliveries: Mutex::default(),
            accepted: Mutex::default(),
        });
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..WORKERS {
            workers.spawn(Arc::clone(&load).deliver(worker));
            workers.spawn(Arc::clone(&load).emit(worker));
        }
        (load, workers)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Status and body of an answer that came whole; none where the process was killed before.
    async fn post(&self, url: &str, headers: &[(&str, String)], body: &str) -> Option<(u16, Value)> {
        let mut request = self.http.post(url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = async {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            Some((status, serde_json::from_str(&response.text().await.ok()?).ok()?))
        };
        let answer = answer.await;
        if answer.is_none() {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
        }
        answer
    }

    /// Signed deliveries, each sent under its id until it is answered, as a sender with retries does.
    async fn deliver(self: Arc<Self>, worker: usize) {
        for number in 0.. {
            let (session, body) = event("direct", worker, number);
            let webhook_id = new_id();
            let answer = loop {
                if !self.goes_on() {
                    return;
                }
                let headers = signed(&webhook_id, body.as_bytes());
                if let Some(answer) = self.post(&self.receive, &headers, &body).await {
                    break answer;
                }
            };
            let (status, body) = answer;
            assert!(matches!(status, 200 | 201), "{status} {body}");
            self.deliveries.lock().unwrap().push(Answered { webhook_id, session, body, status });
        }
    }

    /// Events for emit-retry, every other one with a key and then sent until it is answered.
    async fn emit(self: Arc<Self>, worker: usize) {
        for number in 0.. {
            let (session, body) = event("emitted", worker, number);
            let mut headers = vec![("content-type", "application/json".to_owned())];
            let with_key = number % 2 == 0;
            if with_key {
                headers.push(("idempotency-key", format!("key-{worker}-{number}")));
            }
            let answer = loop {
                if !self.goes_on() {
                    return;
                }
                match self.post(&self.emit, &headers, &body).await {
                    Some(answer) => break Some(answer),
                    None if with_key => {}
                    None => break None,
                }
            };
            let Some((status, body)) = answer else { continue };
            assert_eq!(status, 202, "{body}");
            let id = body["webhook_id"].as_str().unwrap().to_owned();
            self.accepted.lock().unwrap().push((id, session));
            // Its own pace, or the messages of the last kill would be thousands.
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// In turn: a new ticket, the same again, an event that makes none, and a ticket that others want too. The session says
/// which; each has at most one ticket.
fn event(kind: &str, worker: usize, number: usize) -> (String, String) {
    let session = match number % 4 {
        0 | 1 => format!("{kind}-{worker}-{}", number / 4),
        2 => return ("none".to_owned(), json!({"event": "dns.applied", "session_id": "none"}).to_string()),
        _ => format!("shared-{}", number % 97),
    };
    let body = account_created(&session, "example.com");
    (session, body)
}

/// Each 202 ends delivered. A lease of a process that was killed takes 15 s to run out.
async fn assert_all_delivered(up: &Up, load: &Load) {
    let mut left: Vec<String> = load.accepted.lock().unwrap().iter().map(|(id, _)| id.clone()).collect();
    eventually(40, "every 202 is delivered", async || {
        let mut still = Vec::new();
        for id in left.drain(..) {
            let message = get(&format!("http://{}/api/v1/outbox/{id}", up.emit), &[]).await;
            assert_eq!(message.status, 200, "it was accepted and is not there: {message:?}");
            match message.body["state"].as_str().unwrap() {
                "delivered" => {}
                "pending" => still.push(id),
                state => panic!("{state}: {}", message.body),
            }
        }
        left = still;
        left.is_empty().then_some(())
    })
    .await;
}

async fn assert_nothing_lost(up: &Up, load: &Load) {
    let records = all(up.query, EVENTS).await;
    let by_id: HashMap<&str, &Value> = records.iter().map(|r| (r["event_id"].as_str().unwrap(), r)).collect();
    let messages: BTreeSet<&str> = records.iter().map(|r| r["webhook_id"].as_str().unwrap()).collect();
    let mut wanted: BTreeSet<&str> = BTreeSet::new();

    let deliveries = std::mem::take(&mut *load.deliveries.lock().unwrap());
    for Answered { webhook_id, session, body, status } in &deliveries {
        let record = by_id.get(body["event_id"].as_str().unwrap());
        let record = record.unwrap_or_else(|| panic!("answered {status} and not recorded: {body}"));
        assert_eq!(record["webhook_id"], *webhook_id);
        assert_eq!((&record["outcome"], &record["ticket_id"]), (&body["outcome"], &body["ticket_id"]));
        wanted.extend((session != "none").then_some(session.as_str()));
    }
    let accepted = std::mem::take(&mut *load.accepted.lock().unwrap());
    for (id, session) in &accepted {
        assert!(messages.contains(id.as_str()), "{id} was accepted and delivered and is not recorded");
        wanted.extend((session != "none").then_some(session.as_str()));
    }

    let tickets = all(up.query, TICKETS).await;
    let mut of_session = BTreeMap::<&str, usize>::new();
    for ticket in &tickets {
        *of_session.entry(ticket["session_id"].as_str().unwrap()).or_default() += 1;
    }
    assert!(of_session.values().all(|count| *count == 1), "two tickets of one event: {of_session:?}");
    assert!(wanted.iter().all(|session| of_session.contains_key(session)), "a ticket is missing");

    let created: Vec<&Value> = records.iter().filter(|record| record["outcome"] == "ticket_created").collect();
    assert_eq!(created.len(), tickets.len());
    for record in created {
        let ticket = ops(up.query, &format!("{TICKETS}/{}", record["ticket_id"].as_str().unwrap())).await;
        assert_eq!((ticket.status, &ticket.body["event_id"]), (200, &record["event_id"]), "{record}");
    }
    eprintln!(
        "{} deliveries answered, {} emitted, {} calls unanswered; {} records, {} tickets",
        deliveries.len(),
        accepted.len(),
        load.unanswered.load(Ordering::Relaxed),
        records.len(),
        tickets.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_again_and_again_it_loses_nothing_that_it_answered() {
    let kills: usize = std::env::var("OPSHOOK_TEST_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let up = Up::new(dir.path());
    let mut process = up.start().await;
    let begun = Instant::now();
    let (load, mut workers) = Load::start(&up);
    let mut longest_start = Duration::ZERO;
    for _ in 0..kills {
        let before = load.deliveries.lock().unwrap().len() + load.accepted.lock().unwrap().len();
        sleep(Duration::from_millis(fastrand::u64(300..900))).await;
        process.kill();
        let after = load.deliveries.lock().unwrap().len() + load.accepted.lock().unwrap().len();
        assert!(after > before + 10, "there was hardly any load: {before} to {after}");
        let starting = Instant::now();
        process = up.start().await;
        longest_start = longest_start.max(starting.elapsed());
    }
    load.stop.store(true, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    eprintln!("{kills} kills in {:?}, the longest start {longest_start:?}", begun.elapsed());
    assert_all_delivered(&up, &load).await;
    eprintln!("all delivered after {:?}", begun.elapsed());
    assert_nothing_lost(&up, &load).await;
    eprintln!("checked after {:?}", begun.elapsed());
}
