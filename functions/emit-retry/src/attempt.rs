//! One attempt on a message that is leased to this process, and what comes of it.

use std::time::Duration;

use contract::id::WebhookId;
use contract::time;
use contract::wire::Attempt;
use jiff::Timestamp;
use store::outbox::{Failure, Leased, Recording, Then};
use store::{Deadline, StoreError};
use tokio::time::Instant;

use crate::activity;
use crate::breaker;
use crate::dispatch::{Dispatcher, Why};
use crate::schedule::{self, Next};
use crate::sender::Sent;

/// Sending starts only while this much of the lease is left: an attempt takes 5 s at most, and has to be recorded.
const LEAST_LEASE: Duration = Duration::from_secs(7);
/// Recording has at least this long, even where the lease is over.
const LEAST_TIME_TO_RECORD: Duration = Duration::from_secs(2);
/// A delivery that storage does not take is recorded again after this.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Sends a message once and records what came of it; then the endpoint's breaker learns of it. True when it is delivered
    /// and that is recorded.
    pub(crate) async fn attempt(&self, leased: &Leased, why: &Why) -> bool {
        let webhook_id = leased.webhook_id.as_str();
        let Some(id) = WebhookId::parse(webhook_id) else {
            self.set_aside(webhook_id, "its id can't be sent").await;
            return false;
        };
        if leased.claim.left() < LEAST_LEASE {
            tracing::info!(webhook_id, "the lease is too short by now; the message is taken up again");
            return false;
        }
        let probe = match why {
            Why::Probe(probe) => Some(probe),
            Why::Due | Why::Backlog => None,
        };
        let sent = self.sender.send(&id, &leased.body, self.clock.now()).await;
        let next = if leased.is_scheduled && probe.is_none() {
            schedule::next(&self.delivery.schedule, leased.step, sent.answer, self.random())
        } else {
            schedule::unscheduled(sent.answer)
        };
        tell(leased, &sent.attempt, next, probe.is_some());
        let recorded = self.record(leased, &sent, next).await;
        let is_delivered = next == Next::Done && recorded.is_ok();
        match recorded {
            Ok(Recording::Done) => {}
            Ok(Recording::Overtaken) => tracing::info!(webhook_id, "the message was taken up by another meanwhile"),
            Err(error) => {
                tracing::warn!(webhook_id, %error, "the outcome can't be recorded; the message is sent again");
                self.invocation().not_recorded(webhook_id);
            }
        }
        if matches!(why, Why::Backlog) {
            self.drain().note(breaker::verdict(sent.attempt.status));
        }
        self.until_the_end(self.gate.learn(webhook_id, &sent, probe)).await;
        is_delivered
    }

    async fn record(&self, leased: &Leased, sent: &Sent, next: Next) -> Result<Recording, StoreError> {
        let now = self.clock.now();
        let then = match next {
            Next::Done => return self.record_delivery(leased, &sent.attempt, now).await,
            Next::Wait(wait) => Then::TryAt(time::after(now, wait)),
            Next::AsBefore => Then::AsBefore,
            Next::Park => Then::Park,
            Next::Die => Then::Die,
        };
        let entries = activity::of_attempt(leased, &sent.attempt, next, now);
        let failure = Failure { attempt: sent.attempt.clone(), then, entries };
        self.store.record_failure(leased, &failure, self.time_to_record(leased)).await
    }

    /// The lease bounds how long there is to try: after it, the message is taken up again anyhow.
    fn time_to_record(&self, leased: &Leased) -> Deadline {
        Deadline::within(self.invocation().at_most(leased.claim.left().max(LEAST_TIME_TO_RECORD)))
    }

    /// A 2xx is a fact: it is recorded however long storage is away, for as long as this process has.
    async fn record_delivery(
        &self,
        leased: &Leased,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<Recording, StoreError> {
        let days = self.delivery.retention_days;
        loop {
            let deadline = self.time_to_record(leased);
            let recorded = self.store.record_delivery(leased, attempt, now, days, deadline).await;
            let again = matches!(&recorded, Err(error) if error.is_transient());
            if !again || self.invocation().ends_before(Instant::now() + RECORD_AGAIN + LEAST_TIME_TO_RECORD) {
                return recorded;
            }
            tracing::warn!(webhook_id = leased.webhook_id, "the delivery can't be recorded yet; trying again");
            tokio::time::sleep(RECORD_AGAIN).await;
        }
    }

    /// Parks a message whose row can't be read.
    pub(crate) async fn set_aside(&self, webhook_id: &str, fault: &str) {
        let now = self.clock.now();
        let change_id = self.ids.claim_id(now);
        match self.store.set_aside(webhook_id, fault, &change_id, now, Deadline::for_write()).await {
            Ok(()) => tracing::warn!(webhook_id, fault, "the outbox's entry can't be read; it is parked"),
            Err(error) => tracing::warn!(webhook_id, %error, "an entry that can't be read can't be parked either"),
        }
    }
}

/// Logs and counts an attempt. What ops answered is in the outbox and not in the log: it may repeat what was sent.
fn tell(leased: &Leased, attempt: &Attempt, next: Next, probe: bool) {
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
