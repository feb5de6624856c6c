//! What happened to the outbox or its endpoint, for the people who look after it.

use contract::event::SessionId;
use contract::time;
use contract::wire::{Activity, Level, Page};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::client::Store;
use crate::cursor::Fingerprint;
use crate::events::{is_expired, key_of};
use crate::item::{Item, shard, sharded, text};
use crate::outbox::list::{OutboxList, bounds_of_times};
use crate::outbox::row::accepted_key;
use crate::outbox::view::{string, time_of};
use crate::pages::{PageError, PageRequest, shards_of};
use crate::tables::{EXPIRES_AT, KEY};
use crate::walk::Partition;

/// How long an entry is kept.
const KEPT_DAYS: i64 = 90;
/// What a list shows of an entry.
const FIELDS: &[&str] = &[KEY, "state", "code", "message", "at", "webhook_id", "session_id", EXPIRES_AT];

/// An entry to write.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the contract's names
pub struct Entry {
    pub at: Timestamp,
    pub level: Level,
    /// Such as `message_dead`; one change of a row writes each code once at most.
    pub code: &'static str,
    pub message: String,
    pub webhook_id: Option<String>,
    pub session_id: Option<String>,
}

/// An entry's row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ActivityRow {
    pub(crate) pk: String,
    pub(crate) state: Level,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) at: i64,
    pub(crate) expires_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_key: Option<String>,
    pub(crate) state_key: String,
    pub(crate) accepted_key: String,
}

impl ActivityRow {
    pub(crate) fn of(id: &str, entry: &Entry) -> Self {
        let at = time::unix_ms(entry.at);
        let session_id = entry.session_id.clone().filter(|session| !session.is_empty());
        Self {
            pk: id.to_owned(),
            state: entry.level,
            code: entry.code.to_owned(),
            message: entry.message.clone(),
            at,
            expires_at: entry.at.as_second().saturating_add(KEPT_DAYS * 86_400),
            webhook_id: entry.webhook_id.clone(),
            session_key: session_id.as_deref().map(session_key),
            session_id,
            state_key: sharded("activity", shard(id)),
            accepted_key: accepted_key(id, at),
        }
    }
}

/// Which entries a list shows, newest first; what is absent does not matter.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the contract's names
pub struct ActivityFilter {
    pub level: Option<Level>,
    /// An empty one means those about no message, or about a message without a session.
    pub session_id: Option<SessionId>,
    /// Written at or after.
    pub from: Option<Timestamp>,
    /// Written before.
    pub to: Option<Timestamp>,
}

impl Store {
    /// A page of the activity log, newest first. What can't be read of an entry is left empty.
    ///
    /// # Errors
    /// See [`PageError`].
    pub async fn activities(
        &self,
        filter: &ActivityFilter,
        page: PageRequest<'_>,
    ) -> Result<Page<Activity>, PageError> {
        let session = filter.session_id.as_ref().map(SessionId::as_str);
        let list = OutboxList {
            partitions: match session.filter(|session| !session.is_empty()) {
                Some(session) => vec![Partition { index: "session_key", key: session_key(session) }],
                None => shards_of("state_key", "activity"),
            },
            bounds: bounds_of_times(filter.from, filter.to),
            fields: FIELDS,
            fingerprint: Fingerprint::of(&format!("activity {filter:?}")),
        };
        let matches = |item: &Item| {
            filter.level.is_none_or(|level| level_of(item) == level)
                && session.is_none_or(|session| text(item, "session_id").unwrap_or_default() == session)
                && !is_expired(item, page.now)
        };
        self.outbox_page(&list, page, &matches, |item| Some(activity_of(&item))).await
    }
}

/// The key of the index by session: apart from that of the session's messages.
fn session_key(session_id: &str) -> String {
    format!("activity{}", key_of(session_id, 0))
}

/// An entry whose level can't be read is one that someone should look at.
fn level_of(item: &Item) -> Level {
    text(item, "state").and_then(Level::parse).unwrap_or(Level::Warn)
}

fn activity_of(item: &Item) -> Activity {
    Activity {
        at: time_of(item, "at").unwrap_or_default(),
        level: level_of(item),
        code: string(item, "code"),
        message: string(item, "message"),
        webhook_id: text(item, "webhook_id").map(str::to_owned),
        session_id: text(item, "session_id").map(str::to_owned),
    }
}
