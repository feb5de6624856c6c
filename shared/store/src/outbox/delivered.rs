//! What ops took, in the order in which it took it: delivered messages stay in the index of what is due, under keys of
//! their own, sorted by when they were delivered.

use aws_sdk_dynamodb::types::AttributeValue;
use contract::time;
use futures_util::future::try_join_all;
use jiff::Timestamp;

use crate::client::{Deadline, Store, call};
use crate::error::StoreError;
use crate::events::is_expired;
use crate::item::{Item, SHARDS, n, number, s, sharded, text};
use crate::outbox::row::DELIVERED;
use crate::pages::ceil_ms;
use crate::tables::KEY;

/// One query reads at most so many,
const CHUNK: usize = 500;
/// and asks for at least so many: some may have expired.
const LEAST: usize = 100;

/// A delivered message by its place in that order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivered {
    /// When ops took it.
    pub at: Timestamp,
    /// Its id.
    pub webhook_id: String,
}

/// What one shard has.
struct Shard {
    found: Vec<Delivered>,
    /// The time up to which it was read, where there may be more.
    read_to: Option<Timestamp>,
}

impl Store {
    /// Messages that ops took from `from` on and before `to`, oldest first, at most `limit`; and, where there may be more,
    /// when the next one was taken. Of one millisecond it may be any of them, so that time is to be asked for again. On AWS
    /// the index may lag, so what is done with them needs a condition.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn delivered(
        &self,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(Vec<Delivered>, Option<Timestamp>), StoreError> {
        let (low, high) = (ceil_ms(from), ceil_ms(to).saturating_sub(1));
        if low > high {
            return Ok((Vec::new(), None));
        }
        let shards = (0..SHARDS).map(|shard| self.delivered_shard(shard, (low, high), limit, now, deadline));
        let shards = try_join_all(shards).await?;
        let read_to = shards.iter().filter_map(|shard| shard.read_to).min();
        let mut found: Vec<Delivered> = shards.into_iter().flat_map(|shard| shard.found).collect();
        found.retain(|message| read_to.is_none_or(|end| message.at <= end));
        found.sort_unstable();
        let next = found.get(limit).map(|message| message.at).or(read_to);
        found.truncate(limit);
        Ok((found, next))
    }

    /// One more than `limit` tells whether there are more. What has expired is read over, but not without end.
    async fn delivered_shard(
        &self,
        shard: u8,
        (low, high): (i64, i64),
        limit: usize,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Shard, StoreError> {
        let most_reads = limit.saturating_mul(2).saturating_add(CHUNK);
        let (mut found, mut reads, mut last, mut start) = (Vec::new(), 0, low, None);
        loop {
            let query =
                self.query_delivered(shard, (low, high), (limit + 1).clamp(LEAST, CHUNK), start, deadline).await;
            let (items, next) = match query {
                // What was read counts, where there is no time for the rest.
                Err(StoreError::Unavailable(_)) if reads > 0 => break,
                answer => answer?,
            };
            reads += items.len();
            last = items.last().and_then(|item| number(item, "due_at")).unwrap_or(last);
            found.extend(items.iter().filter(|item| !is_expired(item, now)).filter_map(place));
            start = next;
            if start.is_none() {
                return Ok(Shard { found, read_to: None });
            }
            // Past the first millisecond, or else the next call would begin where this one did.
            if found.len() > limit || (reads >= most_reads && last > low) {
                break;
            }
        }
        Ok(Shard { found, read_to: Some(time::from_unix_ms(last)) })
    }

    async fn query_delivered(
        &self,
        shard: u8,
        (low, high): (i64, i64),
        limit: usize,
        start: Option<Item>,
        deadline: Deadline,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let request = self
            .client
            .query()
            .table_name(&self.outbox_table)
            .index_name("due_key")
            .key_condition_expression("due_key = :key AND due_at BETWEEN :low AND :high")
            .expression_attribute_values(":key", s(sharded(DELIVERED, shard)))
            .expression_attribute_values(":low", n(low))
            .expression_attribute_values(":high", n(high))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start);
        let output = call("Query", &self.outbox_table, deadline, request.send()).await?;
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key.filter(|key| !key.is_empty())))
    }
}

fn place(item: &Item) -> Option<Delivered> {
    let at = time::from_unix_ms(number(item, "due_at")?);
    Some(Delivered { at, webhook_id: text(item, KEY)?.to_owned() })
}

/// Whether a row is in the index as one that waits for something, and not as one that was delivered.
pub(crate) fn is_waiting(item: &Item) -> bool {
    let key = item.get("due_key").map(AttributeValue::as_s);
    key.is_some_and(|key| key.is_ok_and(|key| !key.starts_with(DELIVERED)))
}
