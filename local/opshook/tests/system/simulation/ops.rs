//! Ops: the real receive on a database of its own, behind a layer that answers every status, stalls, cuts, is slow, and
//! lets the sender die.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use contract::id::IdSource;
use contract::signature::{DEVELOPMENT_SECRET, ID_HEADER};
use futures_util::future::BoxFuture;
use futures_util::stream;
use hyper::body::Incoming;
use receive::App;
use serde_json::Value;
use service::host::Environment;
use tokio::time::sleep;
use tower::ServiceExt;

use super::engine::Engine;
use super::life::Life;
use super::plan::Mood;
use super::wire::Peer;
use super::world::World;

/// Longer than an attempt may take.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// Every way to say when to come back, sensible or not.
const RETRY_AFTER: [&str; 12] = [
    "0",
    "1",
    "7",
    "45",
    "600",
    "3600",
    "86400",
    "999999999999999999999999",
    "-5",
    "soon",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Sat, 01 Jan 2095 00:00:00 GMT",
];

/// The ops side.
pub struct Ops {
    world: Arc<World>,
    current: Mutex<Current>,
}

/// receive, and its database.
struct Current {
    engine: Engine,
    router: Router,
    number: u64,
}

/// What ops does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    DiesBefore,
    DiesAfter,
    Says(u16),
    SaysAfter(u16),
    Stalls,
    StallsAfter,
    SlowBefore,
    SlowAfter,
    CutBefore,
    CutAfter,
    /// The head arrives, and the body breaks off.
    CutInBody,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::DiesBefore => "process died before ops got its request",
            Self::DiesAfter => "process died after ops took its request",
            Self::Says(status) => status_name(status),
            Self::SaysAfter(_) => "ops failed after it stored",
            Self::Stalls => "ops never answered",
            Self::StallsAfter => "ops never answered after it stored",
            Self::SlowBefore | Self::SlowAfter => "ops slow",
            Self::CutBefore => "ops cut the connection",
            Self::CutAfter => "ops cut the answer after it stored",
            Self::CutInBody => "ops cut the answer's body",
        }
    }
}

fn status_name(status: u16) -> &'static str {
    match status {
        300..400 => "ops answered 3xx",
        401 | 403 => "ops answered 401 or 403",
        410 => "ops answered 410",
        429 | 503 => "ops answered 429 or 503",
        400..500 => "ops answered another 4xx",
        _ => "ops answered another 5xx",
    }
}

impl Ops {
    pub async fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), current: Mutex::new(Current::new(world, 0).await) }
    }

    /// Its database is gone, and it begins again with an empty one.
    pub async fn lose_everything(&self) {
        let number = self.current.lock().unwrap().number + 1;
        let fresh = Current::new(&self.world, number).await;
        *self.current.lock().unwrap() = fresh;
    }

    pub fn engine(&self) -> Engine {
        self.current.lock().unwrap().engine.clone()
    }

    fn router(&self) -> Router {
        self.current.lock().unwrap().router.clone()
    }

    /// One request.
    async fn exchange(self: Arc<Self>, life: Arc<Life>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.map_err(io::Error::other)?;
        let id = head.headers[ID_HEADER].to_str().unwrap().to_owned();
        let event: Value = serde_json::from_slice(&body).unwrap();
        let fault = self.fault(&event);
        let world = Arc::clone(&self.world);
        if let Some(fault) = fault {
            world.count(fault.name());
        }
        if fault == Some(Fault::DiesBefore) {
            life.die(&world, "process died while it sent");
        }
        life.go_on().await;
        let mut in_flight = InFlight::begin(&world, &life, &id);
        let answer = self.answer(&life, fault, &head.headers, body).await;
        life.go_on().await;
        let told = answer.as_ref().map_or("cut".to_owned(), |answer| answer.status().as_u16().to_string());
        world.note(Some(&id), format!("{} is told {told} ({fault:?})", life.name));
        in_flight.success = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        answer
    }

    /// There may be no connection.
    async fn connect(&self, life: &Life) -> io::Result<()> {
        let (world, chance) = (&self.world, &self.world.ops_chance);
        if world.is_calm() {
            return Ok(());
        }
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        match world.plan.mood(world.now()) {
            Some(Mood::Refuses) => {
                world.count("ops refused the connection");
                Err(refused())
            }
            Some(Mood::Gone) => {
                world.count("ops never took the connection");
                std::future::pending().await
            }
            _ if chance.happens(world.plan.rates.ops / 4.0) => {
                world.count("ops refused the connection");
                Err(refused())
            }
            _ if chance.happens(world.plan.rates.death) => {
                life.die(world, "process died while it connected to ops");
                life.go_on().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn answer(
        &self,
        life: &Life,
        fault: Option<Fault>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> io::Result<Response<Body>> {
        let chance = &self.world.ops_chance;
        sleep(Duration::from_millis(chance.between(0..=5))).await;
        match fault {
            Some(Fault::Says(status)) => return Ok(self.says(status)),
            Some(Fault::Stalls) => sleep(FOR_EVER).await,
            Some(Fault::SlowBefore) => sleep(Duration::from_millis(chance.spread(50..=8_000))).await,
            Some(Fault::CutBefore) => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => {}
        }
        let mut answer = self.take(headers, body).await;
        self.world.count("requests that receive answered");
        match fault {
            Some(Fault::DiesAfter) => life.die(&self.world, "process died while it sent"),
            Some(Fault::SaysAfter(status)) => return Ok(self.says(status)),
            Some(Fault::StallsAfter) => sleep(FOR_EVER).await,
            Some(Fault::SlowAfter) => sleep(Duration::from_millis(chance.spread(50..=8_000))).await,
            Some(Fault::CutAfter) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Fault::CutInBody) => {
                answer.headers_mut().remove(header::CONTENT_LENGTH);
                let parts = [Ok(Bytes::from_static(b"{\"outcome\":")), Err(io::Error::other("cut"))];
                *answer.body_mut() = Body::from_stream(stream::iter(parts));
            }
            _ => {}
        }
        Ok(answer)
    }

    /// What the real receive says.
    async fn take(&self, headers: &HeaderMap, body: Bytes) -> Response<Body> {
        let mut request = Request::post("/api/v1/webhooks/onboard").body(Body::from(body)).unwrap();
        *request.headers_mut() = headers.clone();
        let router = self.router();
        let mut answer = router.oneshot(request).await.unwrap();
        self.date(&mut answer);
        answer
    }

    fn says(&self, status: u16) -> Response<Body> {
        let mut answer = Response::new(Body::from("no"));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        if matches!(status, 301 | 302 | 307) {
            answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("http://elsewhere.example/"));
        }
        if matches!(status, 429 | 503) && self.world.ops_chance.happens(0.6) {
            let value = HeaderValue::from_static(self.world.ops_chance.pick(&RETRY_AFTER));
            answer.headers_mut().insert(header::RETRY_AFTER, value);
        }
        self.date(&mut answer);
        answer
    }

    /// The server's own would be the date of today.
    fn date(&self, answer: &mut Response<Body>) {
        let shown = self.world.shown(ahead(&self.world));
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&shown).unwrap();
        answer.headers_mut().insert(header::DATE, date.parse().unwrap());
    }

    fn fault(&self, event: &Value) -> Option<Fault> {
        let (world, chance) = (&self.world, &self.world.ops_chance);
        if world.is_calm() {
            return None;
        }
        let statuses = [204, 301, 302, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 503, 504];
        // A 2xx is a promise, which ops gives only for what it stored.
        let status = || Some(chance.pick(&statuses)).filter(|status| *status >= 300).unwrap_or(500);
        match world.plan.mood(world.now()) {
            Some(Mood::Stalls) => return Some(Fault::Stalls),
            Some(Mood::Says(status)) => return Some(Fault::Says(status)),
            _ => {}
        }
        match event["domain"].as_str() {
            Some("poison422.example") => return Some(Fault::Says(422)),
            Some("poison500.example") => return Some(Fault::Says(500)),
            _ => {}
        }
        if chance.happens(world.plan.rates.death) {
            return Some(chance.pick(&[Fault::DiesBefore, Fault::DiesAfter]));
        }
        if chance.happens(world.plan.rates.ops / 200.0) {
            return Some(Fault::Says(410));
        }
        let rate = if world.plan.mood(world.now()) == Some(Mood::Mad) { 0.9 } else { world.plan.rates.ops };
        chance.happens(rate).then(|| match chance.between(0..=11) {
            0 => Fault::SaysAfter(status()),
            1 => Fault::Stalls,
            2 => Fault::StallsAfter,
            3 => Fault::SlowBefore,
            4 => Fault::SlowAfter,
            5 => Fault::CutBefore,
            6 => Fault::CutAfter,
            7 => Fault::CutInBody,
            _ => Fault::Says(status()),
        })
    }
}

impl Peer for Ops {
    fn connects<'a>(&'a self, life: &'a Life) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.connect(life))
    }

    fn serve(
        self: Arc<Self>,
        life: Arc<Life>,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, io::Result<Response<Body>>> {
        Box::pin(self.exchange(life, request))
    }
}

/// How far ops's clock is ahead.
fn ahead(world: &World) -> i64 {
    if world.is_calm() { 0 } else { world.plan.ops_ahead(world.now()) }
}

impl Current {
    async fn new(world: &Arc<World>, number: u64) -> Self {
        let engine = Engine::new(world).await;
        let environment = Environment::from_fn(|name| match name {
            "WEBHOOK_SECRET" => Some(DEVELOPMENT_SECRET.to_owned()),
            "LISTEN_ADDR" => None,
            name if name.starts_with("AWS_REGION") || name.contains("KEY") => Some("simulated".to_owned()),
            _ => None,
        });
        let config = receive::config::Config::read(&environment).unwrap();
        let ids = IdSource::seeded(super::chance::mixed(world.plan.seed, &format!("ops {number}")));
        let clock = world.clock(ahead);
        let router = receive::app(App { config, store: engine.for_ops(), clock, ids });
        Self { engine, router, number }
    }
}

/// A request that has reached ops and has no answer yet.
pub struct InFlight<'a> {
    world: &'a World,
    life: &'a Life,
    id: &'a str,
    /// Ops said 2xx.
    pub success: bool,
}

impl<'a> InFlight<'a> {
    pub fn begin(world: &'a World, life: &'a Arc<Life>, id: &'a str) -> Self {
        world.judge().begins(world, life, id);
        Self { world, life, id, success: false }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.world.judge().ends(self.world, self.life, self.id, self.success);
    }
}
