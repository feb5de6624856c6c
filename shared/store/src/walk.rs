//! Walks index partitions as one sorted list, reading no more than it may.

use std::collections::VecDeque;

use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::client::{Deadline, Store, call};
use crate::error::StoreError;
use crate::item::{Item, s, text};
use crate::tables::KEY;

/// A page examines at most this many items (contract §4).
pub(crate) const MAX_ITEMS: usize = 1_000;
/// A query asks for its share of what is wanted at first, and then for twice as many as the one before, up to this.
const LARGEST_CHUNK: usize = 100;

/// Which end of a list comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

/// The ids that a walk is about, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) low: u128,
    pub(crate) high: u128,
}

impl Bounds {
    /// What both have in common; none when that is nothing.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let both = Self { low: self.low.max(other.low), high: self.high.min(other.high) };
        (both.low <= both.high).then_some(both)
    }
}

/// One partition of an index.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) index: &'static str,
    pub(crate) key: String,
}

/// Why a walk stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// There is no more here.
    Exhausted,
    /// As many were found as were wanted.
    Found,
    /// It may read no more.
    Budget,
}

/// A walk under way.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    store: &'a Store,
    deadline: Deadline,
    order: Order,
    wanted: usize,
    reads_left: usize,
    /// What was found: keys and ids, in order.
    pub(crate) found: Vec<(String, u128)>,
    /// The last id that was examined.
    pub(crate) position: Option<u128>,
}

/// What is known of one partition.
#[derive(Default)]
struct Head {
    buffer: VecDeque<Item>,
    last_key: Option<Item>,
    /// How many the last query asked for; none was made yet where it is 0.
    chunk: usize,
}

impl Head {
    fn is_at_end(&self) -> bool {
        self.chunk > 0 && self.last_key.is_none()
    }

    fn id(&self) -> Option<u128> {
        self.buffer.front().map(id_of)
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(store: &'a Store, order: Order, wanted: usize, deadline: Deadline) -> Self {
        Self { store, deadline, order, wanted, reads_left: MAX_ITEMS, found: Vec::new(), position: None }
    }

    /// Walks a group of partitions, merged by id. Only what `matches` is found; all that is seen is examined.
    pub(crate) async fn group(
        &mut self,
        partitions: &[Partition],
        bounds: Bounds,
        matches: &(dyn Fn(&Item) -> bool + Sync),
    ) -> Result<End, StoreError> {
        let mut heads: Vec<Head> = partitions.iter().map(|_| Head::default()).collect();
        loop {
            if !self.refill(partitions, &mut heads, bounds).await? {
                return Ok(End::Budget);
            }
            let ids = heads.iter().enumerate().filter_map(|(place, head)| head.id().map(|id| (id, place)));
            let next = match self.order {
                Order::Ascending => ids.min(),
                Order::Descending => ids.max(),
            };
            let Some((id, place)) = next else { return Ok(End::Exhausted) };
            let Some(item) = heads[place].buffer.pop_front() else { return Ok(End::Exhausted) };
            self.position = Some(id);
            if matches(&item) {
                self.found.push((text(&item, KEY).unwrap_or_default().to_owned(), id));
                if self.found.len() == self.wanted {
                    return Ok(End::Found);
                }
            }
        }
    }

    /// Reads on where nothing is in store; false when that would be more than may be read.
    async fn refill(
        &mut self,
        partitions: &[Partition],
        heads: &mut [Head],
        bounds: Bounds,
    ) -> Result<bool, StoreError> {
        let empty: Vec<usize> =
            (0..heads.len()).filter(|&place| heads[place].buffer.is_empty() && !heads[place].is_at_end()).collect();
        if empty.is_empty() {
            return Ok(true);
        }
        let share = self.reads_left / empty.len();
        if share == 0 {
            return Ok(false);
        }
        let missing = self.wanted.saturating_sub(self.found.len());
        for &place in &empty {
            let head = &mut heads[place];
            let chunk =
                if head.chunk > 0 { (head.chunk * 2).min(LARGEST_CHUNK) } else { missing / partitions.len() + 1 };
            head.chunk = chunk.min(share);
        }
        let fetches = empty.iter().map(|&place| {
            let Head { last_key, chunk, .. } = &heads[place];
            self.fetch(&partitions[place], last_key.clone(), bounds, *chunk)
        });
        for (page, &place) in try_join_all(fetches).await?.into_iter().zip(&empty) {
            let (items, last_key) = page;
            self.reads_left = self.reads_left.saturating_sub(items.len());
            heads[place] = Head { buffer: items.into(), last_key, chunk: heads[place].chunk };
        }
        // A query may end at a limit of its own with nothing read and more to come.
        if empty.iter().any(|&place| heads[place].buffer.is_empty() && !heads[place].is_at_end()) {
            return Box::pin(self.refill(partitions, heads, bounds)).await;
        }
        Ok(true)
    }

    async fn fetch(
        &self,
        partition: &Partition,
        start: Option<Item>,
        bounds: Bounds,
        limit: usize,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let table = &self.store.events_table;
        let request = self
            .store
            .client
            .query()
            .table_name(table)
            .index_name(partition.index)
            .key_condition_expression("#key = :key AND event_id BETWEEN :low AND :high")
            .expression_attribute_names("#key", partition.index)
            .expression_attribute_values(":key", s(&partition.key))
            .expression_attribute_values(":low", s(id_text(bounds.low)))
            .expression_attribute_values(":high", s(id_text(bounds.high)))
            .scan_index_forward(self.order == Order::Ascending)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start);
        let output = call("Query", table, self.deadline, request.send()).await?;
        tracing::trace!(index = partition.index, scanned = output.scanned_count, "queried");
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key.filter(|key| !key.is_empty())))
    }
}

/// An id's number: it sorts as the id's text does.
fn id_of(item: &Item) -> u128 {
    text(item, "event_id").and_then(|id| Uuid::parse_str(id).ok()).map_or(0, |id| id.as_u128())
}

/// A number's text, which sorts as the number does.
fn id_text(id: u128) -> String {
    Uuid::from_u128(id).hyphenated().to_string()
}
