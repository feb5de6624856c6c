//! What came of an attempt.

use contract::time;
use contract::wire::{Attempt, MessageState};
use jiff::Timestamp;

use crate::client::{Deadline, Store};
use crate::error::StoreError;
use crate::item::{n, read, s, text};
use crate::outbox::activity::Entry;
use crate::outbox::change::Change;
use crate::outbox::lease::Leased;
use crate::outbox::row::{OutboxRow, attempts_json, delivered_key, due_key, state_key, with_attempt};

const SECONDS_PER_DAY: i64 = 86_400;
/// Someone else recorded an attempt in between, again and again: then the next sweep looks at it.
const MAX_ROUNDS: u32 = 8;

/// What happens to a message whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is tried again at this time, and an attempt of the schedule is used up.
    TryAt(Timestamp),
    /// It is tried again when it would have been without this attempt, which the schedule did not want.
    AsBefore,
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
    /// When it ended.
    pub at: Timestamp,
    /// What people are told of it.
    pub entries: Vec<Entry>,
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
            let change = outcome(
                leased,
                "delivered_at = :now, expires_at = :expires, due_key = :due, due_at = :now \
                 REMOVE claim_id, lease_until, next_attempt_at",
                "replay = :replay AND attempts_total = :before AND #state IN (:pending, :dead)",
                MessageState::Delivered,
                (&with_attempt(kept, attempt), total),
            )?
            .with(":now", n(time::unix_ms(now)))
            .with(":expires", n(expires_at))
            .with(":due", s(delivered_key(&leased.webhook_id)))
            .with(":replay", n(i64::from(leased.replay)))
            .with(":before", n(count(total)))
            .with(":pending", s("pending"))
            .with(":dead", s("dead"));
            let Some(old) = self.change(&change, &leased.claim.id, &[], deadline).await? else {
                return Ok(Recording::Done);
            };
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
        const REST: &str =
            "tried_at = :tried, step = :step REMOVE claim_id, lease_until, next_attempt_at, due_key, due_at";
        let kept = with_attempt(leased.attempts.clone(), &failure.attempt);
        let make = |set: &str, state| outcome(leased, set, "claim_id = :claim", state, (&kept, leased.attempts_total));
        let waits = |change: Change, step| change.with(":due", s(due_key(&leased.webhook_id, step)));
        let step = leased.step.saturating_add(1);
        let used_up = |change: Change| change.with(":step", n(i64::from(step)));
        let change = match failure.then {
            Then::TryAt(at) => {
                let set = "tried_at = :tried, step = :step, next_attempt_at = :at, due_at = :at, due_key = :due \
                           REMOVE claim_id, lease_until";
                used_up(waits(make(set, MessageState::Pending)?, step)).with(":at", n(time::unix_ms(at)))
            }
            Then::AsBefore => {
                let set = "tried_at = :tried, due_at = next_attempt_at, due_key = :due REMOVE claim_id, lease_until";
                waits(make(set, MessageState::Pending)?, leased.step)
            }
            Then::Park => used_up(make(REST, MessageState::Parked)?),
            Then::Die => used_up(make(REST, MessageState::Dead)?),
        };
        let change = change.with(":tried", n(time::unix_ms(failure.at)));
        match self.change(&change, &leased.claim.id, &failure.entries, deadline).await? {
            None => Ok(Recording::Done),
            Some(old) if text(&old, "recorded_by") == Some(&leased.claim.id) => Ok(Recording::Done),
            Some(_) => Ok(Recording::Overtaken),
        }
    }
}

/// What every outcome writes, and `set`. `before` are the attempts with this one, and how many there were without it.
fn outcome(
    leased: &Leased,
    set: &str,
    condition: &str,
    state: MessageState,
    before: (&[Attempt], u64),
) -> Result<Change, StoreError> {
    let update = format!(
        "SET #state = :state, state_key = :state_key, attempts = :attempts, attempts_total = :total, \
         recorded_by = :claim, {set}"
    );
    Ok(Change::of(&leased.webhook_id, update, condition)
        .with(":state", s(state.as_str()))
        .with(":state_key", s(state_key(&leased.webhook_id, state)))
        .with(":attempts", s(attempts_json(before.0)?))
        .with(":total", n(count(before.1).saturating_add(1)))
        .with(":claim", s(&leased.claim.id)))
}

fn count(total: u64) -> i64 {
    i64::try_from(total).unwrap_or(i64::MAX)
}
