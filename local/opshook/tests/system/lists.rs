//! What ops reads from query-events (contract §4), under clocks that the tests set.

mod damaged;
mod ends;
mod fields;
mod filters;
mod model;
mod over_time;
mod paging;
mod tickets;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use contract::id::IdSource;
use contract::signature::DEVELOPMENT_SECRET;
use jiff::Timestamp;
use serde_json::Value;
use service::clock::Clock;
use service::host::Service;

use crate::dynamo::Dynamo;
use crate::harness::{
    EVENTS, ONBOARD, Reply, Server, TOKEN, call, engine, environment, new_id, post, settings, signed_at, store,
};
use crate::paged::{Paged, names};

/// Query parameters, and the places of what they should show.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [usize]);

/// A clock that a test sets, in milliseconds.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn at(time: &str) -> Self {
        Self(Arc::new(AtomicI64::new(unix_ms(time))))
    }

    fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    fn ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::from_fn(move || Timestamp::from_millisecond(hands.ms()).unwrap())
    }
}

fn unix_ms(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap_or_else(|error| panic!("{time}: {error}")).as_millisecond()
}

/// A time as opshook writes it.
fn text(ms: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(ms).unwrap())
}

/// A receive under a clock of its own.
struct Receive {
    server: Server,
    clock: Hands,
}

impl Receive {
    async fn start(engine: &Dynamo, more: &[(&str, &str)]) -> Self {
        let settings = settings(engine.addr(), more);
        let clock = Hands::at("2026-11-24T10:00:00Z");
        let config = receive::config::Config::read(&environment(settings.clone())).unwrap();
        let listen = config.listen;
        let app = receive::App { config, store: store(&settings).await, clock: clock.clock(), ids: IdSource::new() };
        let service = Service { name: "receive", listen, router: receive::app(app), background: None, invoke: None };
        Self { server: Server::host(service).await, clock }
    }

    /// Has a body delivered at a time.
    async fn deliver(&self, ms: i64, body: &str) -> Reply {
        self.clock.set(ms);
        let headers = signed_at(DEVELOPMENT_SECRET, &new_id(), ms.div_euclid(1_000), body.as_bytes());
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = post(&self.server.url(ONBOARD), &headers, body.to_owned()).await;
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        reply
    }
}

/// receive and query-events on one engine, each under a clock of its own.
struct Desk {
    receive: Receive,
    query: Server,
    /// query-events's clock.
    clock: Hands,
    engine: Dynamo,
}

impl Desk {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With more settings.
    async fn with(more: &[(&str, &str)]) -> Self {
        let engine = engine().await;
        let receive = Receive::start(&engine, more).await;
        let settings = settings(engine.addr(), more);
        let clock = Hands::at("2026-11-24T12:00:00Z");
        let config = query_events::config::Config::read(&environment(settings.clone())).unwrap();
        let listen = config.listen;
        let app = query_events::App { config, store: store(&settings).await, clock: clock.clock() };
        let service =
            Service { name: "query-events", listen, router: query_events::app(app), background: None, invoke: None };
        Self { receive, query: Server::host(service).await, clock, engine }
    }

    /// Has a body delivered at a time; answers with the id of its event record.
    async fn deliver(&self, time: &str, body: &str) -> String {
        let reply = self.receive.deliver(unix_ms(time), body).await;
        reply.body["event_id"].as_str().unwrap().to_owned()
    }

    async fn call(&self, method: reqwest::Method, path: &str, query: &[(&str, &str)], body: &str) -> Reply {
        let mut url = reqwest::Url::parse(&self.query.url(path)).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let headers = [("authorization", format!("Bearer {TOKEN}")), ("content-type", "application/json".to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        call(method, url.as_str(), &headers, body.to_owned()).await
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Reply {
        Paged(self.query.addr).get(path, query).await
    }

    async fn page(&self, path: &str, query: &[(&str, &str)]) -> (Vec<Value>, Option<String>) {
        Paged(self.query.addr).page(path, query).await
    }

    async fn pages(&self, path: &str, query: &[(&str, &str)], limit: impl FnMut() -> usize) -> (Vec<Value>, usize) {
        Paged(self.query.addr).pages(path, query, limit).await
    }

    /// The ids of the event records that a list shows.
    async fn ids(&self, query: &[(&str, &str)]) -> Vec<String> {
        ids(&self.pages(EVENTS, query, || 500).await.0)
    }
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["event_id"].as_str().unwrap().to_owned()).collect()
}

/// The body of an event; what is empty is left out.
fn event(name: &str, session: &str, domain: &str, data: &str) -> String {
    let mut body = serde_json::json!({"event": name, "data": serde_json::from_str::<Value>(data).unwrap()});
    for (field, value) in [("session_id", session), ("domain", domain)] {
        if !value.is_empty() {
            body[field] = value.into();
        }
    }
    body.to_string()
}
