//! Lists, by queries whose cost is bounded (contract §4): a page examines at most 1,000 items and 31 days, so that no
//! request reads a whole table.

use aws_sdk_dynamodb::types::KeysAndAttributes;
use contract::event::{Domain, EventName, SessionId};
use contract::time;
use contract::wire::{EventRecord, Outcome, Page, Ticket, TicketStatus};
use jiff::Timestamp;

use crate::client::{Deadline, Store, call};
use crate::cursor::{self, Fingerprint};
use crate::error::StoreError;
use crate::events::{EventRow, FIELDS_OF_LISTS, day_of, is_expired, key_of};
use crate::item::{Item, SHARDS, read, s, sharded, text};
use crate::tables::KEY;
pub use crate::walk::Order;
use crate::walk::{Bounds, End, Partition, Walk};

/// A page looks at most this many days far.
const MAX_DAYS: i64 = 31;
const MS_PER_DAY: i64 = 86_400_000;
/// DynamoDB's limit of keys in one `BatchGetItem`.
const MAX_KEYS: usize = 100;
/// The bits of an id below its time in milliseconds.
const BITS_BELOW_MS: u32 = 80;

/// Which event records a list shows; what is absent does not matter.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the contract's names
pub struct RecordFilter {
    pub session_id: Option<SessionId>,
    pub domain: Option<Domain>,
    pub event: Option<EventName>,
    pub outcome: Option<Outcome>,
    pub payload_changed: Option<bool>,
    /// Received at or after.
    pub from: Option<Timestamp>,
    /// Received before.
    pub to: Option<Timestamp>,
    pub order: Order,
}

/// Which tickets a list shows, newest first; what is absent does not matter.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the contract's names
pub struct TicketFilter {
    pub status: Option<TicketStatus>,
    pub domain: Option<Domain>,
    /// Created at or after.
    pub from: Option<Timestamp>,
    /// Created before.
    pub to: Option<Timestamp>,
}

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

impl Store {
    /// A page of event records.
    ///
    /// # Errors
    /// See [`PageError`].
    pub async fn records(&self, filter: &RecordFilter, page: PageRequest<'_>) -> Result<Page<EventRecord>, PageError> {
        let list = List {
            partitions: match (&filter.session_id, &filter.domain) {
                (Some(session), _) => Some(partitions_of("session_key", session.as_str())),
                (None, Some(domain)) => Some(partitions_of("domain_key", domain.as_str())),
                (None, None) => None,
            },
            order: filter.order,
            bounds: bounds(filter.from, filter.to),
            fingerprint: Fingerprint::of(&format!("records {filter:?}")),
        };
        let matches = |item: &Item| filter.matches(item) && !is_expired(item, page.now);
        let (rows, next_cursor) = self.page(&list, page, &matches).await?;
        let items = rows.into_iter().map(EventRow::into_record).collect::<Result<_, _>>()?;
        Ok(Page { items, next_cursor })
    }

    /// A page of tickets, newest first.
    ///
    /// # Errors
    /// See [`PageError`].
    pub async fn tickets(&self, filter: &TicketFilter, page: PageRequest<'_>) -> Result<Page<Ticket>, PageError> {
        let statuses = match filter.status {
            Some(status) => vec![status],
            None => vec![TicketStatus::Open, TicketStatus::Closed],
        };
        let by_status = statuses.iter().flat_map(|status| shards_of("status_key", status.as_str()));
        let list = List {
            partitions: Some(match &filter.domain {
                Some(domain) => partitions_of("domain_key", domain.as_str()),
                None => by_status.collect(),
            }),
            order: Order::Descending,
            bounds: bounds(filter.from, filter.to),
            fingerprint: Fingerprint::of(&format!("tickets {filter:?}")),
        };
        let matches =
            |item: &Item| text(item, "status").is_some_and(|has| filter.status.is_none_or(|s| s.as_str() == has));
        let (rows, next_cursor) = self.page(&list, page, &matches).await?;
        let items = rows.into_iter().map(EventRow::into_ticket).collect::<Result<_, _>>()?;
        Ok(Page { items, next_cursor })
    }

    async fn page(
        &self,
        list: &List,
        page: PageRequest<'_>,
        matches: &(dyn Fn(&Item) -> bool + Sync),
    ) -> Result<(Vec<EventRow>, Option<String>), PageError> {
        let Some(bounds) = list.bounds_after(page.cursor)? else { return Ok((Vec::new(), None)) };
        // One more than asked for tells whether there is a next page.
        let mut walk = Walk::new(self, list.order, page.limit + 1, page.deadline);
        let more_from = match &list.partitions {
            Some(partitions) => {
                let end = walk.group(partitions, bounds, matches).await?;
                (end == End::Budget).then_some(walk.position).flatten()
            }
            None => self.walk_days(&mut walk, list.order, bounds, page, matches).await?,
        };
        let more_from = if walk.found.len() > page.limit {
            walk.found.truncate(page.limit);
            walk.found.last().map(|(_, id)| *id)
        } else {
            more_from
        };
        let rows = self.rows(walk.found.into_iter().map(|(key, _)| key).collect(), page.deadline).await?;
        Ok((rows, more_from.map(|position| cursor::encode(position, list.fingerprint))))
    }

    /// Walks day by day. Answers where to go on, if the walk stopped before the end of the days.
    async fn walk_days(
        &self,
        walk: &mut Walk<'_>,
        order: Order,
        bounds: Bounds,
        page: PageRequest<'_>,
        matches: &(dyn Fn(&Item) -> bool + Sync),
    ) -> Result<Option<u128>, PageError> {
        let Some(first_day) = self.first_day(page.deadline).await? else { return Ok(None) };
        let start = time::parse_rfc3339(&format!("{first_day}T00:00:00Z")).map_or(0, time::unix_ms);
        // Another host's clock may be a little ahead.
        let end = time::unix_ms(page.now).saturating_add(MS_PER_DAY);
        let Some(bounds) = bounds.and(bounds_of_ms(start, end)) else { return Ok(None) };
        let (first, last) = (day_number(bounds.low), day_number(bounds.high));
        for step in 0..MAX_DAYS {
            let day = if order == Order::Descending { last - step } else { first + step };
            if !(first..=last).contains(&day) {
                return Ok(None);
            }
            let Some(within) = bounds.and(bounds_of_ms(day * MS_PER_DAY, (day + 1) * MS_PER_DAY)) else { continue };
            match walk.group(&shards_of("day_key", &day_of(day * MS_PER_DAY)), within, matches).await? {
                End::Exhausted => {
                    walk.position = Some(if order == Order::Descending { within.low } else { within.high });
                }
                End::Found => return Ok(None),
                End::Budget => return Ok(walk.position),
            }
        }
        let all_walked = last - first < MAX_DAYS;
        Ok(walk.position.filter(|_| !all_walked))
    }

    /// The rows of these keys, in their order. One that has gone in between is left out.
    async fn rows(&self, keys: Vec<String>, deadline: Deadline) -> Result<Vec<EventRow>, StoreError> {
        let mut rows = std::collections::HashMap::new();
        for chunk in keys.chunks(MAX_KEYS) {
            let keys = chunk.iter().map(|key| Item::from([(KEY.to_owned(), s(key))])).collect();
            let mut wanted = Some(self.wanted(keys)?);
            while let Some(asked) = wanted.take() {
                let request = self.client.batch_get_item().request_items(&self.events_table, asked);
                let output = call("BatchGetItem", &self.events_table, deadline, request.send()).await?;
                let responses = output.responses.and_then(|mut tables| tables.remove(&self.events_table));
                for item in responses.unwrap_or_default() {
                    let row: EventRow = read(item)?;
                    rows.insert(row.pk.clone(), row);
                }
                wanted = output.unprocessed_keys.and_then(|mut tables| tables.remove(&self.events_table));
            }
        }
        Ok(keys.iter().filter_map(|key| rows.remove(key)).collect())
    }

    fn wanted(&self, keys: Vec<Item>) -> Result<KeysAndAttributes, StoreError> {
        let names: Vec<String> = (0..FIELDS_OF_LISTS.len()).map(|place| format!("#f{place}")).collect();
        let named = names.iter().cloned().zip(FIELDS_OF_LISTS.iter().map(ToString::to_string)).collect();
        KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .projection_expression(names.join(", "))
            .set_expression_attribute_names(Some(named))
            // The index may be ahead of the replica that an eventually consistent read asks.
            .consistent_read(true)
            .build()
            .map_err(|error| StoreError::Refused { operation: "BatchGetItem", reason: error.to_string() })
    }
}

impl RecordFilter {
    fn matches(&self, item: &Item) -> bool {
        let same = |name: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| text(item, name) == Some(wanted));
        let changed = item.get("payload_changed").and_then(|value| value.as_bool().ok()).copied();
        same("session_id", self.session_id.as_ref().map(SessionId::as_str))
            && same("domain", self.domain.as_ref().map(Domain::as_str))
            && same("event", self.event.as_ref().map(EventName::as_str))
            && same("outcome", self.outcome.map(Outcome::as_str))
            && self.payload_changed.is_none_or(|wanted| changed == Some(wanted))
    }
}

/// What a page walks.
struct List {
    /// The partitions; none means day by day.
    partitions: Option<Vec<Partition>>,
    order: Order,
    /// None when the times allow nothing.
    bounds: Option<Bounds>,
    fingerprint: Fingerprint,
}

impl List {
    /// What is left after the page that gave `cursor`.
    fn bounds_after(&self, cursor: Option<&str>) -> Result<Option<Bounds>, PageError> {
        let Some(cursor) = cursor else { return Ok(self.bounds) };
        let position = cursor::decode(cursor, self.fingerprint).ok_or(PageError::Cursor)?;
        let rest = match self.order {
            Order::Ascending => position.checked_add(1).map(|low| Bounds { low, high: u128::MAX }),
            Order::Descending => position.checked_sub(1).map(|high| Bounds { low: 0, high }),
        };
        Ok(self.bounds.zip(rest).and_then(|(bounds, rest)| bounds.and(rest)))
    }
}

fn partitions_of(index: &'static str, value: &str) -> Vec<Partition> {
    if value.is_empty() { shards_of(index, "none") } else { vec![Partition { index, key: key_of(value, 0) }] }
}

fn shards_of(index: &'static str, name: &str) -> Vec<Partition> {
    (0..SHARDS).map(|shard| Partition { index, key: sharded(name, shard) }).collect()
}

fn bounds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Bounds> {
    bounds_of_ms(from.map_or(0, ceil_ms), to.map_or(i64::MAX, ceil_ms)).checked()
}

impl Bounds {
    fn checked(self) -> Option<Self> {
        (self.low <= self.high).then_some(self)
    }
}

/// The ids of the milliseconds from `start` up to, and without, `end`.
fn bounds_of_ms(start: i64, end: i64) -> Bounds {
    let clamp = |ms: i64| u128::from(ms.clamp(0, (1 << 48) - 1).unsigned_abs());
    if end <= 0 {
        return Bounds { low: 1, high: 0 };
    }
    Bounds {
        low: clamp(start) << BITS_BELOW_MS,
        high: (clamp(end - 1) + 1).wrapping_shl(BITS_BELOW_MS).wrapping_sub(1),
    }
}

fn day_number(id: u128) -> i64 {
    i64::try_from(id >> BITS_BELOW_MS).unwrap_or(i64::MAX) / MS_PER_DAY
}

/// The first whole millisecond that is not before `time`.
fn ceil_ms(time: Timestamp) -> i64 {
    let ms = time::unix_ms(time);
    if time::from_unix_ms(ms) < time { ms.saturating_add(1) } else { ms }
}
