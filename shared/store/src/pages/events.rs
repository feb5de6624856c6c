//! Lists of event records and of tickets. Their indexes are sorted by `event_id`, a UUIDv7, so bounds of time are bounds
//! of ids.

use contract::event::{Domain, EventName, SessionId};
use contract::time;
use contract::wire::{EventRecord, Outcome, Page, Ticket, TicketStatus};
use jiff::Timestamp;
use uuid::Uuid;

use crate::client::Store;
use crate::cursor::{self, Fingerprint};
use crate::events::{EventRow, FIELDS_OF_LISTS, day_of, is_expired};
use crate::item::{Item, read, text};
use crate::pages::{PageError, PageRequest, ceil_ms, partitions_of, shards_of};
use crate::walk::{Bounds, End, Order, Partition, Source, Walk};

/// A page looks at most this many days far.
const MAX_DAYS: i64 = 31;
const MS_PER_DAY: i64 = 86_400_000;
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
        let source = Source { table: &self.events_table, range: "event_id" };
        let mut walk = Walk::new(self, source, list.order, page.budget());
        let more_from = match &list.partitions {
            Some(partitions) => match walk.group(partitions, &bounds.texts(), matches).await? {
                End::Budget => walk.position.clone(),
                End::Exhausted | End::Found => None,
            },
            None => self.walk_days(&mut walk, list.order, bounds, page, matches).await?,
        };
        let (keys, more_from) = walk.cut(page.limit, more_from);
        let rows = self.rows(&self.events_table, FIELDS_OF_LISTS, keys, page.deadline, read::<EventRow>).await?;
        let position = more_from.map(|id| Uuid::parse_str(&id).unwrap_or_default());
        Ok((rows, position.map(|id| cursor::encode(id.as_bytes(), list.fingerprint))))
    }

    /// Walks day by day. Answers where to go on, if the walk stopped before the end of the days.
    async fn walk_days(
        &self,
        walk: &mut Walk<'_>,
        order: Order,
        bounds: Ids,
        page: PageRequest<'_>,
        matches: &(dyn Fn(&Item) -> bool + Sync),
    ) -> Result<Option<String>, PageError> {
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
            match walk.group(&shards_of("day_key", &day_of(day * MS_PER_DAY)), &within.texts(), matches).await? {
                End::Exhausted => {
                    let end = if order == Order::Descending { within.low } else { within.high };
                    walk.position = Some(text_of(end));
                }
                End::Found => return Ok(None),
                End::Budget => return Ok(walk.position.clone()),
            }
        }
        let all_walked = last - first < MAX_DAYS;
        Ok(walk.position.clone().filter(|_| !all_walked))
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
    bounds: Option<Ids>,
    fingerprint: Fingerprint,
}

impl List {
    /// What is left after the page that gave `cursor`.
    fn bounds_after(&self, cursor: Option<&str>) -> Result<Option<Ids>, PageError> {
        let Some(cursor) = cursor else { return Ok(self.bounds) };
        let position = cursor::decode(cursor, self.fingerprint).and_then(|bytes| bytes.try_into().ok());
        let position = u128::from_be_bytes(position.ok_or(PageError::Cursor)?);
        let rest = match self.order {
            Order::Ascending => position.checked_add(1).map(|low| Ids { low, high: u128::MAX }),
            Order::Descending => position.checked_sub(1).map(|high| Ids { low: 0, high }),
        };
        Ok(self.bounds.zip(rest).and_then(|(bounds, rest)| bounds.and(rest)))
    }
}

fn bounds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Ids> {
    bounds_of_ms(from.map_or(0, ceil_ms), to.map_or(i64::MAX, ceil_ms)).checked()
}

/// Ids as numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    low: u128,
    high: u128,
}

impl Ids {
    fn checked(self) -> Option<Self> {
        (self.low <= self.high).then_some(self)
    }

    /// What both have in common; none when that is nothing.
    fn and(self, other: Self) -> Option<Self> {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }.checked()
    }

    fn texts(self) -> Bounds {
        Bounds { low: text_of(self.low), high: text_of(self.high), but: None }
    }
}

/// An id's text, which sorts as its number does.
fn text_of(id: u128) -> String {
    Uuid::from_u128(id).hyphenated().to_string()
}

/// The ids of the milliseconds from `start` up to, and without, `end`.
fn bounds_of_ms(start: i64, end: i64) -> Ids {
    let clamp = |ms: i64| u128::from(ms.clamp(0, (1 << 48) - 1).unsigned_abs());
    if end <= 0 {
        return Ids { low: 1, high: 0 };
    }
    Ids { low: clamp(start) << BITS_BELOW_MS, high: (clamp(end - 1) + 1).wrapping_shl(BITS_BELOW_MS).wrapping_sub(1) }
}

fn day_number(id: u128) -> i64 {
    i64::try_from(id >> BITS_BELOW_MS).unwrap_or(i64::MAX) / MS_PER_DAY
}
