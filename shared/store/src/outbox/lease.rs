//! Who works on a message: leases with an id, and what is due.

use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use contract::time;
use contract::wire::Attempt;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::client::{Deadline, Store, call, call_keeping};
use crate::error::StoreError;
use crate::item::{Item, SHARDS, n, number, read, s, sharded, text};
use crate::outbox::row::OutboxRow;
use crate::tables::KEY;

/// How long a lease holds.
pub const LEASE: Duration = Duration::from_secs(15);
/// A lease that ends this much further ahead than one of ours would was made by a wrong clock, and counts as run out.
/// With less, whoever made a claim first and wrote it last would take the lease of whoever was in between: both want a
/// message in the moment in which it is due.
const CLOCKS_DIFFER_MS: i64 = 15_000;
/// No schedule waits longer; a `next_attempt_at` further ahead was made by a wrong clock, and counts as due.
const LONGEST_WAIT_MS: i64 = 25 * 3_600_000;

/// A claim on a message: for [`LEASE`] it is its owner's to work on.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Unique: by it a write whose answer was lost knows its own, and a late one is fenced off.
    pub id: String,
    /// The time of day at which it was made.
    pub at: Timestamp,
    /// The same on the monotonic clock, by which its owner measures it.
    pub made: Instant,
}

impl Claim {
    /// A claim made now.
    pub fn new(id: String, now: Timestamp) -> Self {
        Self { id, at: now, made: Instant::now() }
    }

    /// How much of the lease is left.
    pub fn left(&self) -> Duration {
        LEASE.saturating_sub(self.made.elapsed())
    }

    pub(crate) fn until_ms(&self) -> i64 {
        time::unix_ms(self.at).saturating_add(lease_ms())
    }
}

/// A message that a claim holds.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Its id.
    pub webhook_id: String,
    /// The claim.
    pub claim: Claim,
    /// What to send.
    pub body: String,
    /// How many attempts of the schedule are used up.
    pub step: u32,
    pub(crate) replay: u32,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) attempts_total: u64,
}

impl Leased {
    pub(crate) fn of(row: &OutboxRow, claim: &Claim) -> Self {
        Self {
            webhook_id: row.pk.clone(),
            claim: claim.clone(),
            body: row.body.clone(),
            step: row.step,
            replay: row.replay,
            // Attempts that can't be read must not keep a message from being delivered.
            attempts: row.attempts().unwrap_or_default(),
            attempts_total: row.attempts_total,
        }
    }
}

/// What waits for its next attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Ids of what is due now, the longest due first.
    pub now: Vec<String>,
    /// When the next one after those is due.
    pub next_at: Option<Timestamp>,
}

impl Store {
    /// Claims a message that is due and that no claim holds. None when it is not, any more.
    ///
    /// # Errors
    /// When storage can't be reached, or the row is damaged.
    pub async fn claim(
        &self,
        webhook_id: &str,
        claim: &Claim,
        deadline: Deadline,
    ) -> Result<Option<Leased>, StoreError> {
        let now = time::unix_ms(claim.at);
        let request = self
            .client
            .update_item()
            .table_name(&self.outbox_table)
            .key(KEY, s(webhook_id))
            .update_expression(
                "SET claim_id = :claim, lease_until = :until, due_at = :until, generation = generation + :one",
            )
            .condition_expression(
                "#state = :pending \
                 AND (attribute_not_exists(lease_until) OR lease_until <= :now OR lease_until > :too_long) \
                 AND (next_attempt_at <= :now OR next_attempt_at > :too_far)",
            )
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":pending", s("pending"))
            .expression_attribute_values(":claim", s(&claim.id))
            .expression_attribute_values(":until", n(claim.until_ms()))
            .expression_attribute_values(":too_long", n(claim.until_ms().saturating_add(CLOCKS_DIFFER_MS)))
            .expression_attribute_values(":now", n(now))
            .expression_attribute_values(":too_far", n(now.saturating_add(LONGEST_WAIT_MS)))
            .expression_attribute_values(":one", n(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let answer = call_keeping("UpdateItem", &self.outbox_table, deadline, request.send(), |error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => Some(failed.item.clone()),
            _ => None,
        });
        let item: Option<Item> = match answer.await? {
            Ok(output) => output.attributes,
            // Ours all the same when our own write took effect and its answer was lost.
            Err(old) => old.filter(|old| text(old, "claim_id") == Some(claim.id.as_str())),
        };
        item.map(|item| Ok(Leased::of(&read::<OutboxRow>(item)?, claim))).transpose()
    }

    /// What is due, at most `limit`, and when the next one is.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn due(&self, now: Timestamp, limit: usize, deadline: Deadline) -> Result<Due, StoreError> {
        let now_ms = time::unix_ms(now);
        let shards = (0..SHARDS).map(|shard| self.due_shard(shard, limit, deadline));
        let mut all: Vec<(i64, String)> = try_join_all(shards).await?.into_iter().flatten().collect();
        all.sort_unstable();
        let later = all.iter().find(|(at, _)| *at > now_ms).map(|(at, _)| time::from_unix_ms(*at));
        let ids = all.into_iter().take_while(|(at, _)| *at <= now_ms).map(|(_, id)| id).take(limit);
        Ok(Due { now: ids.collect(), next_at: later })
    }

    async fn due_shard(&self, shard: u8, limit: usize, deadline: Deadline) -> Result<Vec<(i64, String)>, StoreError> {
        let request = self
            .client
            .query()
            .table_name(&self.outbox_table)
            .index_name("due_key")
            .key_condition_expression("due_key = :key")
            .expression_attribute_values(":key", s(sharded("due", shard)))
            .limit(i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX));
        let output = call("Query", &self.outbox_table, deadline, request.send()).await?;
        let pair = |item: &Item| Some((number(item, "due_at")?, text(item, KEY)?.to_owned()));
        Ok(output.items().iter().filter_map(pair).collect())
    }
}

fn lease_ms() -> i64 {
    i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)
}
