//! What this process knows of the endpoint, and shares with the others by one row: see [`crate::endpoint`] for the rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::id::IdSource;
use contract::time;
use jiff::Timestamp;
use service::clock::Clock;
use store::outbox::{Changed, Endpoint, Entry};
use store::{Deadline, Store, StoreError};
use tokio::time::Instant;

use crate::activity;
use crate::endpoint::{self, Failed, Next};

/// What was read counts for this long.
const FRESH: Duration = Duration::from_secs(1);
/// How many times a change is made again after another process changed the row.
const MAX_ROUNDS: u32 = 4;

/// The endpoint, as this process sees it.
#[derive(Debug)]
pub struct Gate {
    store: Store,
    /// Names our endpoint.
    key: String,
    clock: Clock,
    ids: Arc<IdSource>,
    view: Mutex<View>,
    /// Changes of this process come one after the other.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct View {
    endpoint: Endpoint,
    /// When it was read; none while it is not known.
    read: Option<Instant>,
    /// When a message of this process last got through.
    success: Option<(Instant, Timestamp)>,
}

/// The right to probe, which one process has at a time.
#[derive(Debug, Clone)]
pub struct Probe {
    stamp: Option<String>,
}

impl Gate {
    /// A gate before the endpoint that `key` names.
    pub fn new(store: Store, key: String, clock: Clock, ids: Arc<IdSource>) -> Self {
        let view = View { endpoint: Endpoint::new(&key), read: None, success: None };
        Self { store, key, clock, ids, view: Mutex::new(view), changing: tokio::sync::Mutex::default() }
    }

    /// The endpoint as far as is known without asking anyone; none where that is too old, or nothing.
    pub fn known(&self) -> Option<Endpoint> {
        let view = self.view();
        view.read.map(|_| view.endpoint.clone())
    }

    /// Has the row read anew when it is asked for next.
    pub fn forget(&self) {
        self.view().read = None;
    }

    /// The endpoint, read anew where what is known is older than a second.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn look(&self) -> Result<Endpoint, StoreError> {
        let (before, stamp) = {
            let view = self.view();
            if view.read.is_some_and(|read| read.elapsed() < FRESH) {
                return Ok(view.endpoint.clone());
            }
            (view.read, view.endpoint.stamp.clone())
        };
        let row = self.store.endpoint(Deadline::for_write()).await?.unwrap_or_else(|| Endpoint::new(&self.key));
        let (width, is_news) = (row.width, row.stamp != stamp);
        self.know(row);
        self.change(|seen, now| endpoint::replaced(seen, &self.key, now)).await?;
        // Who wrote that messages fail did not know of what got through here since the last look.
        let success = self.view().success.map(|(at, _)| at);
        if is_news && before.is_some() && success > before {
            self.change(|seen, now| endpoint::passed(seen, width, now)).await?;
        }
        self.change(endpoint::concluded).await?;
        Ok(self.view().endpoint.clone())
    }

    /// A message got through.
    pub async fn passed(&self, width: u32) {
        self.view().success = Some((Instant::now(), self.clock.now()));
        self.share(self.change(|seen, now| endpoint::passed(seen, width, now)).await);
    }

    /// A message failed, and not as a probe.
    pub async fn failed(&self, failed: &Failed<'_>) {
        let next = |seen: &Endpoint, now| {
            // Not every success is in the row.
            let success = self.view().success.map_or(seen.last_success, |(_, at)| at.max(seen.last_success));
            endpoint::failed(&Endpoint { last_success: success, ..seen.clone() }, failed, now)
        };
        self.share(self.change(next).await);
    }

    /// Takes the right to have a message probe, if it is the time for it and nobody else has it.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn begin_probe(&self, webhook_id: &str) -> Result<Option<Probe>, StoreError> {
        let ours = self.change(|seen, now| endpoint::probing(seen, webhook_id, now)).await?;
        Ok(ours.map(|endpoint| Probe { stamp: endpoint.stamp }))
    }

    /// A probe failed, or was not made where there is nothing to say of it.
    pub async fn probe_ended(&self, probe: &Probe, failed: Option<&Failed<'_>>) {
        let next = |seen: &Endpoint, now| {
            let mut next = match failed {
                Some(failed) => endpoint::probe_failed(seen, failed, now),
                None => endpoint::probe_put_back(seen, now),
            };
            let news = endpoint::refusal_news(&mut next);
            (seen.is_down && seen.stamp == probe.stamp).then_some((next, news))
        };
        self.share(self.change(next).await);
    }

    /// Changes the row as `next` says of what it is; none where that says that nothing changes, or others were faster.
    async fn change(&self, next: impl Fn(&Endpoint, Timestamp) -> Next) -> Result<Option<Endpoint>, StoreError> {
        // As the row keeps it.
        let now = || time::from_unix_ms(time::unix_ms(self.clock.now()));
        let seen = self.view().endpoint.clone();
        if next(&seen, now()).is_none() {
            return Ok(None);
        }
        let _one = self.changing.lock().await;
        for _ in 0..MAX_ROUNDS {
            let (seen, now) = (self.view().endpoint.clone(), now());
            let Some((wanted, news)) = next(&seen, now) else { return Ok(None) };
            let entries: Vec<Entry> = news.iter().map(|news| activity::of_endpoint(*news, &wanted, now)).collect();
            let change_id = self.ids.claim_id(now);
            let deadline = Deadline::for_write();
            match self.store.change_endpoint(&seen, &wanted, &change_id, &entries, deadline).await {
                Ok(Changed::Ours(endpoint)) => {
                    self.know(endpoint.clone());
                    entries.iter().for_each(announce);
                    return Ok(Some(endpoint));
                }
                Ok(Changed::Theirs(endpoint)) => self.know(endpoint),
                Err(error) => {
                    // It may have been made: what is known is old.
                    self.forget();
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn know(&self, endpoint: Endpoint) {
        metrics::gauge!("opshook_endpoint_down").set(if endpoint.is_down { 1.0 } else { 0.0 });
        let mut view = self.view();
        view.endpoint = endpoint;
        view.read = Some(Instant::now());
    }

    fn share(&self, changed: Result<Option<Endpoint>, StoreError>) {
        if let Err(error) = changed {
            tracing::warn!(%error, "what is known of the endpoint can't be shared; trying again");
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log says it as well.
fn announce(entry: &Entry) {
    let Entry { level, code, message, .. } = entry;
    match level {
        contract::wire::Level::Warn => tracing::warn!(code, "{message}"),
        contract::wire::Level::Info => tracing::info!(code, "{message}"),
    }
}
