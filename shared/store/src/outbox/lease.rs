//! Who works on a message: leases with an id, and what is due.

use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use contract::time;
use contract::wire::Attempt;
use contract::wire::MessageState;
use futures_util::future::{try_join_all, try_join3, try_join4};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::client::{Deadline, Store, call, call_keeping};
use crate::error::StoreError;
use crate::item::{Item, SHARDS, n, number, s, sharded, text};
use crate::outbox::delivered::is_waiting;
use crate::outbox::row::{FIRST, LEASED, OutboxRow, RETRY, leased_key};
use crate::tables::KEY;

/// How long a lease holds.
pub const LEASE: Duration = Duration::from_secs(15);
/// A lease that ends this much further ahead than one of ours would was made by a wrong clock, and counts as run out.
/// With less, whoever made a claim first and wrote it last would take the lease of whoever was in between: both want a
/// message in the moment in which it is due.
const CLOCKS_DIFFER_MS: i64 = 15_000;
/// No schedule waits longer (24 h, and a fifth of jitter); a `next_attempt_at` further ahead was made by a wrong clock, and
/// counts as due.
const LONGEST_WAIT_MS: i64 = 30 * 3_600_000;
/// How much of the far end of the index is read for what a wrong clock put there.
const FAR_END: usize = 4;

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
    /// Whether the claim was made when the schedule wanted an attempt; else the attempt comes before its time.
    pub is_scheduled: bool,
    /// When it was attempted before, if it was.
    pub tried_at: Option<Timestamp>,
    /// Its onboarding; may be empty.
    pub session_id: String,
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
            is_scheduled: row.next_attempt_at.is_none_or(|at| is_due(at, time::unix_ms(claim.at))),
            tried_at: row.tried_at.map(time::from_unix_ms),
            session_id: row.session_id.clone(),
            replay: row.replay,
            // Attempts that can't be read must not keep a message from being delivered.
            attempts: row.attempts().unwrap_or_default(),
            attempts_total: row.attempts_total,
        }
    }
}

/// How much of each kind is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Messages that wait for their first attempt, oldest first.
    pub first: usize,
    /// The same, newest first.
    pub newest: usize,
    /// Messages whose retry is due or whose lease has run out, the longest due first.
    pub retries: usize,
    /// Whether the far end of the index is read too, for what a wrong clock put there.
    pub far: bool,
}

/// What waits for an attempt: ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Those that wait for their first attempt, oldest first.
    pub first: Vec<String>,
    /// The newest of them.
    pub newest: Vec<String>,
    /// Those whose retry is due, or whose lease has run out, the longest due first.
    pub retries: Vec<String>,
    /// How many of those stand at the far end of the index, where a wrong clock put them.
    pub far: usize,
    /// When the next one after those is due.
    pub next_at: Option<Timestamp>,
}

/// Which messages a claim may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// One whose next attempt is due.
    Due,
    /// One that waits for its next attempt, and was not attempted since this time.
    NotTriedSince(Timestamp),
    /// One that waits for its next attempt.
    Waiting,
}

impl Store {
    /// Claims a message that is pending and that no claim holds. A lease that has run out is taken over, whenever the
    /// next attempt would be due: whoever held it ended before its outcome was recorded. None when there is nothing to take,
    /// any more.
    ///
    /// # Errors
    /// When storage can't be reached; [`StoreError::Damaged`] when the row can't be read, and then nothing but
    /// [`Store::set_aside`] helps.
    pub async fn claim(
        &self,
        webhook_id: &str,
        claim: &Claim,
        take: Take,
        deadline: Deadline,
    ) -> Result<Option<Leased>, StoreError> {
        let now = time::unix_ms(claim.at);
        let due = match take {
            Take::Due => {
                "attribute_not_exists(lease_until) AND (next_attempt_at <= :now OR next_attempt_at > :too_far)"
            }
            Take::NotTriedSince(_) => {
                "attribute_not_exists(lease_until) AND (attribute_not_exists(tried_at) OR tried_at < :since)"
            }
            Take::Waiting => "attribute_not_exists(lease_until)",
        };
        let mut request = self
            .client
            .update_item()
            .table_name(&self.outbox_table)
            .key(KEY, s(webhook_id))
            .update_expression("SET claim_id = :claim, lease_until = :until, due_at = :until, due_key = :leased")
            .condition_expression(format!(
                "#state = :pending AND (({due}) OR lease_until <= :now OR lease_until > :too_long)"
            ))
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":pending", s("pending"))
            .expression_attribute_values(":claim", s(&claim.id))
            .expression_attribute_values(":until", n(claim.until_ms()))
            .expression_attribute_values(":leased", s(leased_key(webhook_id)))
            .expression_attribute_values(":too_long", n(claim.until_ms().saturating_add(CLOCKS_DIFFER_MS)))
            .expression_attribute_values(":now", n(now));
        request = match take {
            Take::Due => request.expression_attribute_values(":too_far", n(now.saturating_add(LONGEST_WAIT_MS))),
            Take::NotTriedSince(since) => request.expression_attribute_values(":since", n(time::unix_ms(since))),
            Take::Waiting => request,
        };
        let request = request
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let answer = call_keeping("UpdateItem", &self.outbox_table, deadline, request.send(), |error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => Some(Ok(failed.item.clone())),
            // No operand of ours is wrong, so one of the row's is.
            other if other.code() == Some("ValidationException") => Some(Err(())),
            _ => None,
        });
        let item: Option<Item> = match answer.await? {
            Ok(output) => output.attributes,
            Err(Ok(Some(old))) => {
                // Ours all the same when our own write took effect and its answer was lost.
                if text(&old, "claim_id") != Some(claim.id.as_str()) {
                    return why_not(old, claim).map(|()| None);
                }
                Some(old)
            }
            Err(Ok(None)) => None,
            Err(Err(())) => return Err(damaged(webhook_id, "an attribute has another type than it should")),
        };
        item.map(|item| Ok(Leased::of(&OutboxRow::of(item)?, claim))).transpose()
    }

    /// What waits for an attempt, within `limits`, and when the next one is due. What a wrong clock put far ahead is due,
    /// too.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn due(&self, now: Timestamp, limits: Limits, deadline: Deadline) -> Result<Due, StoreError> {
        let Limits { first, newest, retries, far } = limits;
        let now_ms = time::unix_ms(now);
        // One more than asked for tells when the next one is due.
        let near = |limit: usize| if limit == 0 { 0 } else { limit + 1 };
        let far = |end: usize| if far { end } else { 0 };
        let (waiting, newest, retrying, leased) = try_join4(
            self.due_shards(FIRST, true, near(first), deadline),
            self.due_shards(FIRST, false, newest, deadline),
            self.due_shards(RETRY, true, near(retries), deadline),
            self.due_shards(LEASED, true, near(retries), deadline),
        )
        .await?;
        let (far_waiting, far_retrying, far_leased) = try_join3(
            self.due_shards(FIRST, false, far(FAR_END), deadline),
            self.due_shards(RETRY, false, far(FAR_END), deadline),
            self.due_shards(LEASED, false, far(FAR_END), deadline),
        )
        .await?;
        let further = |all: Vec<(i64, String)>, than: i64| {
            all.into_iter().filter(move |(at, _)| *at > now_ms.saturating_add(than)).map(|(_, id)| id)
        };
        let mut next_at: Option<i64> = None;
        let mut due = |mut all: Vec<(i64, String)>, limit: usize| {
            all.sort_unstable();
            let later = all.iter().map(|(at, _)| *at).find(|at| *at > now_ms);
            next_at = next_at.into_iter().chain(later).min();
            all.into_iter().take_while(|(at, _)| *at <= now_ms).map(|(_, id)| id).take(limit).collect::<Vec<_>>()
        };
        // The far end first: it is rare, and what is due must not keep it waiting.
        let leases = lease_ms().saturating_add(CLOCKS_DIFFER_MS);
        let mut late: Vec<String> = further(far_waiting, LONGEST_WAIT_MS)
            .chain(further(far_retrying, LONGEST_WAIT_MS))
            .chain(further(far_leased, leases))
            .collect();
        let far = late.len();
        late.extend(due(retrying.into_iter().chain(leased).collect(), retries));
        late.truncate(retries);
        let first = due(waiting, first);
        let newest = newest.into_iter().filter(|(at, _)| *at <= now_ms).map(|(_, id)| id).collect();
        Ok(Due { first, newest, retries: late, far, next_at: next_at.map(time::from_unix_ms) })
    }

    /// Messages that wait for a retry which is not due yet, those that are due first; at most `limit` of each shard, from
    /// `from` on. With each, when it is due.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn waiting(
        &self,
        from: Timestamp,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Vec<(Timestamp, String)>, StoreError> {
        let from = time::unix_ms(from);
        let shards = (0..SHARDS).map(|shard| self.due_shard(sharded(RETRY, shard), true, from, limit, deadline));
        let mut waiting: Vec<(i64, String)> = try_join_all(shards).await?.into_iter().flatten().collect();
        waiting.sort_unstable();
        Ok(waiting.into_iter().map(|(at, id)| (time::from_unix_ms(at), id)).collect())
    }

    /// One end of a part of the index of what is due: at most `limit` of each shard; nothing is asked where that is 0.
    async fn due_shards(
        &self,
        name: &str,
        forward: bool,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let shards = (0..SHARDS).map(|shard| self.due_shard(sharded(name, shard), forward, i64::MIN, limit, deadline));
        let mut all: Vec<(i64, String)> = try_join_all(shards).await?.into_iter().flatten().collect();
        all.sort_unstable();
        if !forward {
            all.reverse();
        }
        Ok(all)
    }

    async fn due_shard(
        &self,
        key: String,
        forward: bool,
        from: i64,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        let request = self
            .client
            .query()
            .table_name(&self.outbox_table)
            .index_name("due_key")
            .key_condition_expression("due_key = :key AND due_at >= :from")
            .expression_attribute_values(":key", s(key))
            .expression_attribute_values(":from", n(from))
            .scan_index_forward(forward)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let output = call("Query", &self.outbox_table, deadline, request.send()).await?;
        let pair = |item: &Item| Some((number(item, "due_at")?, text(item, KEY)?.to_owned()));
        Ok(output.items().iter().filter_map(pair).collect())
    }
}

/// Why a message that the index of what is due names can't be claimed: it is another's or done, which is well, or else
/// its row contradicts itself, and would be found again for ever.
fn why_not(old: Item, claim: &Claim) -> Result<(), StoreError> {
    if !is_waiting(&old) {
        return Ok(());
    }
    let row = OutboxRow::of(old)?;
    let now = time::unix_ms(claim.at);
    match (row.state, row.due_at, row.lease_until, row.next_attempt_at) {
        (MessageState::Pending, Some(_), Some(_), Some(_)) => Ok(()),
        (MessageState::Pending, Some(at), None, Some(next)) if at == next || at > now => Ok(()),
        _ => Err(damaged(&row.pk, "its state, its lease and when it is due contradict each other")),
    }
}

fn damaged(key: &str, fault: &str) -> StoreError {
    StoreError::Damaged { key: key.to_owned(), fault: fault.to_owned() }
}

/// Whether an attempt at that time is due now.
fn is_due(next_attempt_at_ms: i64, now_ms: i64) -> bool {
    next_attempt_at_ms <= now_ms || next_attempt_at_ms > now_ms.saturating_add(LONGEST_WAIT_MS)
}

fn lease_ms() -> i64 {
    i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)
}
