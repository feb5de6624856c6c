//! The same work inside an invocation of a Lambda, where nothing runs after the answer: bounded by its deadline.

use std::sync::Arc;
use std::time::Duration;

use store::outbox::{Phase, Take};
use tokio::time::Instant;

use crate::dispatch::{Dispatcher, SLOTS};

/// An attempt takes 5 s at most, and has to be recorded: no message is taken with less than this left.
const FOR_ONE_ATTEMPT: Duration = Duration::from_secs(8);
/// How long an invocation waits for something to change while attempts are under way.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Outcomes that could not be recorded: of those messages nobody knows what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what came of {} message(s) could not be recorded", webhook_ids.len())]
pub struct Unrecorded {
    /// The messages.
    pub webhook_ids: Vec<String>,
}

/// What is special while an invocation is under way.
#[derive(Debug, Default)]
pub(crate) struct Invocation {
    /// When it has to end; none on a server.
    end: Option<Instant>,
    not_recorded: Vec<String>,
}

impl Invocation {
    pub(crate) fn ends_before(&self, time: Instant) -> bool {
        self.end.is_some_and(|end| end < time)
    }

    /// Remembered only for an invocation's answer.
    pub(crate) fn not_recorded(&mut self, webhook_id: &str) {
        if self.end.is_some() {
            self.not_recorded.push(webhook_id.to_owned());
        }
    }
}

impl Dispatcher {
    /// Works on what is due until nothing is, or until `time` is too short for one attempt more.
    ///
    /// # Errors
    /// [`Unrecorded`]. A delivery that failed and is recorded is none.
    pub async fn work(self: &Arc<Self>, time: Duration) -> Result<(), Unrecorded> {
        let last_start = self.begin_invocation(time);
        while Instant::now() < last_start {
            let pause = self.step().await;
            if self.in_flight() == 0 && !pause.is_zero() {
                break;
            }
            if !pause.is_zero() {
                self.pause(pause.min(LOOK_AGAIN)).await;
            }
        }
        self.end_invocation().await
    }

    /// Attempts these messages at once, as far as they are due and the endpoint works; the next sweep has the others.
    ///
    /// # Errors
    /// [`Unrecorded`].
    pub async fn attempt_now(self: &Arc<Self>, webhook_ids: &[String], time: Duration) -> Result<(), Unrecorded> {
        let last_start = self.begin_invocation(time);
        for webhook_id in webhook_ids {
            // The endpoint may go down while these are sent.
            let works = matches!(self.gate.look().await, Ok(breaker) if breaker.phase == Phase::Closed);
            let Ok(Some(slot)) = tokio::time::timeout_at(last_start, self.next_slot()).await else { break };
            if !works || Instant::now() >= last_start {
                break;
            }
            if let Some(leased) = self.claim(webhook_id, slot.claim(), Take::Due).await {
                slot.deliver(leased, None);
            }
        }
        self.end_invocation().await
    }

    fn begin_invocation(&self, time: Duration) -> Instant {
        let now = Instant::now();
        *self.invocation() = Invocation { end: Some(now + time), not_recorded: Vec::new() };
        now + time.saturating_sub(FOR_ONE_ATTEMPT)
    }

    async fn end_invocation(&self) -> Result<(), Unrecorded> {
        // Every slot is free again once all that is under way is recorded.
        let _ = self.slots.acquire_many(SLOTS).await;
        let webhook_ids = std::mem::take(&mut *self.invocation()).not_recorded;
        if webhook_ids.is_empty() { Ok(()) } else { Err(Unrecorded { webhook_ids }) }
    }
}
