//! The portal: emits events through whichever process answers, tries again where it got no answer, and remembers what
//! was accepted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use tokio::time::sleep;

use super::plan::MINUTE;
use super::process::Process;
use super::world::World;

/// The portal.
pub struct Portal {
    world: Arc<World>,
    processes: Vec<Arc<Process>>,
    emitted: Mutex<Vec<Emitted>>,
    /// What got a 202, by `webhook_id`.
    accepted: Mutex<BTreeMap<String, Accepted>>,
}

/// An event as the portal sends it.
#[derive(Debug, Clone)]
struct Emitted {
    event: &'static str,
    session: String,
    domain: String,
    body: String,
    key: Option<String>,
}

/// An event that emit-retry took.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub event: &'static str,
    pub session: String,
    pub domain: String,
}

impl Accepted {
    pub fn makes_ticket(&self) -> bool {
        self.event == "account.created"
    }

    /// What a ticket stands for.
    pub fn triple(&self) -> (String, String, String) {
        (self.event.to_owned(), self.session.clone(), self.domain.clone())
    }
}

impl Portal {
    pub fn new(world: &Arc<World>, processes: &[Arc<Process>]) -> Arc<Self> {
        let (emitted, accepted) = (Mutex::default(), Mutex::default());
        Arc::new(Self { world: Arc::clone(world), processes: processes.to_vec(), emitted, accepted })
    }

    pub fn accepted(&self) -> BTreeMap<String, Accepted> {
        self.accepted.lock().unwrap().clone()
    }

    /// Emits so many events within so many milliseconds, each on its own; goes on at once.
    pub fn burst(self: &Arc<Self>, events: u64, within: u64) {
        for _ in 0..events {
            let wait = self.world.portal_chance.between(0..=within);
            let portal = Arc::clone(self);
            tokio::spawn(async move {
                sleep(Duration::from_millis(wait)).await;
                portal.emit(portal.event()).await;
            });
        }
    }

    /// An event: mostly new, sometimes one of an onboarding that was there before.
    fn event(&self) -> Emitted {
        let chance = &self.world.portal_chance;
        let mut emitted = self.emitted.lock().unwrap();
        let number = emitted.len();
        let event = chance.pick(&["account.created", "account.created", "domain.validated", "onboarding.failed"]);
        let (mut session, mut domain) = (format!("onb-{number}"), format!("d{number}.example"));
        match chance.between(0..=99) {
            0..=1 => domain = "poison422.example".to_owned(),
            2 => domain = "poison500.example".to_owned(),
            3..=8 => domain.clear(),
            9..=14 => session.clear(),
            15..=24 if number > 0 => {
                let other = &emitted[chance.between(0..=number as u64 - 1) as usize];
                (session, domain) = (other.session.clone(), other.domain.clone());
            }
            _ => {}
        }
        let body = json!({"event": event, "session_id": session, "domain": domain, "data": {"number": number}});
        let key = chance.happens(0.6).then(|| format!("key-{number}"));
        let event = Emitted { event, session, domain, body: body.to_string(), key };
        emitted.push(event.clone());
        event
    }

    /// Emits an event until it is accepted, or the portal gives up.
    async fn emit(&self, event: Emitted) {
        let chance = &self.world.portal_chance;
        for _ in 0..chance.between(1..=12) {
            let process = &self.processes[chance.between(0..=self.processes.len() as u64 - 1) as usize];
            match process.ask(request(&event)).await {
                Some((202, answer)) => {
                    self.note(&event, answer["webhook_id"].as_str().unwrap());
                    // A client that repeats what it has an answer to, or takes one key for two events.
                    if chance.happens(0.05) && event.key.is_some() {
                        self.repeat(&event, process, answer["webhook_id"].as_str().unwrap()).await;
                    }
                    return;
                }
                Some((503, _)) => drop(self.world.count("portal got 503")),
                Some((status, answer)) => self.world.broke(None, format!("the portal got {status}: {answer}")),
                None => drop(self.world.count("portal got no answer")),
            }
            sleep(Duration::from_millis(chance.spread(200..=5 * MINUTE))).await;
        }
        self.world.count("portal gave up");
    }

    fn note(&self, event: &Emitted, webhook_id: &str) {
        self.world.note(Some(webhook_id), "accepted");
        self.world.judge().accepted(&self.world, webhook_id);
        let accepted = Accepted { event: event.event, session: event.session.clone(), domain: event.domain.clone() };
        self.accepted.lock().unwrap().insert(webhook_id.to_owned(), accepted);
    }

    async fn repeat(&self, event: &Emitted, process: &Process, webhook_id: &str) {
        let same = self.world.portal_chance.happens(0.5);
        let mut again = event.clone();
        if !same {
            again.body = again.body.replace(r#""number":"#, r#""another":1,"number":"#);
        }
        let answer = process.ask(request(&again)).await;
        let right = match &answer {
            None | Some((503, _)) => true,
            Some((202, answer)) => same && answer["webhook_id"] == webhook_id,
            Some((422, answer)) => !same && answer["code"] == "idempotency_mismatch",
            Some(_) => false,
        };
        self.world.promise(right, Some(webhook_id), || format!("the key again, same body {same}: {answer:?}"));
    }
}

fn request(event: &Emitted) -> Request<Body> {
    let mut request = Request::post("/api/v1/events").header("content-type", "application/json");
    if let Some(key) = &event.key {
        request = request.header("idempotency-key", key);
    }
    request.body(Body::from(event.body.clone())).unwrap()
}
