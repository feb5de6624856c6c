//! The outbox as the portal's people see it: by its routes, through either emit-retry.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::harness::client;

/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of those that rest so many are replayed one by one, the others together.
const ONE_BY_ONE: usize = 20;
/// So many are looked at whole in the end.
const SAMPLES: usize = 500;
/// Leases of 15 s, a schedule of 7 s, a probe of at most 30 s: where nothing goes on for longer, something is stuck.
const STUCK: Duration = Duration::from_secs(90);
const COUNT_EACH: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(250);

/// Status and body of an answer that came whole; none otherwise.
pub type Reply = Option<(u16, Value)>;

/// The routes of the outbox and of the activity log.
#[derive(Clone)]
pub struct Outbox {
    emits: Vec<SocketAddr>,
    next: Arc<AtomicUsize>,
}

impl Outbox {
    pub fn new(emits: &[SocketAddr]) -> Self {
        Self { emits: emits.to_vec(), next: Arc::default() }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let emit = self.emits[self.next.fetch_add(1, Ordering::Relaxed) % self.emits.len()];
        let mut request = client().request(method, format!("http://{emit}/api/v1/{path}")).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, serde_json::from_str(&response.text().await.ok()?).ok()?))
    }

    /// One message.
    pub async fn message(&self, id: &str) -> Reply {
        self.call(Method::GET, &format!("outbox/{id}"), None).await
    }

    /// Has a message delivered again.
    pub async fn replay(&self, id: &str) -> Reply {
        self.call(Method::POST, &format!("outbox/{id}/replay"), None).await
    }

    /// Has all in a state delivered again, or says how many those are.
    pub async fn replay_all(&self, state: &str, dry_run: bool) -> Reply {
        self.call(Method::POST, "outbox/replay", Some(json!({"state": state, "dry_run": dry_run}))).await
    }

    /// How many are pending, for people to look at.
    pub async fn pending(&self) -> String {
        let page = self.call(Method::GET, "outbox?state=pending&limit=500", None);
        match tokio::time::timeout(Duration::from_secs(1), page).await {
            Ok(Some((200, page))) => {
                let more = if page["next_cursor"].is_null() { "" } else { "+" };
                format!("{}{more}", page["items"].as_array().map_or(0, Vec::len))
            }
            _ => "?".to_owned(),
        }
    }

    /// Every item of a list; none where a page was not answered.
    pub async fn list(&self, path: &str) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        self.pages(path, 500, |page| {
            items.extend(page.iter().cloned());
            true
        })
        .await?;
        Some(items)
    }

    /// Whether a list has such an item: short pages until one has, for looking is not to be a load.
    pub async fn any(&self, path: &str, such: impl Fn(&Value) -> bool) -> Option<bool> {
        let mut any = false;
        self.pages(path, 20, |page| {
            any = page.iter().any(&such);
            !any
        })
        .await?;
        Some(any)
    }

    /// The pages of a list while `more` says so; none where one was not answered.
    async fn pages(&self, path: &str, limit: u32, mut more: impl FnMut(&[Value]) -> bool) -> Option<()> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut cursor = String::new();
        loop {
            let (status, page) = self.call(Method::GET, &format!("{path}{joint}limit={limit}{cursor}"), None).await?;
            let goes_on = more(page["items"].as_array().filter(|_| status == 200)?);
            match page["next_cursor"].as_str() {
                Some(next) if goes_on => cursor = format!("&cursor={next}"),
                _ => return Some(()),
            }
        }
    }

    /// Every item of a list, when nothing is wrong any more. Panics where it is not answered within 30 s.
    pub async fn whole(&self, path: &str) -> Vec<Value> {
        if let Some(items) = insist(async || self.list(path).await).await {
            return items;
        }
        let last = self.call(Method::GET, path, None).await;
        panic!("{path} is not answered in calm; asked once more: {last:?}")
    }

    /// Waits until nothing is pending, for as long as it becomes less. Answers for how long; `say` is told each 10 s how
    /// many are left.
    pub async fn drained(&self, say: &impl Fn(usize)) -> Duration {
        let begun = Instant::now();
        let (mut fewest, mut progress, mut counted) = (usize::MAX, begun, begun);
        while progress.elapsed() < STUCK && self.any("outbox?state=pending", |_| true).await != Some(false) {
            sleep(AGAIN).await;
            if counted.elapsed() < COUNT_EACH {
                continue;
            }
            counted = Instant::now();
            if let Some(pending) = self.list("outbox?state=pending").await {
                say(pending.len());
                if pending.len() < fewest {
                    (fewest, progress) = (pending.len(), Instant::now());
                }
            }
        }
        begun.elapsed()
    }
}

/// Asks again until there is an answer, for 30 s: a busy machine may take its time.
async fn insist<T>(ask: impl AsyncFn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask().await;
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        sleep(AGAIN).await;
    }
}

/// An answer that is no 503.
async fn served(ask: impl AsyncFn() -> Reply) -> Reply {
    insist(async || ask().await.filter(|(status, _)| *status != 503)).await
}

/// A message as the list shows it.
#[derive(Debug)]
pub struct Row {
    pub state: String,
    pub attempts: u64,
    pub last_status: Option<u64>,
}

/// How the messages ended.
#[derive(Default)]
pub struct End {
    /// By id.
    pub messages: BTreeMap<String, Row>,
    /// Ids that the list showed twice.
    pub twice: Vec<String>,
    /// From the end of the faults until nothing was pending.
    pub drained: Duration,
    /// Those that were dead or parked then, by id, and so were replayed.
    pub rested: BTreeMap<String, Row>,
    /// Those that were replayed though they may have been delivered.
    pub replayed: HashSet<String>,
    /// Some whole messages.
    pub samples: Vec<Value>,
    pub activity: Vec<Value>,
    /// What the routes should not have said.
    pub broken: Vec<String>,
}

/// Waits until no message is pending, replays what is dead or parked then and some that are delivered, and waits again.
pub async fn settle(outbox: &Outbox, say: impl Fn(usize)) -> End {
    let mut end = End { drained: outbox.drained(&say).await, ..End::default() };
    let (rows, twice) = rows(outbox).await;
    end.twice = twice;
    let (rested, done): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, row)| matches!(row.state.as_str(), "dead" | "parked"));
    let delivered = done.iter().filter(|(_, row)| row.state == "delivered").map(|(id, _)| id);
    end.replayed = delivered.step_by(done.len() / ONE_BY_ONE + 1).cloned().collect();
    end.rested = rested.into_iter().collect();
    end.activity = outbox.whole("activity").await;

    let one_by_one: Vec<&String> = end.rested.keys().take(ONE_BY_ONE).chain(&end.replayed).collect();
    for id in one_by_one {
        match served(async || outbox.replay(id).await).await {
            Some((202, message)) if message["state"] == "pending" => {}
            // The answer of a call before this one did not come.
            Some((409, _)) => {}
            other => end.broken.push(format!("a replay of {id} was answered {other:?}")),
        }
    }
    for state in ["dead", "parked"] {
        let left = end.rested.iter().skip(ONE_BY_ONE).filter(|(_, row)| row.state == state).count();
        replay_all(outbox, state, left, &mut end.broken).await;
    }
    outbox.drained(&say).await;
    let (rows, twice) = self::rows(outbox).await;
    end.messages = rows;
    end.twice.extend(twice);
    for id in end.messages.keys().step_by(end.messages.len() / SAMPLES + 1) {
        match served(async || outbox.message(id).await).await {
            Some((200, message)) => end.samples.push(message),
            other => end.broken.push(format!("{id} is in the list, and is answered {other:?}")),
        }
    }
    end
}

/// Replays all in a state, which are so many.
async fn replay_all(outbox: &Outbox, state: &str, expected: usize, broken: &mut Vec<String>) {
    let count = |reply: &Reply, status: u16| match reply {
        Some((found, body)) if *found == status => Some((body["count"].as_u64()?, body["more"].as_bool()?)),
        _ => None,
    };
    let expected = u64::try_from(expected).unwrap();
    let dry = served(async || outbox.replay_all(state, true).await).await;
    if count(&dry, 200) != Some((expected.min(1_000), expected > 1_000)) {
        broken.push(format!("a dry replay of {expected} {state} ones was answered {dry:?}"));
    }
    let mut replayed = 0;
    loop {
        let reply = served(async || outbox.replay_all(state, false).await).await;
        let Some((count, more)) = count(&reply, 202) else {
            return broken.push(format!("a replay of all {state} ones was answered {reply:?}"));
        };
        replayed += count;
        if !more {
            break;
        }
    }
    // Fewer where the answer of a call did not come; what was left out then is not delivered in the end.
    if replayed > expected {
        broken.push(format!("of {expected} {state} ones {replayed} were replayed"));
    }
}

async fn rows(outbox: &Outbox) -> (BTreeMap<String, Row>, Vec<String>) {
    let mut rows = BTreeMap::new();
    let mut twice = Vec::new();
    for item in outbox.whole("outbox").await {
        let id = item["webhook_id"].as_str().unwrap_or_default().to_owned();
        let row = Row {
            state: item["state"].as_str().unwrap_or_default().to_owned(),
            attempts: item["attempts_total"].as_u64().unwrap_or(0),
            last_status: item["last_attempt"]["status"].as_u64(),
        };
        if rows.insert(id.clone(), row).is_some() {
            twice.push(id);
        }
    }
    (rows, twice)
}
