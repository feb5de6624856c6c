//! What came of an attempt.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use contract::time;
use contract::wire::{Attempt, MessageState};
use jiff::Timestamp;

use crate::client::{Deadline, Store, call_keeping};
use crate::error::StoreError;
use crate::item::{Item, n, read, s};
use crate::outbox::lease::Leased;
use crate::outbox::row::{OutboxRow, attempts_json, state_key, with_attempt};
use crate::tables::KEY;

const SECONDS_PER_DAY: i64 = 86_400;
/// Someone else recorded an attempt in between, again and again: then the next sweep looks at it.
const MAX_ROUNDS: u32 = 8;

/// What happens to a message whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is tried again at this time.
    TryAt(Timestamp),
    /// Nobody tries it until someone replays it: the endpoint says that it is gone.
    Park,
    /// Nobody tries it until someone replays it: that was the last attempt.
    Die,
}

/// An attempt that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The attempt.
    pub attempt: Attempt,
    /// What happens next.
    pub then: Then,
}

/// Whether an outcome was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// It was.
    Done,
    /// It was not, for the message is another's by now, or was replayed; whoever has it records what comes of it.
    Overtaken,
}

impl Store {
    /// Records that ops took the message. That is a fact, so it needs no lease: it holds as long as the message was not
    /// replayed, and wins over `pending` and `dead`.
    ///
    /// # Errors
    /// When storage can't be reached: the message is then sent once more, which makes no second ticket.
    pub async fn record_delivery(
        &self,
        leased: &Leased,
        attempt: &Attempt,
        now: Timestamp,
        retention_days: u32,
        deadline: Deadline,
    ) -> Result<Recording, StoreError> {
        let expires_at = now.as_second().saturating_add(i64::from(retention_days) * SECONDS_PER_DAY);
        let mut kept = leased.attempts.clone();
        let mut total = leased.attempts_total;
        for _ in 0..MAX_ROUNDS {
            let request = self
                .outcome(leased, MessageState::Delivered, &with_attempt(kept, attempt), total)?
                .update_expression(
                    "SET #state = :state, state_key = :state_key, attempts = :attempts, attempts_total = :total, \
                     recorded_by = :claim, delivered_at = :now, expires_at = :expires \
                     REMOVE claim_id, lease_until, next_attempt_at, due_key, due_at",
                )
                .condition_expression("replay = :replay AND attempts_total = :before AND #state IN (:pending, :dead)")
                .expression_attribute_values(":now", n(time::unix_ms(now)))
                .expression_attribute_values(":expires", n(expires_at))
                .expression_attribute_values(":replay", n(i64::from(leased.replay)))
                .expression_attribute_values(":before", n(count(total)))
                .expression_attribute_values(":pending", s("pending"))
                .expression_attribute_values(":dead", s("dead"));
            let Some(old) = self.send_outcome(request, deadline).await? else { return Ok(Recording::Done) };
            let old: OutboxRow = read(old)?;
            if old.recorded_by.as_deref() == Some(leased.claim.id.as_str()) {
                return Ok(Recording::Done);
            }
            if old.replay != leased.replay || !matches!(old.state, MessageState::Pending | MessageState::Dead) {
                return Ok(Recording::Overtaken);
            }
            // Another claim recorded an attempt in between: ours comes after it.
            kept = old.attempts().unwrap_or_default();
            total = old.attempts_total;
        }
        Ok(Recording::Overtaken)
    }

    /// Records an attempt that failed, under the claim that made it.
    ///
    /// # Errors
    /// When storage can't be reached: the lease then runs out, and the message is tried again.
    pub async fn record_failure(
        &self,
        leased: &Leased,
        failure: &Failure,
        deadline: Deadline,
    ) -> Result<Recording, StoreError> {
        let kept = with_attempt(leased.attempts.clone(), &failure.attempt);
        let set = "SET #state = :state, state_key = :state_key, attempts = :attempts, attempts_total = :total, \
                   recorded_by = :claim, step = :step";
        let request = match failure.then {
            Then::TryAt(at) => self
                .outcome(leased, MessageState::Pending, &kept, leased.attempts_total)?
                .update_expression(format!("{set}, next_attempt_at = :at, due_at = :at REMOVE claim_id, lease_until"))
                .expression_attribute_values(":at", n(time::unix_ms(at))),
            Then::Park => self.resting(leased, MessageState::Parked, &kept, set)?,
            Then::Die => self.resting(leased, MessageState::Dead, &kept, set)?,
        };
        let request = request
            .condition_expression("claim_id = :claim")
            .expression_attribute_values(":step", n(i64::from(leased.step) + 1));
        match self.send_outcome(request, deadline).await? {
            None => Ok(Recording::Done),
            Some(old) if crate::item::text(&old, "recorded_by") == Some(&leased.claim.id) => Ok(Recording::Done),
            Some(_) => Ok(Recording::Overtaken),
        }
    }

    /// A message that nobody tries until someone replays it. It is kept until then.
    fn resting(
        &self,
        leased: &Leased,
        state: MessageState,
        kept: &[Attempt],
        set: &str,
    ) -> Result<UpdateItemFluentBuilder, StoreError> {
        let request = self.outcome(leased, state, kept, leased.attempts_total)?;
        let rest = "REMOVE claim_id, lease_until, next_attempt_at, due_key, due_at";
        Ok(request.update_expression(format!("{set} {rest}")))
    }

    /// What every outcome writes.
    fn outcome(
        &self,
        leased: &Leased,
        state: MessageState,
        kept: &[Attempt],
        total_before: u64,
    ) -> Result<UpdateItemFluentBuilder, StoreError> {
        let values = HashMap::<String, AttributeValue>::from([
            (":state".to_owned(), s(state.as_str())),
            (":state_key".to_owned(), s(state_key(&leased.webhook_id, state))),
            (":attempts".to_owned(), s(attempts_json(kept)?)),
            (":total".to_owned(), n(count(total_before).saturating_add(1))),
            (":claim".to_owned(), s(&leased.claim.id)),
        ]);
        Ok(self
            .client
            .update_item()
            .table_name(&self.outbox_table)
            .key(KEY, s(&leased.webhook_id))
            .expression_attribute_names("#state", "state")
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld))
    }

    /// Writes an outcome; answers the item as it is where the condition failed.
    async fn send_outcome(
        &self,
        request: UpdateItemFluentBuilder,
        deadline: Deadline,
    ) -> Result<Option<Item>, StoreError> {
        let answer = call_keeping("UpdateItem", &self.outbox_table, deadline, request.send(), |error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => Some(failed.item.clone().unwrap_or_default()),
            _ => None,
        });
        Ok(answer.await?.err())
    }
}

fn count(total: u64) -> i64 {
    i64::try_from(total).unwrap_or(i64::MAX)
}
