//! The portals: they post events to either emit-retry, some with a key and then until it is answered, and remember what
//! they were told.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use contract::id::WebhookId;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::EMIT;

/// Those of which ops makes tickets.
pub const TICKET_EVENTS: [&str; 2] = ["account.created", "onboarding.completed"];
const OTHER_EVENTS: [&str; 3] = ["domain.validated", "dns.applied", "onboarding.failed"];
/// Sessions that everyone posts about all the time.
const HOT_SESSIONS: u64 = 20;
/// A duplicate is one of so many tickets before it.
const RECENT: usize = 64;
/// A portal waits for an answer for this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// What was begun when the faults stopped has to be accepted within this.
const GIVE_UP: Duration = Duration::from_secs(30);
/// More of a kind say no more.
pub const MAX_BROKEN: usize = 20;

/// What a ticket is made of once: event, session and domain, as ops writes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Triple(pub String, pub String, pub String);

impl Triple {
    pub fn is_ticket(&self) -> bool {
        TICKET_EVENTS.contains(&self.0.as_str())
    }
}

/// A message that was answered 202.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub webhook_id: String,
    /// In its `data`, and in that of no other message.
    pub number: u64,
    pub triple: Triple,
}

/// What the portals know in the end.
#[derive(Default)]
pub struct Book {
    pub accepted: Vec<Accepted>,
    /// Posted without a key, and no 202 came whole: they may have been accepted.
    pub unknown: BTreeMap<u64, Triple>,
    /// How often which answer came.
    pub answers: BTreeMap<String, u64>,
    /// How long each 202 took, in milliseconds.
    pub took_ms: Vec<u32>,
    /// How often a message was posted again after its 202.
    pub repeated: u64,
    pub broken: Vec<String>,
    recent: VecDeque<Triple>,
}

impl Book {
    pub fn broken(&mut self, what: String) {
        if self.broken.len() < MAX_BROKEN {
            self.broken.push(what);
        }
    }
}

struct Post {
    number: u64,
    triple: Triple,
    key: Option<String>,
    body: String,
}

enum Answer {
    Accepted(String),
    /// Try again, or never know.
    No,
    Wrong,
}

pub struct Load {
    http: reqwest::Client,
    emits: Vec<String>,
    end: Instant,
    seed: u64,
    next: AtomicU64,
    book: Mutex<Book>,
}

impl Load {
    pub fn new(emits: &[SocketAddr], seed: u64, end: Instant) -> Self {
        // TLS is not used, and the client wants its provider all the same.
        let _ = crate::harness::client();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE).build().unwrap();
        let emits = emits.iter().map(|emit| format!("http://{emit}{EMIT}")).collect();
        Self { http, emits, end, seed, next: AtomicU64::new(1), book: Mutex::default() }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// One portal's work, until the end.
    pub async fn portal(self: Arc<Self>, mut random: Rng) {
        while Instant::now() < self.end {
            let post = self.invent(&mut random);
            self.hand_over(&post, &mut random).await;
            sleep(Duration::from_millis(random.u64(40..160))).await;
        }
    }

    /// A new event, or another message about a ticket that others wanted too, its domain written in another way.
    fn invent(&self, random: &mut Rng) -> Post {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let ticket_event = TICKET_EVENTS[random.usize(0..2)].to_owned();
        let recent = {
            let book = self.book();
            (!book.recent.is_empty()).then(|| book.recent[random.usize(0..book.recent.len())].clone())
        };
        let session = format!("onb-{number}");
        let domain = format!("d{number}.example");
        let new = |event: String, random: &mut Rng| match random.u8(0..4) {
            0 => Triple(event, session.clone(), String::new()),
            1 => Triple(event, String::new(), domain.clone()),
            _ => Triple(event, session.clone(), domain.clone()),
        };
        let triple = match (random.u8(0..100), recent) {
            (0..25, Some(again)) => again,
            (25..35, _) => Triple(ticket_event, format!("hot-{}", random.u64(0..HOT_SESSIONS)), String::new()),
            (35..65, _) => new(OTHER_EVENTS[random.usize(0..3)].to_owned(), random),
            _ => {
                let new = new(ticket_event, random);
                let mut book = self.book();
                book.recent.push_back(new.clone());
                if book.recent.len() > RECENT {
                    book.recent.pop_front();
                }
                new
            }
        };
        let written = match random.u8(0..4) {
            0 => triple.2.to_uppercase(),
            1 if !triple.2.is_empty() => format!("{}.", triple.2),
            2 => format!(" {} ", triple.2),
            _ => triple.2.clone(),
        };
        let body = json!({
            "event": triple.0, "session_id": triple.1, "domain": written,
            "data": {"number": number, "email": format!("user-{number}@example.com"), "account_verified": true}
        });
        let key = (random.f64() < 0.7).then(|| format!("chaos-{:x}-{number}", self.seed));
        Post { number, triple, key, body: body.to_string() }
    }

    async fn hand_over(&self, post: &Post, random: &mut Rng) {
        let webhook_id = loop {
            match self.post(post, random.usize(0..self.emits.len())).await {
                Answer::Accepted(webhook_id) => break webhook_id,
                Answer::No if post.key.is_some() && Instant::now() < self.end + GIVE_UP => {
                    sleep(Duration::from_millis(random.u64(20..200))).await;
                }
                Answer::No if post.key.is_some() => {
                    self.book().broken(format!("number {} was not accepted though nothing was wrong", post.number));
                    return;
                }
                Answer::No | Answer::Wrong => {
                    self.book().unknown.insert(post.number, post.triple.clone());
                    return;
                }
            }
        };
        let (number, triple) = (post.number, post.triple.clone());
        self.book().accepted.push(Accepted { webhook_id: webhook_id.clone(), number, triple });
        // A portal that crashed between the answer and its own note of it.
        if post.key.is_some()
            && random.u8(0..20) == 0
            && let Answer::Accepted(again) = self.post(post, random.usize(0..self.emits.len())).await
        {
            let mut book = self.book();
            book.repeated += 1;
            if again != webhook_id {
                book.broken(format!("number {number} was accepted as {webhook_id} and as {again}"));
            }
        }
    }

    async fn post(&self, post: &Post, emit: usize) -> Answer {
        let mut request = self.http.post(&self.emits[emit]).header("content-type", "application/json");
        if let Some(key) = &post.key {
            request = request.header("idempotency-key", key);
        }
        let begun = Instant::now();
        let answer = async {
            let response = request.body(post.body.clone()).send().await.ok()?;
            let (status, again) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
            Some((status, again, response.text().await.ok()?))
        };
        let answer = answer.await;
        let took_ms = u32::try_from(begun.elapsed().as_millis()).unwrap();
        let mut book = self.book();
        let Some((status, retry_after, text)) = answer else {
            *book.answers.entry("none".to_owned()).or_default() += 1;
            return Answer::No;
        };
        *book.answers.entry(status.to_string()).or_default() += 1;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        match (status, body["webhook_id"].as_str()) {
            (202, Some(id)) => {
                book.took_ms.push(took_ms);
                let expected = post.key.as_deref().map(|key| WebhookId::from_idempotency_key(key).to_string());
                if expected.is_some_and(|expected| expected != id) {
                    book.broken(format!("number {} was accepted as {id}, which its key does not make", post.number));
                }
                Answer::Accepted(id.to_owned())
            }
            (503, _) if retry_after => Answer::No,
            _ => {
                book.broken(format!("number {} was answered {status} {text}", post.number));
                Answer::Wrong
            }
        }
    }
}
