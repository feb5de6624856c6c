//! What waited while the endpoint was down: one message at a time probes, and when one gets through, all go at once, oldest
//! first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use contract::time;
use futures_util::future::join_all;
use jiff::Timestamp;
use store::outbox::{Breaker, MessageRef, Take};
use store::{Deadline, StoreError};

use crate::breaker::{self, Ramp, Verdict};
use crate::dispatch::{Dispatcher, Why};

/// Who probes is one of so many of the oldest.
const PROBERS: usize = 32;
/// Of what waits, so many ids are held.
const AHEAD: usize = 64;

/// How far the backlog is drained.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// When the endpoint came back.
    since: Option<Timestamp>,
    ramp: Ramp,
    /// The next ones,
    next: VecDeque<MessageRef>,
    /// and after which of them to read on.
    after: Option<String>,
    is_at_end: bool,
    /// How many of it are under way. What is under way since before the endpoint went down may stall, and must not hold
    /// these up.
    in_flight: u32,
}

impl Drain {
    pub(crate) fn note(&mut self, verdict: Verdict) {
        self.ramp.note(verdict);
    }

    pub(crate) fn began(&mut self) {
        self.in_flight += 1;
    }

    pub(crate) fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// How many more may be under way.
    fn room(&self) -> u32 {
        self.ramp.width().saturating_sub(self.in_flight)
    }

    /// Begins anew where the endpoint has been down since.
    fn begin(&mut self, since: Timestamp) {
        if self.since != Some(since) {
            *self = Self { since: Some(since), in_flight: self.in_flight, ..Self::default() };
        }
    }
}

impl Dispatcher {
    /// Probes, if it is the time for it. Answers how long nothing is to be done.
    pub(crate) async fn probe(self: &Arc<Self>, seen: &Breaker) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        let wait = breaker::until_probe(seen, now);
        if !wait.is_zero() {
            return Ok(wait);
        }
        let oldest = self.store.oldest_pending(None, PROBERS, now, Deadline::for_write()).await?;
        if oldest.is_empty() {
            return Ok(self.longest_pause);
        }
        let Some(slot) = self.slot() else { return Ok(self.longest_pause) };
        let Some(probe) = self.gate.begin_probe().await? else { return Ok(Duration::ZERO) };
        for webhook_id in &self.probers(oldest, probe.failed_before) {
            if let Some(leased) = self.claim(webhook_id, slot.claim(), Take::Waiting).await {
                slot.deliver(leased, Why::Probe(probe));
                return Ok(self.longest_pause);
            }
        }
        self.gate.put_back(&probe).await;
        Ok(self.longest_pause)
    }

    /// In which order they are asked to probe: the oldest that has not failed lately, or all in turn, so that those that
    /// always fail do not keep the others waiting.
    fn probers(&self, oldest: Vec<MessageRef>, failed_before: u32) -> Vec<String> {
        let ids = oldest.into_iter().map(|message| message.webhook_id);
        let (mut failed, mut ids): (Vec<_>, Vec<_>) = ids.partition(|id| self.gate.has_failed(id));
        let turn = usize::try_from(failed_before).unwrap_or(0).checked_rem(failed.len()).unwrap_or(0);
        failed.rotate_left(turn);
        ids.append(&mut failed);
        ids
    }

    /// Sends what waited, as many at a time as the endpoint has shown that it can take.
    pub(crate) async fn send_backlog(self: &Arc<Self>, seen: &Breaker) -> Result<Duration, StoreError> {
        self.drain().begin(seen.since);
        // As many as find a slot: one that was taken out and not sent would wait for its schedule.
        let room = usize::try_from(self.drain().room()).unwrap_or(1).min(self.slots.available_permits());
        if room == 0 {
            return Ok(self.longest_pause);
        }
        let batch = self.next_of_backlog(room, seen.since).await?;
        if batch.is_empty() {
            self.gate.drained(seen.since).await;
            return Ok(Duration::ZERO);
        }
        let claims = batch.into_iter().map_while(|next| Some((next.webhook_id, self.slot()?)));
        join_all(claims.map(|(id, slot)| self.claim_and_deliver(id, slot, Take::Waiting, Why::Backlog))).await;
        Ok(if self.drain().room() > 0 && self.slots.available_permits() > 0 {
            Duration::ZERO
        } else {
            self.longest_pause
        })
    }

    /// The next of what was accepted until the endpoint came back; none when that was all.
    async fn next_of_backlog(&self, count: usize, since: Timestamp) -> Result<Vec<MessageRef>, StoreError> {
        let after = {
            let drain = self.drain();
            (drain.next.len() < count && !drain.is_at_end).then(|| drain.after.clone())
        };
        if let Some(after) = after {
            let found =
                self.store.oldest_pending(after.as_deref(), AHEAD, self.clock.now(), Deadline::for_write()).await?;
            let mut drain = self.drain();
            drain.after = found.last().map(|last| last.accepted_key.clone()).or(after);
            drain.is_at_end = found.is_empty();
            let end = time::format_ms(time::after(since, Duration::from_millis(1)));
            let before_end = found.iter().take_while(|next| next.accepted_key.as_str() < end.as_str()).count();
            drain.is_at_end |= before_end < found.len();
            drain.next.extend(found.into_iter().take(before_end));
        }
        let mut drain = self.drain();
        let count = count.min(drain.next.len());
        Ok(drain.next.drain(..count).collect())
    }
}
