//! The row by which all processes know whether the endpoint is up. What it becomes is decided elsewhere; here it is read,
//! and written only by whoever has seen what it is.

use contract::time;
use jiff::Timestamp;

use crate::client::{Deadline, Store};
use crate::error::StoreError;
use crate::item::{Item, n, number, s, text};
use crate::outbox::activity::Entry;
use crate::outbox::change::Change;

/// The row's key. There is one for an outbox: a process with another `OPS_WEBHOOK_URL` takes it over.
const ENDPOINT: &str = "endpoint";

/// What is known of the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Names the endpoint, the same in every process, without its URL.
    pub key: String,
    /// Whether it is down: then one message at a time probes and the others wait.
    pub is_down: bool,
    /// When it went down or came back.
    pub since: Timestamp,
    /// The different messages that failed in a row, at most a few; while it is down, those that were refused.
    pub failed: Vec<String>,
    /// How many of those were refused (401 or 403).
    pub refused: usize,
    /// When the first of them failed.
    pub failing_since: Timestamp,
    /// Why the latest one failed, such as `status 503`.
    pub why: String,
    /// How many seconds the endpoint's clock is ahead of ours, by the latest answer's `Date`.
    pub clock_ahead_s: Option<i64>,
    /// When a message last got through, to a second or so.
    pub last_success: Timestamp,
    /// How many messages at once the endpoint last took.
    pub width: u32,
    /// How many probes have failed since it went down.
    pub failed_probes: u32,
    /// When the next probe may be made.
    pub next_probe_at: Timestamp,
    /// The messages that probed in this outage.
    pub probed: Vec<String>,
    /// Whether the activity log says in this outage that the endpoint refuses us.
    pub refusal_told: bool,
    /// The change that made the row so; none where nobody ever changed it. Set by the store.
    pub stamp: Option<String>,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Changed {
    /// It is made, and this is the row.
    Ours(Endpoint),
    /// Another process was faster, and this is the row.
    Theirs(Endpoint),
}

impl Endpoint {
    /// One that works as far as anybody knows.
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            is_down: false,
            since: Timestamp::UNIX_EPOCH,
            failed: Vec::new(),
            refused: 0,
            failing_since: Timestamp::UNIX_EPOCH,
            why: String::new(),
            clock_ahead_s: None,
            last_success: Timestamp::UNIX_EPOCH,
            width: 0,
            failed_probes: 0,
            next_probe_at: Timestamp::UNIX_EPOCH,
            probed: Vec::new(),
            refusal_told: false,
            stamp: None,
        }
    }

    /// A row in which something can't be read is read as far as it goes: then the next change mends it.
    fn of(item: &Item) -> Self {
        let at = |name| number(item, name).map_or(Timestamp::UNIX_EPOCH, time::from_unix_ms);
        let count = |name| number(item, name).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        let words = |name| text(item, name).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Self {
            key: text(item, "endpoint_key").unwrap_or_default().to_owned(),
            is_down: text(item, "state") == Some("down"),
            since: at("since"),
            failed: words("failed"),
            refused: usize::try_from(count("refused")).unwrap_or(0),
            failing_since: at("failing_since"),
            why: text(item, "why").unwrap_or_default().to_owned(),
            clock_ahead_s: number(item, "clock_ahead_s"),
            last_success: at("last_success"),
            width: count("width"),
            failed_probes: count("failed_probes"),
            next_probe_at: at("next_probe_at"),
            probed: words("probed"),
            refusal_told: number(item, "refusal_told") == Some(1),
            stamp: text(item, "stamp").map(str::to_owned),
        }
    }

    fn item(&self, stamp: &str) -> Item {
        let refused = i64::try_from(self.refused).unwrap_or(i64::MAX);
        let mut item = vec![
            ("endpoint_key", s(&self.key)),
            ("state", s(if self.is_down { "down" } else { "up" })),
            ("since", n(time::unix_ms(self.since))),
            ("failed", s(self.failed.join(" "))),
            ("refused", n(refused)),
            ("failing_since", n(time::unix_ms(self.failing_since))),
            ("why", s(&self.why)),
            ("last_success", n(time::unix_ms(self.last_success))),
            ("width", n(i64::from(self.width))),
            ("failed_probes", n(i64::from(self.failed_probes))),
            ("next_probe_at", n(time::unix_ms(self.next_probe_at))),
            ("probed", s(self.probed.join(" "))),
            ("refusal_told", n(i64::from(self.refusal_told))),
            ("stamp", s(stamp)),
        ];
        item.extend(self.clock_ahead_s.map(|ahead| ("clock_ahead_s", n(ahead))));
        item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Store {
    /// What is known of the endpoint; none where nobody has noted anything yet.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn endpoint(&self, deadline: Deadline) -> Result<Option<Endpoint>, StoreError> {
        Ok(self.get(&self.outbox_table, ENDPOINT, deadline).await?.as_ref().map(Endpoint::of))
    }

    /// Makes the row `next`, if it is still what was `seen`, and writes `entries` with it. `change_id` is new for each
    /// change.
    ///
    /// # Errors
    /// When storage can't be reached: the change may have been made then.
    pub async fn change_endpoint(
        &self,
        seen: &Endpoint,
        next: &Endpoint,
        change_id: &str,
        entries: &[Entry],
        deadline: Deadline,
    ) -> Result<Changed, StoreError> {
        let absent: &[&str] = if next.clock_ahead_s.is_none() { &["clock_ahead_s"] } else { &[] };
        let item = next.item(change_id);
        let change = match &seen.stamp {
            Some(stamp) => Change::rewriting(ENDPOINT, item, absent, "stamp = :seen").with(":seen", s(stamp)),
            None => Change::rewriting(ENDPOINT, item, absent, "attribute_not_exists(stamp)"),
        };
        let ours = Endpoint { stamp: Some(change_id.to_owned()), ..next.clone() };
        Ok(match self.change(&change, change_id, entries, deadline).await? {
            None => Changed::Ours(ours),
            // Our own write took effect and its answer was lost.
            Some(old) if text(&old, "stamp") == Some(change_id) => Changed::Ours(ours),
            Some(old) => Changed::Theirs(Endpoint::of(&old)),
        })
    }
}
