//! The people who look after it: they replay what is dead or parked, and all that was delivered when ops has lost it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use contract::time;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::plan::MINUTE;
use super::process::Process;
use super::world::World;

/// Someone who gets no answer tries again so often.
const MOST_TRIES: usize = 200;
/// So many are replayed by one call where each of them is found again.
const FEW: usize = 10;
/// When the store is back for this long, all that was delivered is recorded as that.
const RECORDED_AFTER: u64 = 2 * MINUTE;

/// They.
#[derive(Clone)]
pub struct Operator {
    world: Arc<World>,
    processes: Vec<Arc<Process>>,
    busy: Arc<AtomicUsize>,
    /// What was under way when ops lost its database: delivered to the old one perhaps, and recorded after the replay.
    remembered: Arc<Mutex<BTreeSet<String>>>,
}

impl Operator {
    pub fn new(world: &Arc<World>, processes: &[Arc<Process>]) -> Self {
        Self {
            world: Arc::clone(world),
            processes: processes.to_vec(),
            busy: Arc::default(),
            remembered: Arc::default(),
        }
    }

    /// Waits until they have done what they began.
    pub async fn done(&self) {
        while self.busy.load(Ordering::Relaxed) > 0 {
            sleep(Duration::from_secs(1)).await;
        }
    }

    fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        let busy = Arc::clone(&self.busy);
        busy.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            work.await;
            busy.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Replays a few messages, whatever their state.
    pub fn replay_some(&self) {
        let ids: Vec<String> = self.world.judge().rows().map(|(id, _)| id.clone()).collect();
        for _ in 0..self.world.operator_chance.between(1..=5).min(ids.len() as u64) {
            let id = ids[self.world.operator_chance.between(0..=ids.len() as u64 - 1) as usize].clone();
            let own = self.clone();
            self.begin(async move { own.replay_one(&id).await });
        }
    }

    async fn replay_one(&self, id: &str) {
        let request = Request::post(format!("/api/v1/outbox/{id}/replay")).body(Body::empty()).unwrap();
        match self.ask(request).await {
            Some((202, message)) => {
                self.world.count("replayed one by one");
                let pending = message["state"] == "pending" && message["webhook_id"] == id;
                self.world.promise(pending, Some(id), || format!("replayed, and answered {message}"));
            }
            None | Some((404 | 409 | 503, _)) => drop(self.world.count("not replayed one by one")),
            Some((status, answer)) => self.world.broke(Some(id), format!("a replay got {status}: {answer}")),
        }
    }

    /// Replays all that is dead or parked.
    pub fn replay_all(&self, state: &'static str) {
        let own = self.clone();
        self.begin(async move { own.replay(json!({"state": state})).await });
    }

    /// Replays what was delivered until now, once all of it is recorded: a few at a time, for a process that dies again and
    /// again comes to no end of many.
    pub fn replay_delivered(&self) {
        let own = self.clone();
        self.begin(async move {
            let mut quiet_since = own.world.now();
            while own.world.now() < quiet_since + RECORDED_AFTER {
                sleep(Duration::from_secs(10)).await;
                if own.world.is_anyone_away() {
                    quiet_since = own.world.now();
                }
            }
            let mut delivered: Vec<i64> = own.world.judge().rows().filter_map(|(_, row)| row.delivered_at).collect();
            delivered.sort_unstable();
            for few in delivered.chunks(FEW) {
                let at = |ms: i64| time::format_ms(time::from_unix_ms(ms));
                let (from, to) = (at(few[0]), at(few[few.len() - 1] + 1));
                own.replay(json!({"state": "delivered", "from": from, "to": to})).await;
            }
        });
    }

    /// Replays all that rests, when there are no faults any more: each message that the judge knows to rest.
    pub async fn replay_all_that_rests(&self) {
        for state in ["dead", "parked"] {
            let resting = self.world.judge().rows().filter(|(_, row)| row.is(state)).count();
            let (status, dry) = self.ask(bulk(&json!({"state": state, "dry_run": true}))).await.unwrap();
            let same = status == 200 && dry["count"] == resting;
            self.world.promise(same, None, || format!("{resting} are {state}, and a dry run says {status} {dry}"));
            self.replay(json!({"state": state})).await;
        }
    }

    /// Remembers these for the end.
    pub fn remember(&self, ids: Vec<String>) {
        self.remembered.lock().unwrap().extend(ids);
    }

    /// Replays those that were remembered and are delivered.
    pub async fn replay_remembered(&self) {
        let ids = std::mem::take(&mut *self.remembered.lock().unwrap());
        for id in ids {
            if self.world.judge().row(&id).is_some_and(|row| row.is("delivered")) {
                self.replay_one(&id).await;
            }
        }
    }

    /// Replays until there is no more.
    async fn replay(&self, mut wanted: Value) {
        for _ in 0..MOST_TRIES {
            match self.ask(bulk(&wanted)).await {
                Some((202, answer)) => {
                    self.world.note(None, format!("replayed {wanted}: {answer}"));
                    self.world.count_more("replayed in bulk", answer["count"].as_u64().unwrap());
                    if answer["more"] == false {
                        return;
                    }
                    if answer["next_from"].is_string() {
                        wanted["from"] = answer["next_from"].clone();
                    }
                }
                None | Some((503, _)) => drop(self.world.count("bulk replay without an answer")),
                Some((status, answer)) => self.world.broke(None, format!("a bulk replay got {status}: {answer}")),
            }
            sleep(Duration::from_millis(self.world.operator_chance.spread(500..=10 * MINUTE))).await;
        }
        self.world.broke(None, "a bulk replay does not come to its end");
    }

    async fn ask(&self, request: Request<Body>) -> Option<(u16, Value)> {
        let index = self.world.operator_chance.between(0..=self.processes.len() as u64 - 1);
        self.processes[index as usize].ask(request).await
    }
}

fn bulk(wanted: &Value) -> Request<Body> {
    let request = Request::post("/api/v1/outbox/replay").header("content-type", "application/json");
    request.body(Body::from(wanted.to_string())).unwrap()
}
