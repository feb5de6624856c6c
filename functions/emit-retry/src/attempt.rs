//! One attempt on a message: it is claimed, sent once, and what came of it is recorded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::id::{IdSource, WebhookId};
use contract::time;
use contract::wire::Attempt;
use jiff::Timestamp;
use service::clock::Clock;
use store::outbox::{Claim, Failure, Leased, Recording, Take, Then};
use store::{Deadline, Store, StoreError};
use tokio::time::Instant;

use crate::activity;
use crate::config::Delivery;
use crate::schedule::{self, Next};
use crate::sender::{Sender, Sent};

/// Sending starts only while this much of the lease is left: an attempt takes 5 s at most, and has to be recorded.
const LEAST_LEASE: Duration = Duration::from_secs(7);
/// Recording has at least this long, even where the lease is over.
const LEAST_TIME_TO_RECORD: Duration = Duration::from_secs(2);
/// A delivery that storage does not take is recorded again after this.
const RECORD_AGAIN: Duration = Duration::from_secs(1);
/// No message is claimed with less time than this left: a claim takes up to 1.8 s, an attempt 5 s, and recording 2 s.
pub(crate) const FOR_ONE_ATTEMPT: Duration = Duration::from_secs(9);

/// When all work has to have ended: an invocation of a Lambda has such a time, a server has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until(Option<Instant>);

impl Until {
    pub(crate) const NEVER: Self = Self(None);

    pub(crate) fn of(end: Instant) -> Self {
        Self(Some(end))
    }

    /// Whether there is time for one attempt more.
    pub(crate) fn has_time(self) -> bool {
        !self.is_before(Instant::now() + FOR_ONE_ATTEMPT)
    }

    /// Does what need not be whole, for as long as there is time; none where that was too short.
    pub(crate) async fn within<T>(self, work: impl Future<Output = T>) -> Option<T> {
        match self.0 {
            Some(end) => tokio::time::timeout_at(end, work).await.ok(),
            None => Some(work.await),
        }
    }

    fn is_before(self, time: Instant) -> bool {
        self.0.is_some_and(|end| end < time)
    }

    fn at_most(self, time: Duration) -> Duration {
        self.0.map_or(time, |end| end.saturating_duration_since(Instant::now()).min(time))
    }
}

/// Makes attempts.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) store: Store,
    pub(crate) sender: Sender,
    pub(crate) delivery: Delivery,
    pub(crate) clock: Clock,
    pub(crate) ids: Arc<IdSource>,
    /// For jitter.
    pub(crate) random: Mutex<fastrand::Rng>,
}

/// What came of an attempt's outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It is recorded, or another has the message by now.
    Done,
    /// It could not be recorded, so nobody knows what came of the message.
    Unknown,
}

impl Courier {
    /// A claim that is made now.
    pub(crate) fn new_claim(&self) -> Claim {
        let now = self.clock.now();
        Claim::new(self.ids.claim_id(now), now)
    }

    /// A number from 0 up to 1.
    pub(crate) fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// Claims a message; `None` if another process holds it, if it is done (the index was behind), or if it can't be read:
    /// then it is parked.
    pub(crate) async fn claim(&self, webhook_id: &str, claim: &Claim, take: Take) -> Option<Leased> {
        match self.store.claim(webhook_id, claim, take, Deadline::for_write()).await {
            Ok(leased) => leased,
            Err(StoreError::Damaged { fault, .. }) => {
                self.set_aside(webhook_id, &fault).await;
                None
            }
            Err(error) => {
                tracing::warn!(webhook_id, %error, "the message can't be claimed; trying again");
                None
            }
        }
    }

    /// Sends a message once; `None` if its lease is too short by now, or its id can't be sent.
    pub(crate) async fn send(&self, leased: &Leased) -> Option<Sent> {
        let webhook_id = leased.webhook_id.as_str();
        let Some(id) = WebhookId::parse(webhook_id) else {
            self.set_aside(webhook_id, "its id can't be sent").await;
            return None;
        };
        if leased.claim.left() < LEAST_LEASE {
            tracing::info!(webhook_id, "the lease is too short by now; the message is taken up again");
            return None;
        }
        Some(self.sender.send(&id, &leased.body, self.clock.now()).await)
    }

    /// Records what came of an attempt.
    pub(crate) async fn record(&self, leased: &Leased, sent: &Sent, is_probe: bool, until: Until) -> Recorded {
        let webhook_id = leased.webhook_id.as_str();
        let next = if leased.is_scheduled && !is_probe {
            schedule::next(&self.delivery.schedule, leased.step, sent.answer, self.random())
        } else {
            schedule::unscheduled(sent.answer)
        };
        log(leased, &sent.attempt, next, is_probe);
        let recorded = match next {
            Next::Done => self.record_delivery(leased, &sent.attempt, until).await,
            Next::Wait(_) | Next::AsBefore | Next::Park | Next::Die => {
                self.record_failure(leased, sent, next, until).await
            }
        };
        match recorded {
            Ok(Recording::Done) => Recorded::Done,
            Ok(Recording::Overtaken) => {
                tracing::info!(webhook_id, "the message was taken up by another meanwhile");
                Recorded::Done
            }
            Err(error) => {
                tracing::warn!(webhook_id, %error, "the outcome can't be recorded; the message is sent again");
                Recorded::Unknown
            }
        }
    }

    async fn record_failure(
        &self,
        leased: &Leased,
        sent: &Sent,
        next: Next,
        until: Until,
    ) -> Result<Recording, StoreError> {
        let now = self.clock.now();
        let then = match next {
            Next::Wait(wait) => Then::TryAt(time::after(now, wait)),
            Next::AsBefore | Next::Done => Then::AsBefore,
            Next::Park => Then::Park,
            Next::Die => Then::Die,
        };
        let entries = activity::of_attempt(leased, &sent.attempt, sent.clock_ahead, next, now);
        let failure = Failure { attempt: sent.attempt.clone(), then, at: now, entries };
        self.store.record_failure(leased, &failure, time_to_record(leased, until)).await
    }

    /// A 2xx is a fact: it is recorded however long storage is away, for as long as this process has.
    async fn record_delivery(&self, leased: &Leased, attempt: &Attempt, until: Until) -> Result<Recording, StoreError> {
        let (now, days): (Timestamp, u32) = (self.clock.now(), self.delivery.retention_days);
        loop {
            let deadline = time_to_record(leased, until);
            let recorded = self.store.record_delivery(leased, attempt, now, days, deadline).await;
            let again = matches!(&recorded, Err(error) if error.is_transient());
            if !again || until.is_before(Instant::now() + RECORD_AGAIN + LEAST_TIME_TO_RECORD) {
                return recorded;
            }
            tracing::warn!(webhook_id = leased.webhook_id, "the delivery can't be recorded yet; trying again");
            tokio::time::sleep(RECORD_AGAIN).await;
        }
    }

    /// Parks a message whose row can't be read.
    async fn set_aside(&self, webhook_id: &str, fault: &str) {
        let now = self.clock.now();
        let change_id = self.ids.claim_id(now);
        match self.store.set_aside(webhook_id, fault, &change_id, now, Deadline::for_write()).await {
            Ok(()) => tracing::warn!(webhook_id, fault, "the outbox's entry can't be read; it is parked"),
            Err(error) => tracing::warn!(webhook_id, %error, "an entry that can't be read can't be parked either"),
        }
    }
}

/// The lease bounds how long there is to try: after it, the message is taken up again anyhow.
fn time_to_record(leased: &Leased, until: Until) -> Deadline {
    Deadline::within(until.at_most(leased.claim.left().max(LEAST_TIME_TO_RECORD)))
}

/// Logs and counts an attempt. What ops answered is in the outbox and not in the log: it may repeat what was sent.
fn log(leased: &Leased, attempt: &Attempt, next: Next, probe: bool) {
    let webhook_id = leased.webhook_id.as_str();
    let Attempt { status, error, ms, .. } = attempt;
    let attempts = leased.step.saturating_add(1);
    let outcome = match next {
        Next::Done => {
            tracing::info!(webhook_id, attempts, status, ms, probe, "delivered");
            "delivered"
        }
        Next::Wait(wait) => {
            let wait_s = wait.as_secs();
            tracing::info!(webhook_id, attempts, status, error, ms, wait_s, "the attempt failed");
            "failed"
        }
        Next::AsBefore => {
            tracing::info!(webhook_id, status, error, ms, probe, "an attempt before its time failed");
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
