//! The row by which all processes know whether the endpoint is down. What it becomes is decided elsewhere; here it is
//! read, and written only by whoever has seen what it is.

use contract::time;
use jiff::Timestamp;

use crate::client::{Deadline, Store};
use crate::error::StoreError;
use crate::item::{Item, n, number, s, text};
use crate::outbox::activity::Entry;
use crate::outbox::change::Change;

/// What the processes do with what is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The endpoint works: each message goes when it is due.
    Closed,
    /// It is down: one message at a time probes, the others wait.
    Open,
    /// It is back: what is pending goes at once, oldest first.
    Draining,
}

/// The breaker of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// What is done now.
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    /// How many probes have failed since it opened.
    pub failed_probes: u32,
    /// When the next one may be made, while it is open.
    pub next_probe_at: Timestamp,
    /// Whether the endpoint has refused us, and this was told.
    pub refused: bool,
    /// The change that made it so; none where nobody ever changed it. Set by the store.
    pub stamp: Option<String>,
}

impl Breaker {
    /// One that nobody has ever opened.
    pub fn closed() -> Self {
        Self {
            phase: Phase::Closed,
            since: Timestamp::UNIX_EPOCH,
            failed_probes: 0,
            next_probe_at: Timestamp::UNIX_EPOCH,
            refused: false,
            stamp: None,
        }
    }

    /// A row in which something can't be read is read as far as it goes: then the next change mends it.
    fn of(item: &Item) -> Self {
        let at = |name| number(item, name).map_or(Timestamp::UNIX_EPOCH, time::from_unix_ms);
        Self {
            phase: match text(item, "state") {
                Some("open") => Phase::Open,
                Some("draining") => Phase::Draining,
                _ => Phase::Closed,
            },
            since: at("since"),
            failed_probes: number(item, "failed_probes").and_then(|count| count.try_into().ok()).unwrap_or(0),
            next_probe_at: at("next_probe_at"),
            refused: number(item, "refused") == Some(1),
            stamp: text(item, "stamp").map(str::to_owned),
        }
    }

    fn item(&self, stamp: &str) -> Item {
        let phase = match self.phase {
            Phase::Closed => "closed",
            Phase::Open => "open",
            Phase::Draining => "draining",
        };
        Item::from([
            ("state".to_owned(), s(phase)),
            ("since".to_owned(), n(time::unix_ms(self.since))),
            ("failed_probes".to_owned(), n(i64::from(self.failed_probes))),
            ("next_probe_at".to_owned(), n(time::unix_ms(self.next_probe_at))),
            ("refused".to_owned(), n(i64::from(self.refused))),
            ("stamp".to_owned(), s(stamp)),
        ])
    }
}

impl Store {
    /// The breaker of the endpoint that `key` names.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn breaker(&self, key: &str, deadline: Deadline) -> Result<Breaker, StoreError> {
        let item = self.get(&self.outbox_table, key, deadline).await?;
        Ok(item.as_ref().map_or_else(Breaker::closed, Breaker::of))
    }

    /// Makes it `next`, if it is still what was `seen`, and writes `entries` with it. Answers what it is then, and
    /// whether that is our change. `change_id` is new for each change.
    ///
    /// # Errors
    /// When storage can't be reached: the change may have been made then.
    pub async fn change_breaker(
        &self,
        key: &str,
        seen: &Breaker,
        next: &Breaker,
        change_id: &str,
        entries: &[Entry],
        deadline: Deadline,
    ) -> Result<(Breaker, bool), StoreError> {
        let change = match &seen.stamp {
            Some(stamp) => Change::rewriting(key, next.item(change_id), &[], "stamp = :seen").with(":seen", s(stamp)),
            None => Change::rewriting(key, next.item(change_id), &[], "attribute_not_exists(stamp)"),
        };
        let ours = Breaker { stamp: Some(change_id.to_owned()), ..next.clone() };
        match self.change(&change, change_id, entries, deadline).await? {
            None => Ok((ours, true)),
            // Our own write took effect and its answer was lost.
            Some(old) if text(&old, "stamp") == Some(change_id) => Ok((ours, true)),
            Some(old) => Ok((Breaker::of(&old), false)),
        }
    }
}
