//! Lists of event records and of tickets. Their indexes are sorted by `event_id`, a UUIDv7, so bounds of time are bounds
//! of ids.

use contract::event::{Domain, EventName, SessionId};
use contract::time;
use contract::wire::{EventRecord, Outcome, Page, Ticket, TicketStatus};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::client::Store;
use crate::cursor::{self, Fingerprint};
use crate::events::{FIELDS_OF_LISTS, day_of, is_expired};
use crate::item::{Item, text};
use crate::pages::{PageError, PageRequest, ceil_ms, partitions_of, shards_of};
use crate::rows::Rows;
use crate::view::{is_ticket, record_of, ticket_of};
use crate::walk::{AFTER_ALL, BEFORE_ALL, Bounds, End, Order, Partition, Source, Walk};

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
        self.page(&list, page, &matches, |item| Some(record_of(&item))).await
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
        let is = |status: TicketStatus| filter.status.is_none_or(|wanted| wanted == status);
        // The row decides in the end: the index can't tell all of a damaged row.
        let matches =
            |item: &Item| is_ticket(item) && text(item, "status").and_then(TicketStatus::parse).is_none_or(is);
        let show = |item| Some(ticket_of(&item)).filter(|ticket| is(ticket.status));
        self.page(&list, page, &matches, show).await
    }

    async fn page<T: Serialize>(
        &self,
        list: &List,
        page: PageRequest<'_>,
        matches: &(dyn Fn(&Item) -> bool + Sync),
        show: impl Fn(Item) -> Option<T>,
    ) -> Result<Page<T>, PageError> {
        let none = Page { items: Vec::new(), next_cursor: None };
        let after = page.after(list.fingerprint)?;
        let Some(bounds) = list.bounds else { return Ok(none) };
        let source = Source { table: &self.events_table, range: "event_id" };
        let mut walk = Walk::new(self, source, list.order, page.budget());
        let more_from = match &list.partitions {
            Some(partitions) => {
                let Some(bounds) = bounds.texts().after(after.as_deref(), list.order) else { return Ok(none) };
                match walk.group_in_time(partitions, &bounds, matches).await? {
                    End::Budget => walk.position.clone(),
                    End::Exhausted | End::Found => None,
                }
            }
            None => self.walk_days(&mut walk, list.order, bounds, after.as_deref(), page, matches).await?,
        };
        let (found, more_from) = walk.cut(page.limit, more_from);
        let rows = Rows { table: &self.events_table, fields: FIELDS_OF_LISTS, deadline: page.deadline };
        let (items, more_from) = self.shown(rows, &found, more_from, show).await?;
        let next_cursor = more_from.map(|position| cursor::encode(position.as_bytes(), list.fingerprint));
        Ok(Page { items, next_cursor })
    }

    /// Walks day by day. Answers where to go on, if the walk stopped before the end of the days.
    async fn walk_days(
        &self,
        walk: &mut Walk<'_>,
        order: Order,
        bounds: Ids,
        after: Option<&str>,
        page: PageRequest<'_>,
        matches: &(dyn Fn(&Item) -> bool + Sync),
    ) -> Result<Option<String>, PageError> {
        let Some(first_day) = self.first_day(page.deadline).await? else { return Ok(None) };
        let start = time::parse_rfc3339(&format!("{first_day}T00:00:00Z")).map_or(0, time::unix_ms);
        // Another host's clock may be a little ahead.
        let end = time::unix_ms(page.now).saturating_add(MS_PER_DAY);
        let rest = after.map_or(Some(bounds), |after| bounds.and(ids_after(after, order)));
        let Some(bounds) = rest.and_then(|rest| rest.and(bounds_of_ms(start, end))) else { return Ok(None) };
        let (first, last) = (day_number(bounds.low), day_number(bounds.high));
        for step in 0..MAX_DAYS {
            let day = if order == Order::Descending { last - step } else { first + step };
            if !(first..=last).contains(&day) {
                return Ok(None);
            }
            let Some(within) = bounds.and(bounds_of_ms(day * MS_PER_DAY, (day + 1) * MS_PER_DAY)) else { continue };
            let Some(texts) = within.texts().after(after, order) else { continue };
            match walk.group_in_time(&shards_of("day_key", &day_of(day * MS_PER_DAY)), &texts, matches).await? {
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
        // Of a session, or of a domain alone, the partition has no other; and a damaged row has no more than that.
        let domain = self.domain.as_ref().filter(|_| self.session_id.is_some());
        same("domain", domain.map(Domain::as_str))
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

    /// Without an end, that of the texts: a damaged row may stand under any.
    fn texts(self) -> Bounds {
        let low = if self.low == 0 { BEFORE_ALL.to_owned() } else { text_of(self.low) };
        let high = if self.high == u128::MAX { AFTER_ALL.to_owned() } else { text_of(self.high) };
        Bounds { low, high, but: None }
    }
}

/// The ids among which all are that come after a text in that order. A damaged row's text is no id, and others like it may
/// stand between it and the next id.
fn ids_after(text: &str, order: Order) -> Ids {
    let below = floor(text);
    let is_id = text_of(below) == text;
    match order {
        Order::Ascending => Ids { low: if is_id { below.saturating_add(1) } else { below }, high: u128::MAX },
        Order::Descending => {
            Ids { low: 0, high: if is_id { below.saturating_sub(1) } else { below.saturating_add(1) } }
        }
    }
}

/// The last id whose text does not come after this one.
fn floor(text: &str) -> u128 {
    let (mut low, mut high) = (0, u128::MAX);
    while low < high {
        let middle = high - (high - low) / 2;
        if text_of(middle).as_str() <= text { low = middle } else { high = middle - 1 }
    }
    low
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
