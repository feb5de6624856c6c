//! A process whose clock is wrong, on one outbox with others whose clocks are right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::id::IdSource;
use emit_retry::App;
use emit_retry::config::Config;
use emit_retry::dispatch::{Dispatcher, Setup};
use emit_retry::sender::Sender;
use jiff::{SignedDuration, Timestamp};
use service::clock::Clock;
use service::host::Service;
use store::Store;
use tokio::time::Instant;

use crate::backlog::{activity, all_are, fill, rows};
use crate::harness::{Server, Settings, engine, environment, eventually, settings, store};
use crate::ops::{self, Answer, Ops};
use crate::mishaps::{Desk, accept_all, named, on};

const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Well below the 15 s of a lease, and far below an hour.
const AT_ONCE: Duration = Duration::from_secs(10);

/// emit-retry with a clock that is ahead.
struct Wrong {
    server: Server,
    dispatcher: Arc<Dispatcher>,
}

impl Wrong {
    /// Ends it as kill -9 does: what it holds stays as it is.
    fn kill(self) {
        self.dispatcher.abort();
        drop(self.server);
    }
}

async fn wrong(settings: &Settings, ahead: SignedDuration) -> Wrong {
    let config = Config::read(&environment(settings.clone())).unwrap();
    let store = Store::connect(&config.store);
    let clock = Clock::from_fn(move || Timestamp::now() + ahead);
    let ids = Arc::new(IdSource::new());
    let dispatcher = Arc::new(Dispatcher::new(Setup {
        store: store.clone(),
        sender: Sender::new(config.endpoint.as_ref().unwrap()).unwrap(),
        delivery: config.delivery.clone(),
        clock: clock.clone(),
        ids: Arc::clone(&ids),
        random: fastrand::Rng::new(),
        longest_pause: Duration::from_secs(1),
    }));
    let (listen, background) = (config.listen, Arc::clone(&dispatcher).into_background());
    let router = emit_retry::app(App { config, store, clock, ids, dispatcher: Some(Arc::clone(&dispatcher)) });
    let service = Service { name: "emit-retry", listen, router, background: Some(background) };
    Wrong { server: Server::host(service).await, dispatcher }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_a_clock_an_hour_ahead_made_hold_nobody_up_once_their_process_is_gone() {
    let engine = engine().await;
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let ops = Ops::start(move |_, _| match up.load(Ordering::Acquire) {
        true => ops::status(200, ""),
        false => Answer::Stall(Vec::new()),
    })
    .await;
    let settings = on(&engine, &ops.url(), "1s");
    let wrong = wrong(&settings, AN_HOUR).await;
    fill(&store(&settings).await, named("onb", 20)).await;
    eventually(4, "it works on all", async || (ops.seen().len() == 20).then_some(())).await;
    wrong.kill();
    is_up.store(true, Ordering::Release);
    let begun = Instant::now();
    let right = Server::emit(settings).await;
    all_are(engine.addr(), "delivered", 20).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_that_a_clock_an_hour_ahead_opened_is_probed_by_the_others_at_once() {
    let engine = engine().await;
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let ops = Ops::start(move |_, _| ops::status(if up.load(Ordering::Acquire) { 200 } else { 503 }, "")).await;
    let settings = on(&engine, &ops.url(), "1h");
    fill(&store(&settings).await, named("onb", 40)).await;
    let wrong = wrong(&settings, AN_HOUR).await;
    let address = wrong.server.addr;
    eventually(10, "ops is down", async || activity(address, "endpoint_down").await.pop()).await;
    wrong.kill();
    is_up.store(true, Ordering::Release);
    let begun = Instant::now();
    let right = Server::emit(settings).await;
    // Those that it tried would be due in two hours.
    all_are(engine.addr(), "delivered", 40).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_clock_two_days_ahead_put_off_is_due_for_the_others() {
    let engine = engine().await;
    let ops = Ops::start(|_, before| ops::status(if before == 0 { 422 } else { 200 }, "")).await;
    let settings = on(&engine, &ops.url(), "1h");
    let wrong = wrong(&settings, SignedDuration::from_hours(48)).await;
    accept_all(wrong.server.addr, &named("onb", 8)).await;
    eventually(10, "each has failed once", async || {
        let messages = rows(engine.addr(), "msg_").await;
        (messages.iter().filter(|row| row["attempts_total"]["N"] == "1").count() == 8).then_some(())
    })
    .await;
    wrong.kill();
    let begun = Instant::now();
    let right = Server::emit(settings).await;
    all_are(engine.addr(), "delivered", 8).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_process_whose_clock_is_an_hour_ahead_all_that_the_others_accept_is_delivered() {
    let engine = engine().await;
    let desk = Desk::start().await;
    let settings = on(&engine, &desk.url(), "1s,3s,9s,1m");
    // What it signs is refused: receive takes nothing that is more than five minutes off.
    let wrong = wrong(&settings, AN_HOUR).await;
    let right = Server::emit(settings).await;
    for turn in 0..6 {
        accept_all(right.addr, &named(&format!("onb-{turn}"), 5)).await;
        accept_all(wrong.server.addr, &[format!("wrong-{turn}")]).await;
    }
    let begun = Instant::now();
    eventually(60, "the tickets of all that the other accepted", async || {
        let tickets = desk.tickets().await;
        (tickets.keys().filter(|session| session.starts_with("onb-")).count() == 30).then_some(())
    })
    .await;
    eprintln!("delivered after {:?}", begun.elapsed());
    assert_eq!(rows(engine.addr(), "msg_").await.iter().filter(|row| row["state"]["S"] == "dead").count(), 0);
    let refused = activity(right.addr, "endpoint_refuses").await;
    assert!(refused.iter().any(|entry| entry["message"].as_str().unwrap().contains("s behind ours")), "{refused:?}");
    wrong.server.stop().await;
    right.stop().await;
}
