//! The same work inside an invocation of a Lambda, where nothing runs after the answer: bounded by its deadline.

use std::sync::Arc;
use std::time::Duration;

use store::outbox::{Phase, Take};
use tokio::time::Instant;

use crate::dispatch::{Dispatcher, SLOTS, Why};
use crate::drain::Drain;

/// No message is taken with less than this left: a claim takes up to 1.8 s, an attempt 5 s, and recording 2 s.
const FOR_ONE_ATTEMPT: Duration = Duration::from_secs(9);
/// What the answer takes on its way to Lambda.
pub(crate) const FOR_THE_ANSWER: Duration = Duration::from_millis(500);
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
    /// When all its work has to have ended; none on a server.
    end: Option<Instant>,
    not_recorded: Vec<String>,
}

impl Invocation {
    /// `time`, or what is left of the invocation where that is less.
    pub(crate) fn at_most(&self, time: Duration) -> Duration {
        self.end.map_or(time, |end| end.saturating_duration_since(Instant::now()).min(time))
    }

    /// Whether there is time for one attempt more.
    pub(crate) fn has_time(&self) -> bool {
        !self.ends_before(Instant::now() + FOR_ONE_ATTEMPT)
    }

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
            let (under_way, taken) = (self.in_flight(), self.taken());
            // What hangs must not hold up what is under way. A claim that is dropped here runs out.
            let Some(pause) = self.until_the_end(self.step()).await else { break };
            // What ended while this looked may have opened the way for more.
            let is_idle = under_way == 0 && self.in_flight() == 0 && self.taken() == taken;
            if is_idle && !pause.is_zero() {
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
            let Ok(Some(slot)) = tokio::time::timeout_at(last_start, self.next_slot()).await else { break };
            // The endpoint may go down while these are sent.
            let works =
                matches!(self.until_the_end(self.gate.look()).await, Some(Ok(seen)) if seen.phase == Phase::Closed);
            if !works || Instant::now() >= last_start {
                break;
            }
            self.until_the_end(self.claim_and_deliver(webhook_id.clone(), slot, Take::Due, Why::Due)).await;
        }
        self.end_invocation().await
    }

    fn begin_invocation(&self, time: Duration) -> Instant {
        let now = Instant::now();
        let time = time.saturating_sub(FOR_THE_ANSWER);
        *self.invocation() = Invocation { end: Some(now + time), not_recorded: Vec::new() };
        // A Lambda freezes between invocations, and its clock may with it: what was known may be old.
        self.gate.forget();
        *self.drain() = Drain::default();
        now + time.saturating_sub(FOR_ONE_ATTEMPT)
    }

    /// Does what need not be whole, for as long as the invocation has; none where that was too short.
    pub(crate) async fn until_the_end<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let end = self.invocation().end;
        match end {
            Some(end) => tokio::time::timeout_at(end, work).await.ok(),
            None => Some(work.await),
        }
    }

    async fn end_invocation(&self) -> Result<(), Unrecorded> {
        // Every slot is free again once all that is under way is recorded, which ends with the invocation.
        let _ = self.slots.acquire_many(SLOTS).await;
        let webhook_ids = std::mem::take(&mut *self.invocation()).not_recorded;
        if webhook_ids.is_empty() { Ok(()) } else { Err(Unrecorded { webhook_ids }) }
    }
}
