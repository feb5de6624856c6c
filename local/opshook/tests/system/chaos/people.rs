//! The people of the portal while all is in motion: they look at messages, replay some, and wait for a drain.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::chaos::load::{Load, MAX_BROKEN};
use crate::chaos::outbox::Outbox;
use crate::chaos::weather::is_poison;

/// What they saw.
#[derive(Default)]
pub struct Seen {
    /// State and attempts of each message that was looked at.
    messages: HashMap<String, (String, u64)>,
    /// Replayed by id, whatever their state was.
    pub replayed: HashSet<String>,
    pub looks: u64,
    /// Outages after which all was settled before the next one, and the longest that it took.
    pub drains: u64,
    pub longest_drain: Duration,
    pub broken: Vec<String>,
}

impl Seen {
    fn note(&mut self, what: String) {
        if self.broken.len() < MAX_BROKEN {
            self.broken.push(what);
        }
    }

    /// What was accepted is there; what is delivered stays so; no attempt is forgotten.
    fn look(&mut self, id: String, status: u16, message: &Value) {
        if status == 503 {
            return;
        }
        self.looks += 1;
        let (Some(state), Some(attempts)) = (message["state"].as_str(), message["attempts_total"].as_u64()) else {
            return self.note(format!("{id} was accepted, and is answered {status} {message}"));
        };
        let now = (state.to_owned(), attempts);
        let replayed = self.replayed.contains(&id);
        let before = self.messages.insert(id.clone(), now.clone());
        let went_back =
            |before: (String, u64)| before.1 > now.1 || (before.0 == "delivered" && before != now && !replayed);
        if before.is_some_and(went_back) {
            self.note(format!("{id} went back: {message}"));
        }
    }
}

/// All of them.
#[derive(Clone)]
pub struct People {
    pub outbox: Outbox,
    pub load: Arc<Load>,
    pub seen: Arc<Mutex<Seen>>,
    pub end: Instant,
}

impl People {
    /// A message that was accepted: often a late one, for those are in motion.
    fn any(&self, random: &mut Rng) -> Option<String> {
        let book = self.load.book();
        let count = book.accepted.len();
        let from = if random.bool() { 0 } else { count.saturating_sub(500) };
        (count > 0).then(|| book.accepted[random.usize(from..count)].webhook_id.clone())
    }

    /// Looks at messages.
    pub async fn look(self, mut random: Rng) {
        while Instant::now() < self.end {
            sleep(Duration::from_millis(random.u64(20..80))).await;
            let Some(id) = self.any(&mut random) else { continue };
            if let Some((status, message)) = self.outbox.message(&id).await {
                self.seen.lock().unwrap().look(id, status, &message);
            }
        }
    }

    /// Replays what is dead or parked, all of it or some, and now and then whatever comes.
    pub async fn replay(self, mut random: Rng) {
        while Instant::now() < self.end {
            sleep(Duration::from_millis(random.u64(200..2_500))).await;
            let state = if random.bool() { "dead" } else { "parked" };
            match random.u8(0..8) {
                0 => drop(self.outbox.replay_all(state, random.bool()).await),
                1..4 => {
                    let resting = self.outbox.list(&format!("outbox?state={state}")).await.unwrap_or_default();
                    let ids: Vec<&str> = resting.iter().filter_map(|item| item["webhook_id"].as_str()).collect();
                    if !ids.is_empty() {
                        self.replay_one(ids[random.usize(0..ids.len())].to_owned()).await;
                    }
                }
                _ => {
                    if let Some(id) = self.any(&mut random) {
                        self.replay_one(id).await;
                    }
                }
            }
        }
    }

    async fn replay_one(&self, id: String) {
        self.seen.lock().unwrap().replayed.insert(id.clone());
        match self.outbox.replay(&id).await {
            None | Some((202 | 409 | 503, _)) => {}
            Some((status, body)) => {
                self.seen.lock().unwrap().note(format!("a replay of {id} was answered {status} {body}"));
            }
        }
    }

    /// Waits until all that was accepted before now is settled, but for what ops refuses for ever; or until another
    /// outage has begun, by the count of them.
    pub async fn wait_for_drain(self, outages: Arc<AtomicU64>) {
        let outage = outages.load(Ordering::SeqCst);
        let begun = Instant::now();
        let path = format!("outbox?state=pending&to={}", contract::time::format_ms(Timestamp::now()));
        let waits = |item: &Value| !is_poison(item["webhook_id"].as_str().unwrap_or_default());
        while Instant::now() < self.end && outages.load(Ordering::SeqCst) == outage {
            if self.outbox.any(&path, waits).await == Some(false) {
                let mut seen = self.seen.lock().unwrap();
                seen.drains += 1;
                seen.longest_drain = seen.longest_drain.max(begun.elapsed());
                return;
            }
            sleep(Duration::from_millis(250)).await;
        }
    }
}
