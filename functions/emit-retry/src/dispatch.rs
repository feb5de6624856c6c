//! Who works on which message, and when: a bounded number of slots, each with one message under a lease, and a sweep
//! that finds what is due.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::id::{IdSource, WebhookId};
use contract::wire::Attempt;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use service::clock::Clock;
use service::host::{Background, Stop};
use store::outbox::{Claim, Failure, Leased, Recording, Then};
use store::{Deadline, Store, StoreError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::config::Delivery;
use crate::schedule::{self, Next};
use crate::sender::{Sender, Sent};

/// How many messages are worked on at once.
const SLOTS: u32 = 32;
/// What other processes left is found within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Failures that come together are looked at together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// Sending starts only while this much of the lease is left: an attempt takes 5 s at most, and has to be recorded.
const LEAST_LEASE: Duration = Duration::from_secs(7);

/// Delivers messages in this process.
#[derive(Debug)]
pub struct Dispatcher {
    store: Store,
    sender: Sender,
    delivery: Delivery,
    clock: Clock,
    ids: Arc<IdSource>,
    slots: Arc<Semaphore>,
    stopping: AtomicBool,
    changed: Notify,
}

/// A free place to work on a message, with the claim that will hold it.
#[derive(Debug)]
pub struct Slot {
    dispatcher: Arc<Dispatcher>,
    claim: Claim,
    permit: OwnedSemaphorePermit,
}

impl Slot {
    /// The claim to hold the message with.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Works on the message after the caller has gone on.
    pub fn deliver(self, leased: Leased) {
        tokio::spawn(async move {
            self.dispatcher.attempt(&leased).await;
            drop(self.permit);
            self.dispatcher.wake();
        });
    }
}

impl Dispatcher {
    /// A dispatcher that does nothing until it is asked for a slot or its background work is started.
    pub fn new(store: Store, sender: Sender, delivery: Delivery, clock: Clock, ids: Arc<IdSource>) -> Self {
        let slots = Arc::new(Semaphore::new(SLOTS as usize));
        Self { store, sender, delivery, clock, ids, slots, stopping: AtomicBool::new(false), changed: Notify::new() }
    }

    /// A slot, if one is free and the process is not about to stop.
    pub fn free_slot(self: &Arc<Self>) -> Option<Slot> {
        if self.stopping.load(Ordering::Acquire) {
            return None;
        }
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let now = self.clock.now();
        Some(Slot { dispatcher: Arc::clone(self), claim: Claim::new(self.ids.claim_id(now), now), permit })
    }

    /// Has the next sweep come soon.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// The work beside the requests: sweeps until the host says stop, then finishes what is under way.
    pub fn into_background(self: Arc<Self>) -> Background {
        Box::new(move |stop| Box::pin(self.run(stop)) as Pin<Box<dyn Future<Output = ()> + Send>>)
    }

    async fn run(self: Arc<Self>, mut stop: Stop) {
        loop {
            let pause = self.sweep().await;
            tokio::select! {
                // An error means that the host has gone.
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.pause(pause) => {}
            }
        }
        self.stopping.store(true, Ordering::Release);
        // Every slot is free again once all that is under way is recorded.
        let _ = self.slots.acquire_many(SLOTS).await;
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(SHORTEST_PAUSE).await;
        let _ = tokio::time::timeout(time.saturating_sub(SHORTEST_PAUSE), self.changed.notified()).await;
    }

    /// Claims what is due, as far as there are free slots, and has it delivered. Answers how long nothing is to be done.
    async fn sweep(self: &Arc<Self>) -> Duration {
        let free = self.slots.available_permits();
        if free == 0 {
            return LONGEST_PAUSE;
        }
        match self.sweep_into(free).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the outbox can't be swept; trying again");
                LONGEST_PAUSE
            }
        }
    }

    async fn sweep_into(self: &Arc<Self>, free: usize) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        let due = self.store.due(now, free, Deadline::for_write()).await?;
        let all = due.now.len();
        let claims = due.now.into_iter().map_while(|id| Some((id, self.free_slot()?)));
        let claimed = join_all(claims.map(|(id, slot)| async move {
            let leased = self.store.claim(&id, slot.claim(), Deadline::for_write()).await;
            (id, slot, leased)
        }))
        .await;
        for (webhook_id, slot, leased) in claimed {
            match leased {
                Ok(Some(leased)) => slot.deliver(leased),
                // Another process has it, or it is done: the index was behind.
                Ok(None) => {}
                Err(error) => tracing::warn!(webhook_id, %error, "the message can't be claimed; trying again"),
            }
        }
        let until_next = due.next_at.map_or(LONGEST_PAUSE, |at| wait_until(at, now));
        Ok(if all == free { Duration::ZERO } else { until_next.min(LONGEST_PAUSE) })
    }

    /// One attempt on a message that is leased to us, and what came of it.
    async fn attempt(&self, leased: &Leased) {
        let webhook_id = leased.webhook_id.as_str();
        let Some(id) = WebhookId::parse(webhook_id) else {
            tracing::error!("a message's id can't be sent; it stays in the outbox");
            return;
        };
        if leased.claim.left() < LEAST_LEASE {
            tracing::info!(webhook_id, "the lease is too short by now; the message is taken up again");
            return;
        }
        let Sent { attempt, answer, .. } = self.sender.send(&id, &leased.body, self.clock.now()).await;
        let next = schedule::next(&self.delivery.schedule, leased.step, answer, fastrand::f64());
        tell(webhook_id, leased.step, &attempt, next);
        match self.record(leased, attempt, next).await {
            Ok(Recording::Done) => {}
            Ok(Recording::Overtaken) => tracing::info!(webhook_id, "the message was taken up by another meanwhile"),
            Err(error) => tracing::warn!(webhook_id, %error, "the outcome can't be recorded; it is tried again"),
        }
    }

    async fn record(&self, leased: &Leased, attempt: Attempt, next: Next) -> Result<Recording, StoreError> {
        // The lease bounds how long there is to try: after it, the message is taken up again anyhow.
        let deadline = Deadline::within(leased.claim.left().max(Duration::from_secs(2)));
        let now = self.clock.now();
        let then = match next {
            Next::Done => {
                let days = self.delivery.retention_days;
                return self.store.record_delivery(leased, &attempt, now, days, deadline).await;
            }
            Next::Wait(wait) => Then::TryAt(later(now, wait)),
            Next::Park => Then::Park,
            Next::Die => Then::Die,
        };
        self.store.record_failure(leased, &Failure { attempt, then }, deadline).await
    }
}

/// Logs and counts an attempt. What ops answered is in the outbox and not in the log: it may repeat what was sent.
fn tell(webhook_id: &str, step: u32, attempt: &Attempt, next: Next) {
    let Attempt { status, error, ms, .. } = attempt;
    let attempts = step.saturating_add(1);
    let outcome = match next {
        Next::Done => {
            tracing::info!(webhook_id, attempts, status, ms, "delivered");
            "delivered"
        }
        Next::Wait(wait) => {
            let wait_s = wait.as_secs();
            tracing::info!(webhook_id, attempts, status, error, ms, wait_s, "the attempt failed");
            "failed"
        }
        Next::Park => {
            tracing::warn!(webhook_id, attempts, status, ms, "parked: the endpoint says that it is gone");
            "parked"
        }
        Next::Die => {
            tracing::warn!(webhook_id, attempts, status, error, ms, "dead: that was the last attempt");
            "dead"
        }
    };
    metrics::counter!("opshook_attempts_total", "outcome" => outcome).increment(1);
}

fn wait_until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}
