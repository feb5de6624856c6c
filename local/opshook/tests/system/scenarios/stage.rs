//! What a scenario plays on: an outbox, its processes, an endpoint, and the portal that emits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::backlog;
use super::endpoint::{Endpoint, Fate};
use crate::simulation::engine::Engine;
use crate::simulation::life::Life;
use crate::simulation::plan::{MINUTE, Plan, SECOND};
use crate::simulation::process::Process;
use crate::simulation::row::{Row, number, text};
use crate::simulation::wire::Peer;
use crate::simulation::world::World;

/// So many events are handed over at a time where they come as fast as the store takes them.
const AT_A_TIME: usize = 8;

/// One scenario, as it is played once.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    pub seed: u64,
    pub processes: usize,
    /// How long a sweep may pause, in milliseconds.
    pub pause: u64,
}

/// The stage.
pub struct Stage {
    pub world: Arc<World>,
    pub endpoint: Arc<Endpoint>,
    outbox: Engine,
    processes: Vec<Arc<Process>>,
    accepted: Mutex<Vec<Accepted>>,
}

/// A message that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub id: String,
    pub at: u64,
    pub is_good: bool,
}

/// An entry of the activity log about the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub at: u64,
    pub code: String,
}

impl Stage {
    /// A stage on which nothing runs yet.
    pub async fn new(take: Take, endpoint: impl FnOnce(&Arc<World>) -> Arc<Endpoint>) -> Self {
        let world = World::new(Plan::quiet(take.seed, take.processes, take.pause));
        let outbox = Engine::new(&world).await;
        let endpoint = endpoint(&world);
        Self { world, endpoint, outbox, processes: Vec::new(), accepted: Mutex::default() }
    }

    /// Has so many messages in the outbox that nobody has worked on. It is a minute later then.
    pub async fn fill(&self, count: usize) {
        let writer = Arc::new(Life::new(usize::MAX, 0, true));
        for row in backlog::rows(count) {
            self.outbox.put("outbox", &row);
            let id = text(&row, "pk").unwrap();
            let at = self.world.since_beginning(number(&row, "accepted_at").unwrap());
            self.accepted.lock().unwrap().push(Accepted { id: id.clone(), at, is_good: true });
            self.world.judge().wrote(&self.world, &writer, &[(id, Some(row))]);
        }
        sleep(Duration::from_millis(MINUTE)).await;
    }

    /// Starts the processes.
    pub fn start(&mut self) {
        let peer: Arc<dyn Peer> = self.endpoint.clone();
        let count = self.world.plan.clocks.len();
        self.processes = (0..count).map(|index| Process::start(&self.world, &self.outbox, &peer, index)).collect();
    }

    /// The portal emits an event, by any of the processes.
    pub async fn emit(&self, fate: Option<Fate>) -> Accepted {
        let number = self.world.count("emitted");
        let domain = fate.map_or_else(|| "good.example".to_owned(), Fate::domain);
        let body = event(number, &domain);
        let any = self.world.portal_chance.between(0..=self.processes.len() as u64 - 1);
        let (status, answer) = self.processes[any as usize].ask(post(&body)).await.unwrap();
        assert_eq!(status, 202, "{answer}");
        let id = answer["webhook_id"].as_str().unwrap().to_owned();
        let accepted = Accepted { id, at: self.world.now(), is_good: fate.is_none() };
        self.accepted.lock().unwrap().push(accepted.clone());
        accepted
    }

    /// The portal emits events as fast as the store takes them.
    pub async fn emit_all(&self, fates: &[Option<Fate>]) {
        let emits = fates.iter().map(|fate| self.emit(*fate));
        futures_util::stream::iter(emits).buffered(AT_A_TIME).for_each(async |_| ()).await;
    }

    /// Waits for so long, with an eye on what becomes of each attempt.
    pub async fn pass(&self, ms: u64) {
        let end = self.world.now() + ms;
        while self.world.now() < end {
            sleep(Duration::from_millis((end - self.world.now()).min(10 * SECOND))).await;
            self.world.judge().check_attempts(&self.world);
        }
    }

    /// Waits until a moment that is so long after `since`.
    pub async fn until(&self, since: u64, ms: u64) {
        self.pass((since + ms).saturating_sub(self.world.now())).await;
    }

    /// Waits until it holds, and not longer than this. Whether it does.
    pub async fn once(&self, limit: u64, holds: impl Fn() -> bool) -> bool {
        let (begun, mut checked) = (self.world.now(), self.world.now());
        while !holds() {
            if self.world.now() >= begun + limit {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
            if self.world.now() >= checked + 10 * SECOND {
                checked = self.world.now();
                self.world.judge().check_attempts(&self.world);
            }
        }
        true
    }

    /// Waits until ops has all good messages that were accepted by now, and not longer than this.
    pub async fn until_good_ones_are_taken(&self, limit: u64) -> bool {
        // Ops takes no others.
        let count = self.good().len();
        self.once(limit, || self.endpoint.count_taken() == count).await
    }

    pub fn good(&self) -> Vec<Accepted> {
        self.accepted.lock().unwrap().iter().filter(|accepted| accepted.is_good).cloned().collect()
    }

    /// How long a message has waited until ops took it, or until now.
    pub fn waited(&self, message: &Accepted) -> u64 {
        self.endpoint.taken_at(&message.id).unwrap_or(self.world.now()).saturating_sub(message.at)
    }

    /// The longest that a good message has waited.
    pub fn longest_wait(&self) -> u64 {
        self.good().iter().map(|good| self.waited(good)).max().unwrap_or_default()
    }

    /// What the activity log says about the endpoint, oldest first.
    pub fn told(&self) -> Vec<Told> {
        let is_about_endpoint = |code: &str| matches!(code, "endpoint_down" | "endpoint_refuses" | "endpoint_up");
        let told = |row: &Value| {
            let code = text(row, "code").filter(|code| is_about_endpoint(code))?;
            Some(Told { at: self.world.since_beginning(number(row, "at")?), code })
        };
        let mut all: Vec<Told> = self.outbox.rows("outbox").iter().filter_map(told).collect();
        all.sort_by_key(|told| told.at);
        all
    }

    /// How often the endpoint was said to be down.
    pub fn announced(&self) -> usize {
        self.told().iter().filter(|told| told.code != "endpoint_up").count()
    }

    /// The messages as they are.
    pub fn rows(&self) -> BTreeMap<String, Row> {
        let rows = self.outbox.rows("outbox");
        let message = |row: &Value| Some((text(row, "pk").filter(|pk| pk.starts_with("msg_"))?, Row::of(row)));
        rows.iter().filter_map(message).collect()
    }
}

/// An event as the portal sends it.
pub fn event(number: u64, domain: &str) -> String {
    json!({"event": "domain.validated", "session_id": format!("onb-{number}"), "domain": domain}).to_string()
}

pub fn post(event: &str) -> Request<Body> {
    let request = Request::post("/api/v1/events").header("content-type", "application/json");
    request.body(Body::from(event.to_owned())).unwrap()
}
