//! Lists, by queries whose cost is bounded (contract §4): a page examines at most 1,000 items and 31 days, so that no
//! request reads a whole table.
//!
//! - [`RecordFilter`], [`TicketFilter`]: what query-events lists; messages and activity are in [`crate::outbox`]
//! - [`PageRequest`], [`PageError`]: what every list has

mod events;

use contract::time;
use jiff::Timestamp;

use crate::client::Deadline;
use crate::cursor::{self, Fingerprint};
use crate::error::StoreError;
use crate::events::key_of;
use crate::item::{SHARDS, sharded};
use crate::walk::{Budget, Partition};

pub use crate::walk::Order;
pub use events::{RecordFilter, TicketFilter};

/// A page examines at most this many items (contract §4).
const MAX_ITEMS: usize = 1_000;
/// DynamoDB takes no longer text as a key.
const MAX_KEY_BYTES: usize = 1_024;

/// How a page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<'a> {
    /// At most this many items; from 1.
    pub limit: usize,
    /// The `next_cursor` of the page before.
    pub cursor: Option<&'a str>,
    /// The time, for what has expired.
    pub now: Timestamp,
    /// When the answer is due.
    pub deadline: Deadline,
}

impl<'a> PageRequest<'a> {
    /// A page that is asked for now.
    pub fn new(limit: usize, cursor: Option<&'a str>, now: Timestamp) -> Self {
        Self { limit, cursor, now, deadline: Deadline::for_page() }
    }

    /// One more than asked for tells whether there is a next page.
    pub(crate) fn budget(&self) -> Budget {
        Budget { wanted: self.limit + 1, reads: MAX_ITEMS, deadline: self.deadline.sooner() }
    }

    /// The text by which the last item of the page before this one is sorted, if there was one.
    pub(crate) fn after(&self, fingerprint: Fingerprint) -> Result<Option<String>, PageError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let position = cursor::decode(cursor, fingerprint).and_then(|bytes| String::from_utf8(bytes).ok());
        position.filter(|text| (1..=MAX_KEY_BYTES).contains(&text.len())).map(Some).ok_or(PageError::Cursor)
    }
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The cursor is not one that this list gave, or belongs to other filters.
    #[error("is not a cursor that this list gave with these filters")]
    Cursor,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The partitions of an index by a value that may be empty.
pub(crate) fn partitions_of(index: &'static str, value: &str) -> Vec<Partition> {
    if value.is_empty() { shards_of(index, "none") } else { vec![Partition { index, key: key_of(value, 0) }] }
}

/// The partitions over which a key is spread.
pub(crate) fn shards_of(index: &'static str, name: &str) -> Vec<Partition> {
    (0..SHARDS).map(|shard| Partition { index, key: sharded(name, shard) }).collect()
}

/// The first whole millisecond that is not before `time`.
pub(crate) fn ceil_ms(time: Timestamp) -> i64 {
    let ms = time::unix_ms(time);
    if time::from_unix_ms(ms) < time { ms.saturating_add(1) } else { ms }
}
