//! Lists of the outbox. Its indexes are sorted by `accepted_key`: the time, and then the id.

use contract::event::SessionId;
use contract::time;
use contract::wire::{MessageState, MessageSummary, Page};
use jiff::Timestamp;
use serde::Serialize;

use crate::client::{Deadline, Store};
use crate::cursor::{self, Fingerprint};
use crate::error::StoreError;
use crate::events::is_expired;
use crate::item::{Item, text};
use crate::outbox::view::{SUMMARY_FIELDS, is_message, summary_of};
use crate::pages::{PageError, PageRequest, ceil_ms, partitions_of, shards_of};
use crate::rows::Rows;
use crate::tables::KEY;
use crate::walk::{AFTER_ALL, BEFORE_ALL, Bounds, Budget, End, Found, Order, Partition, Source, Walk};

const ACCEPTED_KEY: &str = "accepted_key";
const STATES: [MessageState; 4] =
    [MessageState::Pending, MessageState::Delivered, MessageState::Parked, MessageState::Dead];

/// Which messages a list shows, newest first; what is absent does not matter.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the contract's names
pub struct MessageFilter {
    pub state: Option<MessageState>,
    /// An empty one means those without a session.
    pub session_id: Option<SessionId>,
    /// Accepted at or after.
    pub from: Option<Timestamp>,
    /// Accepted before.
    pub to: Option<Timestamp>,
}

/// A message by its place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRef {
    /// Its id.
    pub webhook_id: String,
    /// What the order goes by: the time of acceptance, then the id.
    pub accepted_key: String,
}

impl MessageRef {
    /// When it was accepted, as RFC 3339.
    pub fn accepted_at(&self) -> &str {
        time_of_key(&self.accepted_key)
    }

    fn of(found: Found) -> Self {
        Self { webhook_id: found.key, accepted_key: found.position }
    }
}

/// The time in an `accepted_key`.
fn time_of_key(key: &str) -> &str {
    key.split_once('#').map_or(key, |(time, _)| time)
}

impl Store {
    /// A page of messages, newest first. What can't be read of a row is left empty.
    ///
    /// # Errors
    /// See [`PageError`].
    pub async fn messages(
        &self,
        filter: &MessageFilter,
        page: PageRequest<'_>,
    ) -> Result<Page<MessageSummary>, PageError> {
        let of_states =
            |states: &[MessageState]| states.iter().flat_map(|state| shards_of("state_key", state.as_str())).collect();
        let list = OutboxList {
            partitions: match (&filter.session_id, filter.state) {
                (Some(session), _) => partitions_of("session_key", session.as_str()),
                (None, Some(state)) => of_states(&[state]),
                (None, None) => of_states(&STATES),
            },
            bounds: bounds_of_times(filter.from, filter.to),
            fields: SUMMARY_FIELDS,
            fingerprint: Fingerprint::of(&format!("messages {filter:?}")),
        };
        let is = |state: MessageState| filter.state.is_none_or(|wanted| wanted == state);
        // The row decides in the end: the index may be behind, and it can't tell all of a damaged row.
        let matches = |item: &Item| {
            is_kept_message(item, page.now) && text(item, "state").and_then(MessageState::parse).is_none_or(is)
        };
        let show = |item: Item| {
            let shown = Some(&item).filter(|item| !is_expired(item, page.now)).map(summary_of);
            shown.filter(|message| is(message.state))
        };
        self.outbox_page(&list, page, &matches, show).await
    }

    /// Messages that are pending, oldest first, after the one of that `accepted_key`. Fewer than `limit` are all that
    /// there are. On AWS the index may lag: it can still name what is pending no more.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn oldest_pending(
        &self,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<MessageRef>, StoreError> {
        let bounds = Bounds::all().after(after, Order::Ascending);
        let (walk, end) = self.oldest(MessageState::Pending, bounds, limit, now, deadline).await?;
        if end == End::Budget {
            return Err(StoreError::Unavailable("Query: more than could be read in time".to_owned()));
        }
        Ok(walk.found.into_iter().map(MessageRef::of).collect())
    }

    /// The ids of pending messages at both ends: the oldest, oldest first, and the newest, newest first; at most `limit` of
    /// each.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn pending_ends(
        &self,
        limit: usize,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let end = async |order| {
            let reads = limit.saturating_mul(5);
            let mut walk = Walk::new(self, self.outbox_source(), order, Budget { wanted: limit, reads, deadline });
            let partitions = shards_of("state_key", MessageState::Pending.as_str());
            walk.group(&partitions, &Bounds::all(), &|item| is_kept_message(item, now)).await?;
            Ok::<_, StoreError>(walk.found.into_iter().map(|found| found.key).collect())
        };
        Ok((end(Order::Ascending).await?, end(Order::Descending).await?))
    }

    /// Messages in a state that were accepted from `from` on and before `to`, oldest first, at most `limit`; and, where there
    /// may be more, when the next one was accepted. On AWS the index may lag, so what is done with them needs a condition.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn in_state(
        &self,
        state: MessageState,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        limit: usize,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(Vec<MessageRef>, Option<String>), StoreError> {
        let bounds = bounds_of_times(from, to);
        // One more than asked for tells whether there are more.
        let (walk, end) = self.oldest(state, bounds, limit.saturating_add(1), now, deadline).await?;
        let read_to = walk.position.clone().filter(|_| end == End::Budget);
        let next = walk.found.get(limit).map(|found| found.position.clone()).or(read_to);
        let next = next.map(|key| time_of_key(&key).to_owned());
        Ok((walk.found.into_iter().take(limit).map(MessageRef::of).collect(), next))
    }

    async fn oldest(
        &self,
        state: MessageState,
        bounds: Option<Bounds>,
        wanted: usize,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(Walk<'_>, End), StoreError> {
        // What is read ahead of the merge is at most as much again; the rest is for what has expired.
        let reads = wanted.saturating_mul(5).saturating_add(500);
        let mut walk = Walk::new(self, self.outbox_source(), Order::Ascending, Budget { wanted, reads, deadline });
        let Some(bounds) = bounds.filter(|_| wanted > 0) else { return Ok((walk, End::Exhausted)) };
        let partitions = shards_of("state_key", state.as_str());
        let end = walk.group_in_time(&partitions, &bounds, &|item| is_kept_message(item, now)).await?;
        Ok((walk, end))
    }

    fn outbox_source(&self) -> Source<'_> {
        Source { table: &self.outbox_table, range: ACCEPTED_KEY }
    }

    /// A page of rows of the outbox that `matches` finds in the index and of which `show` makes something.
    pub(crate) async fn outbox_page<T: Serialize>(
        &self,
        list: &OutboxList,
        page: PageRequest<'_>,
        matches: &(dyn Fn(&Item) -> bool + Sync),
        show: impl Fn(Item) -> Option<T>,
    ) -> Result<Page<T>, PageError> {
        let after = page.after(list.fingerprint)?;
        let bounds = list.bounds.clone().and_then(|bounds| bounds.after(after.as_deref(), Order::Descending));
        let Some(bounds) = bounds else { return Ok(Page { items: Vec::new(), next_cursor: None }) };
        let mut walk = Walk::new(self, self.outbox_source(), Order::Descending, page.budget());
        let more_from = match walk.group_in_time(&list.partitions, &bounds, matches).await? {
            End::Budget => walk.position.clone(),
            End::Exhausted | End::Found => None,
        };
        let (found, more_from) = walk.cut(page.limit, more_from);
        let rows = Rows { table: &self.outbox_table, fields: list.fields, deadline: page.deadline };
        let (items, more_from) = self.shown(rows, &found, more_from, show).await?;
        let next_cursor = more_from.map(|position| cursor::encode(position.as_bytes(), list.fingerprint));
        Ok(Page { items, next_cursor })
    }
}

/// A list of rows of the outbox, newest first.
pub(crate) struct OutboxList {
    pub(crate) partitions: Vec<Partition>,
    /// None when the times allow nothing.
    pub(crate) bounds: Option<Bounds>,
    /// What it reads of each row.
    pub(crate) fields: &'static [&'static str],
    pub(crate) fingerprint: Fingerprint,
}

/// From one time on, and before another; none where that is nothing. The keys of a millisecond are all after its text.
pub(crate) fn bounds_of_times(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Bounds> {
    let at = |time: Timestamp| time::format_ms(time::from_unix_ms(ceil_ms(time)));
    let low = from.map_or_else(|| BEFORE_ALL.to_owned(), at);
    let high = to.map_or_else(|| AFTER_ALL.to_owned(), at);
    (low <= high).then_some(Bounds { low, high, but: None })
}

/// Whether an index's item is a message that has not expired.
fn is_kept_message(item: &Item, now: Timestamp) -> bool {
    text(item, KEY).is_some_and(is_message) && !is_expired(item, now)
}
