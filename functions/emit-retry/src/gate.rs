//! What this process knows of the endpoint, and shares with the others by one row: see [`crate::breaker`] for the rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::id::IdSource;
use contract::time;
use jiff::Timestamp;
use service::clock::Clock;
use store::outbox::{Breaker, Entry, Phase};
use store::{Deadline, Store, StoreError};
use tokio::time::Instant;

use crate::activity;
use crate::breaker::{self, Streak, Verdict};
use crate::sender::Sent;

/// What was read counts for this long.
const FRESH: Duration = Duration::from_secs(1);
/// Others change the row in between, again and again.
const MAX_ROUNDS: u32 = 4;

/// The endpoint's breaker, as this process sees it.
#[derive(Debug)]
pub struct Gate {
    store: Store,
    key: String,
    clock: Clock,
    ids: Arc<IdSource>,
    view: Mutex<View>,
}

#[derive(Debug)]
struct View {
    breaker: Breaker,
    /// When it was read; none while it is not known.
    read: Option<Instant>,
    streak: Streak,
}

/// The right to probe, which one process has at a time.
#[derive(Debug, Clone)]
pub struct Probe {
    stamp: Option<String>,
    /// How many failed before.
    pub failed_before: u32,
}

impl Gate {
    /// A gate before the endpoint that `key` names.
    pub fn new(store: Store, key: String, clock: Clock, ids: Arc<IdSource>) -> Self {
        let view = View { breaker: Breaker::closed(), read: None, streak: Streak::default() };
        Self { store, key, clock, ids, view: Mutex::new(view) }
    }

    /// Whether messages go as they come, as far as is known without asking anyone.
    pub fn is_closed(&self) -> bool {
        let view = self.view();
        view.read.is_some() && view.breaker.phase == Phase::Closed
    }

    /// Whether a message failed lately, as far as this process knows.
    pub(crate) fn has_failed(&self, webhook_id: &str) -> bool {
        self.view().streak.has_failed(webhook_id)
    }

    /// Has the breaker read anew when it is asked for next.
    pub fn forget(&self) {
        self.view().read = None;
    }

    /// The breaker, read anew where what is known is older than a second.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn look(&self) -> Result<Breaker, StoreError> {
        {
            let view = self.view();
            if view.read.is_some_and(|read| read.elapsed() < FRESH) {
                return Ok(view.breaker.clone());
            }
        }
        let breaker = self.store.breaker(&self.key, Deadline::for_write()).await?;
        self.know(breaker.clone());
        Ok(breaker)
    }

    /// Takes the right to probe, if it is the time for it and nobody else has it.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn begin_probe(&self) -> Result<Option<Probe>, StoreError> {
        let ours = self.change(|seen, now| breaker::probing(seen, now).map(|next| (next, Vec::new())), 1).await?;
        Ok(ours.map(|breaker| Probe { stamp: breaker.stamp, failed_before: breaker.failed_probes }))
    }

    /// Gives the right to probe back unused.
    pub async fn put_back(&self, probe: &Probe) {
        let next =
            |seen: &Breaker, now| (seen.stamp == probe.stamp).then(|| (breaker::probe_put_back(seen, now), Vec::new()));
        self.tell(self.change(next, 1).await);
    }

    /// Takes in what came of an attempt on a message, a probe's or another's, and opens or closes where that follows.
    pub async fn learn(&self, webhook_id: &str, sent: &Sent, probe: Option<&Probe>) {
        let verdict = breaker::verdict(sent.attempt.status);
        let opens = self.view().streak.note(webhook_id, verdict);
        let told = |now| activity::endpoint_down(verdict, &sent.attempt, sent.clock_ahead, now);
        let changed = match (probe, verdict) {
            (Some(_), Verdict::Lives) => {
                let up = |seen: &Breaker, now| {
                    breaker::back(seen, now).map(|next| (next, vec![activity::endpoint_up(seen.since, now)]))
                };
                self.change(up, MAX_ROUNDS).await
            }
            (Some(probe), _) => {
                let failed = |seen: &Breaker, now| {
                    let next = breaker::probe_failed(seen, now, verdict, sent.retry_after);
                    let entries = if next.refused && !seen.refused { vec![told(now)] } else { Vec::new() };
                    (seen.phase == Phase::Open && seen.stamp == probe.stamp).then_some((next, entries))
                };
                self.change(failed, 1).await
            }
            (None, _) if opens => {
                let open = |seen: &Breaker, now| {
                    breaker::opened(seen, now, verdict, sent.retry_after).map(|next| (next, vec![told(now)]))
                };
                self.change(open, MAX_ROUNDS).await
            }
            (None, _) => return,
        };
        self.tell(changed);
    }

    /// What was pending when the endpoint came back, at `since`, is done.
    pub async fn drained(&self, since: Timestamp) {
        let next = |seen: &Breaker, now| breaker::drained(seen, since, now).map(|next| (next, Vec::new()));
        self.tell(self.change(next, 1).await);
    }

    /// Changes the row as `next` says of what it is; none where that says that nothing changes, or others were faster.
    async fn change(
        &self,
        next: impl Fn(&Breaker, Timestamp) -> Option<(Breaker, Vec<Entry>)>,
        rounds: u32,
    ) -> Result<Option<Breaker>, StoreError> {
        let mut seen = self.view().breaker.clone();
        for _ in 0..rounds {
            // As the row keeps it.
            let now = time::from_unix_ms(time::unix_ms(self.clock.now()));
            let Some((wanted, entries)) = next(&seen, now) else { return Ok(None) };
            let change_id = self.ids.claim_id(now);
            let deadline = Deadline::for_write();
            let changed = self.store.change_breaker(&self.key, &seen, &wanted, &change_id, &entries, deadline).await;
            let Ok((breaker, is_ours)) = changed else {
                // It may have been made: what is known is old.
                self.forget();
                return changed.map(|_| None);
            };
            self.know(breaker.clone());
            if is_ours {
                announce(&entries);
                return Ok(Some(breaker));
            }
            seen = breaker;
        }
        Ok(None)
    }

    fn know(&self, breaker: Breaker) {
        let mut view = self.view();
        metrics::gauge!("opshook_endpoint_down").set(if breaker.phase == Phase::Open { 1.0 } else { 0.0 });
        if breaker.phase == Phase::Open {
            view.streak.clear();
        }
        view.breaker = breaker;
        view.read = Some(Instant::now());
    }

    fn tell(&self, changed: Result<Option<Breaker>, StoreError>) {
        if let Err(error) = changed {
            tracing::warn!(%error, "what is known of the endpoint can't be shared; trying again");
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log says it as well.
fn announce(entries: &[Entry]) {
    for Entry { level, code, message, .. } in entries {
        match level {
            contract::wire::Level::Warn => tracing::warn!(code, "{message}"),
            contract::wire::Level::Info => tracing::info!(code, "{message}"),
        }
    }
}
