//! A process of emit-retry: the real router and the real dispatcher, started again whenever it has died or was stopped.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use contract::id::IdSource;
use contract::signature::DEVELOPMENT_SECRET;
use emit_retry::App;
use emit_retry::config::Config;
use emit_retry::dispatch::{Dispatcher, Setup};
use emit_retry::sender::Sender;
use serde_json::Value;
use service::host::Environment;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::chance::{Chance, mixed};
use super::engine::Engine;
use super::life::Life;
use super::plan::{MINUTE, is_right};
use super::wire::{Peer, Wire};
use super::world::World;

/// Who stops a process waits for this long, then kills it.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What someone does to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Kill,
    Stop,
}

/// A process, whose lives follow one another.
pub struct Process {
    world: Arc<World>,
    outbox: Engine,
    ops: Arc<dyn Peer>,
    index: usize,
    running: Mutex<Option<Running>>,
    orders: mpsc::UnboundedSender<Order>,
}

/// A life that takes requests.
#[derive(Clone)]
struct Running {
    life: Arc<Life>,
    router: Router,
}

impl Process {
    /// Starts it.
    pub fn start(world: &Arc<World>, outbox: &Engine, ops: &Arc<dyn Peer>, index: usize) -> Arc<Self> {
        let (orders, received) = mpsc::unbounded_channel();
        let (world, outbox, ops) = (Arc::clone(world), outbox.clone(), Arc::clone(ops));
        let process = Arc::new(Self { world, outbox, ops, index, running: Mutex::new(None), orders });
        tokio::spawn(Arc::clone(&process).run(received));
        process
    }

    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    async fn run(self: Arc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let chance = Chance::of(self.world.plan.seed, &format!("process {}", self.index));
        for number in 0.. {
            self.live(number, &mut orders).await;
            let pause = if self.world.is_calm() { 100 } else { chance.spread(50..=30 * MINUTE) };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// One life, from its start to its end.
    async fn live(&self, number: u32, orders: &mut mpsc::UnboundedReceiver<Order>) {
        let life = Arc::new(Life::new(self.index, number, is_right(self.ahead())));
        self.world.note(None, format!("{} starts", life.name));
        let (router, dispatcher) = self.make(&life);
        let (stop, stopped) = watch::channel(false);
        let mut background = tokio::spawn((Arc::clone(&dispatcher).into_background())(stopped));
        *self.running.lock().unwrap() = Some(Running { life: Arc::clone(&life), router });
        while orders.try_recv().is_ok() {}
        let order = tokio::select! {
            biased;
            () = life.over() => Order::Kill,
            order = orders.recv() => order.unwrap_or(Order::Kill),
            _ = &mut background => panic!("the dispatcher has ended without being told to"),
        };
        *self.running.lock().unwrap() = None;
        if order == Order::Stop {
            let _ = stop.send(true);
            self.world.count("process stopped");
            self.world.note(None, format!("{} is told to stop", life.name));
            let stopped = timeout(STOP_LIMIT, async {
                tokio::select! { biased; () = life.over() => {}, _ = &mut background => {} }
            });
            let in_time = stopped.await.is_ok();
            self.world.promise(in_time, None, || format!("{} did not stop within {STOP_LIMIT:?}", life.name));
        } else {
            life.die(&self.world, "process killed");
        }
        life.end(&self.world);
        dispatcher.abort();
        background.abort();
    }

    /// The function as its host makes it, but for its connections, its clock and its ids.
    fn make(&self, life: &Arc<Life>) -> (Router, Arc<Dispatcher>) {
        let config = config(self.world.plan.retention_days);
        let store = self.outbox.for_life(life);
        let wire = Wire { world: Arc::clone(&self.world), ops: Arc::clone(&self.ops), life: Arc::clone(life) };
        let sender = Sender::by(config.endpoint.as_ref().unwrap(), http_client::Client::tolerant_over(wire)).unwrap();
        let ahead = self.ahead();
        let clock = self.world.clock(move |_| ahead);
        let ids = Arc::new(IdSource::seeded(mixed(self.world.plan.seed, &life.name)));
        let dispatcher = Arc::new(Dispatcher::new(Setup {
            store: store.clone(),
            sender,
            delivery: config.delivery.clone(),
            clock: clock.clone(),
            ids: Arc::clone(&ids),
            random: fastrand::Rng::with_seed(mixed(self.world.plan.seed, &life.name)),
            longest_pause: Duration::from_millis(self.world.plan.longest_pause),
        }));
        (emit_retry::app(App { config, store, clock, ids, dispatcher: Some(Arc::clone(&dispatcher)) }), dispatcher)
    }

    fn ahead(&self) -> i64 {
        self.world.plan.clocks[self.index]
    }

    /// Sends a request to it; none when it is not there, or dies before it has answered.
    pub async fn ask(&self, request: Request<Body>) -> Option<(u16, Value)> {
        let Running { life, router } = self.running.lock().unwrap().clone()?;
        tokio::select! {
            biased;
            () = life.over() => None,
            answer = router.oneshot(request) => {
                let answer = answer.unwrap();
                let status = answer.status().as_u16();
                let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
                Some((status, serde_json::from_slice(&body).unwrap_or_default()))
            }
        }
    }
}

/// The function's settings.
pub fn config(retention_days: u32) -> Config {
    let days = retention_days.to_string();
    let environment = Environment::from_fn(move |name| match name {
        "OPS_WEBHOOK_URL" => Some("http://127.0.0.1:1/api/v1/webhooks/onboard".to_owned()),
        "OPS_WEBHOOK_SECRET" => Some(DEVELOPMENT_SECRET.to_owned()),
        "OUTBOX_RETENTION_DAYS" => Some(days.clone()),
        name if name.starts_with("AWS_REGION") || name.contains("KEY") => Some("simulated".to_owned()),
        _ => None,
    });
    Config::read(&environment).unwrap()
}
