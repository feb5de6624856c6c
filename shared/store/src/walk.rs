//! Walks index partitions as one sorted list, reading no more than it may.

use std::collections::VecDeque;

use futures_util::future::try_join_all;

use crate::client::{Deadline, Store, call};
use crate::error::StoreError;
use crate::item::{Item, s, text};
use crate::tables::KEY;

/// A query asks for its share of what is wanted at first, and then for twice as many as the one before, up to this.
const LARGEST_CHUNK: usize = 100;

/// Texts before and after every one that an index is sorted by.
pub(crate) const BEFORE_ALL: &str = " ";
pub(crate) const AFTER_ALL: &str = "\u{10ffff}";

/// Which end of a list comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

/// Which indexes of a table are walked: those sorted by this text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) table: &'a str,
    /// The attribute that they are sorted by; no two items have the same.
    pub(crate) range: &'static str,
}

/// What a walk is about: the texts that its indexes are sorted by, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) low: String,
    pub(crate) high: String,
    /// The end that is not included after all: where the walk before this one stopped.
    pub(crate) but: Option<String>,
}

impl Bounds {
    /// Every text.
    pub(crate) fn all() -> Self {
        Self { low: BEFORE_ALL.to_owned(), high: AFTER_ALL.to_owned(), but: None }
    }

    /// What is left after `position`, if there is one; none where that is nothing.
    pub(crate) fn after(mut self, position: Option<&str>, order: Order) -> Option<Self> {
        let Some(position) = position else { return Some(self) };
        match order {
            Order::Ascending => self.low = self.low.max(position.to_owned()),
            Order::Descending => self.high = self.high.min(position.to_owned()),
        }
        self.but = Some(position.to_owned());
        (self.low <= self.high).then_some(self)
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

/// One item that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: String,
    /// The text by which it is sorted.
    pub(crate) position: String,
}

/// How much a walk may find and read, and by when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// It ends when it has found this many.
    pub(crate) wanted: usize,
    /// It reads at most this many items of its indexes.
    pub(crate) reads: usize,
    pub(crate) deadline: Deadline,
}

/// A walk under way.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    store: &'a Store,
    source: Source<'a>,
    deadline: Deadline,
    order: Order,
    wanted: usize,
    reads_left: usize,
    /// What was found, in order.
    pub(crate) found: Vec<Found>,
    /// The text by which the last item that was examined is sorted.
    pub(crate) position: Option<String>,
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

    /// The text by which its next item is sorted.
    fn first(&self, range: &str) -> Option<&str> {
        self.buffer.front().map(|item| text(item, range).unwrap_or_default())
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(store: &'a Store, source: Source<'a>, order: Order, budget: Budget) -> Self {
        let Budget { wanted, reads, deadline } = budget;
        Self { store, source, deadline, order, wanted, reads_left: reads, found: Vec::new(), position: None }
    }

    /// Walks a group of partitions, merged in order. Only what `matches` is found; all that is seen is examined.
    pub(crate) async fn group(
        &mut self,
        partitions: &[Partition],
        bounds: &Bounds,
        matches: &(dyn Fn(&Item) -> bool + Sync),
    ) -> Result<End, StoreError> {
        let mut heads: Vec<Head> = partitions.iter().map(|_| Head::default()).collect();
        loop {
            if !self.refill(partitions, &mut heads, bounds).await? {
                return Ok(End::Budget);
            }
            let range = self.source.range;
            let firsts = heads.iter().enumerate().filter_map(|(place, head)| Some((head.first(range)?, place)));
            let next = match self.order {
                Order::Ascending => firsts.min(),
                Order::Descending => firsts.max(),
            };
            let Some((position, place)) = next else { return Ok(End::Exhausted) };
            let position = position.to_owned();
            let Some(item) = heads[place].buffer.pop_front() else { return Ok(End::Exhausted) };
            self.position = Some(position.clone());
            if bounds.but.as_ref() != Some(&position) && matches(&item) {
                self.found.push(Found { key: text(&item, KEY).unwrap_or_default().to_owned(), position });
                if self.found.len() == self.wanted {
                    return Ok(End::Found);
                }
            }
        }
    }

    /// [`Walk::group`] for a page: what was examined counts, where there is no time for the rest.
    pub(crate) async fn group_in_time(
        &mut self,
        partitions: &[Partition],
        bounds: &Bounds,
        matches: &(dyn Fn(&Item) -> bool + Sync),
    ) -> Result<End, StoreError> {
        match self.group(partitions, bounds, matches).await {
            Err(StoreError::Unavailable(_)) if self.position.is_some() => Ok(End::Budget),
            end => end,
        }
    }

    /// The first `limit` that were found, and where the next page goes on: after those where more were
    /// found, and else at `more_from`.
    pub(crate) fn cut(mut self, limit: usize, more_from: Option<String>) -> (Vec<Found>, Option<String>) {
        let more = self.found.len() > limit;
        self.found.truncate(limit);
        let more_from = if more { self.found.last().map(|found| found.position.clone()) } else { more_from };
        (self.found, more_from)
    }

    /// Reads on where nothing is in store; false when that would be more than may be read.
    async fn refill(
        &mut self,
        partitions: &[Partition],
        heads: &mut [Head],
        bounds: &Bounds,
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
        bounds: &Bounds,
        limit: usize,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let Source { table, range } = self.source;
        let request = self
            .store
            .client
            .query()
            .table_name(table)
            .index_name(partition.index)
            .key_condition_expression("#key = :key AND #range BETWEEN :low AND :high")
            .expression_attribute_names("#key", partition.index)
            .expression_attribute_names("#range", range)
            .expression_attribute_values(":key", s(&partition.key))
            .expression_attribute_values(":low", s(&bounds.low))
            .expression_attribute_values(":high", s(&bounds.high))
            .scan_index_forward(self.order == Order::Ascending)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start);
        let output = call("Query", table, self.deadline, request.send()).await?;
        tracing::trace!(index = partition.index, scanned = output.scanned_count, "queried");
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key.filter(|key| !key.is_empty())))
    }
}
