//! An ops side as a model: it has places, takes its time, and refuses some messages for ever.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use contract::signature::ID_HEADER;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::sleep;

use crate::simulation::life::Life;
use crate::simulation::ops::InFlight;
use crate::simulation::wire::Peer;
use crate::simulation::world::World;

/// Longer than an attempt may take.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// More places than anyone fills.
pub const PLENTY: usize = 10_000;

/// What a message meets at each attempt, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Says(u16),
    /// Its request is never answered.
    TimesOut,
    /// Its connection is closed without an answer.
    Cut,
}

impl Fate {
    /// The domain by which the endpoint knows the message again.
    pub fn domain(self) -> String {
        match self {
            Self::Says(status) => format!("says-{status}.example"),
            Self::TimesOut => "times-out.example".to_owned(),
            Self::Cut => "cut.example".to_owned(),
        }
    }

    fn of(domain: &str) -> Option<Self> {
        match domain {
            "times-out.example" => Some(Self::TimesOut),
            "cut.example" => Some(Self::Cut),
            _ => {
                let status = domain.strip_prefix("says-")?.strip_suffix(".example")?;
                Some(Self::Says(status.parse().unwrap()))
            }
        }
    }
}

/// How the endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Works,
    /// It answers everything with this status.
    Says(u16),
    /// It takes requests and never answers.
    Hangs,
    /// Its connections are refused.
    Refuses,
}

/// What it says where all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// 503 without a word on when to come back.
    Says503,
    /// 429 with `Retry-After: 2`.
    Says429,
}

/// The endpoint.
pub struct Endpoint {
    world: Arc<World>,
    answer_ms: u64,
    full: Full,
    state: Mutex<State>,
}

struct State {
    mood: Mood,
    places: usize,
    busy: usize,
    seen: Seen,
}

/// What it has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When it took each message, in milliseconds since the run began.
    pub taken: BTreeMap<String, u64>,
    /// In which order.
    pub order: Vec<String>,
    /// When requests came, and connections that were refused.
    pub came: Vec<u64>,
    /// Requests that met no free place.
    pub refused: u64,
    pub most_at_once: usize,
}

impl Endpoint {
    pub fn new(world: &Arc<World>, answer_ms: u64, places: usize, full: Full) -> Arc<Self> {
        let state = State { mood: Mood::Works, places, busy: 0, seen: Seen::default() };
        Arc::new(Self { world: Arc::clone(world), answer_ms, full, state: Mutex::new(state) })
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    pub fn set_places(&self, places: usize) {
        self.state().places = places;
    }

    pub fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    /// When it took a message.
    pub fn taken_at(&self, id: &str) -> Option<u64> {
        self.state().seen.taken.get(id).copied()
    }

    /// How many messages it took.
    pub fn count_taken(&self) -> usize {
        self.state().seen.taken.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// One request.
    async fn exchange(self: Arc<Self>, life: Arc<Life>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.map_err(io::Error::other)?;
        let id = head.headers[ID_HEADER].to_str().unwrap().to_owned();
        let event: Value = serde_json::from_slice(&body).unwrap();
        let fate = Fate::of(event["domain"].as_str().unwrap());
        let mut in_flight = InFlight::begin(&self.world, &life, &id);
        let answer = self.answer(&id, fate).await?;
        in_flight.success = answer.status().is_success();
        Ok(answer)
    }

    async fn answer(&self, id: &str, fate: Option<Fate>) -> io::Result<Response<Body>> {
        let (mood, place) = {
            let mut state = self.state();
            state.seen.came.push(self.world.now());
            (state.mood, state.take_place())
        };
        let _place = match place {
            true => Place(self),
            false => return Ok(self.is_full()),
        };
        match (mood, fate) {
            (Mood::Says(status), _) => return Ok(says(status)),
            (Mood::Hangs, _) | (_, Some(Fate::TimesOut)) => sleep(FOR_EVER).await,
            (_, Some(Fate::Cut)) => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => {}
        }
        sleep(Duration::from_millis(self.answer_ms)).await;
        if let Some(Fate::Says(status)) = fate {
            return Ok(says(status));
        }
        let mut state = self.state();
        if state.seen.taken.insert(id.to_owned(), self.world.now()).is_none() {
            state.seen.order.push(id.to_owned());
        }
        Ok(says(200))
    }

    fn is_full(&self) -> Response<Body> {
        self.state().seen.refused += 1;
        match self.full {
            Full::Says503 => says(503),
            Full::Says429 => {
                let mut answer = says(429);
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
                answer
            }
        }
    }
}

impl State {
    fn take_place(&mut self) -> bool {
        let is_free = self.busy < self.places;
        if is_free {
            self.busy += 1;
            self.seen.most_at_once = self.seen.most_at_once.max(self.busy);
        }
        is_free
    }
}

impl Peer for Endpoint {
    fn connects<'a>(&'a self, _: &'a Life) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async {
            let mut state = self.state();
            if state.mood == Mood::Refuses {
                state.seen.came.push(self.world.now());
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Ok(())
        })
    }

    fn serve(
        self: Arc<Self>,
        life: Arc<Life>,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, io::Result<Response<Body>>> {
        Box::pin(self.exchange(life, request))
    }
}

/// A place that a request has until it is answered, or nobody waits for the answer.
struct Place<'a>(&'a Endpoint);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().busy -= 1;
    }
}

fn says(status: u16) -> Response<Body> {
    let mut answer = Response::new(Body::from("{}"));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
