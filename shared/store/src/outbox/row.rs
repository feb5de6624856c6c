//! A row of the outbox.

use contract::time;
use contract::wire::{Attempt, Message, MessageState};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::events::key_of;
use crate::item::{Item, number, read, shard, sharded, text};
use crate::tables::KEY;

/// The format that this program writes.
pub(crate) const VERSION: u32 = 1;
/// Of a message's attempts these are kept: the first ones, which tell how it began,
const FIRST_ATTEMPTS: usize = 3;
/// and the latest ones. So an item stays far under DynamoDB's 400 KB however long it lives.
const LATEST_ATTEMPTS: usize = 30;
/// What waits for its first attempt, by when it was accepted or replayed.
pub(crate) const FIRST: &str = "first";
/// What waits for a retry, by when that is due.
pub(crate) const RETRY: &str = "retry";
/// What somebody works on, by when the lease ends.
pub(crate) const LEASED: &str = "leased";
/// What ops took, by when it did.
pub(crate) const DELIVERED: &str = "delivered";

/// A row of the outbox. Times are milliseconds since 1970, but for `expires_at`, which is in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OutboxRow {
    /// The `webhook_id`.
    pub(crate) pk: String,
    pub(crate) version: u32,
    pub(crate) state: MessageState,
    pub(crate) event: String,
    pub(crate) session_id: String,
    pub(crate) domain: String,
    /// What is sent, byte for byte, on every attempt and replay.
    pub(crate) body: String,
    /// SHA-256 of what the portal sent: an `Idempotency-Key` goes with one body.
    pub(crate) request_sha256: String,
    pub(crate) accepted_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivered_at: Option<i64>,
    /// The attempts that are kept, as JSON.
    pub(crate) attempts: String,
    pub(crate) attempts_total: u64,
    /// How many attempts of the schedule are used up.
    pub(crate) step: u32,
    /// How often the message was replayed.
    pub(crate) replay: u32,
    /// When it was last attempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tried_at: Option<i64>,
    /// Whose claim holds the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claim_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lease_until: Option<i64>,
    /// The claim that recorded an outcome last: by it a write whose answer was lost knows its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recorded_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<i64>,
    /// There while the message is pending, and once it is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) due_key: Option<String>,
    /// When someone should look at it: when its lease ends, or else when its next attempt is due. When it was delivered,
    /// once it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) due_at: Option<i64>,
    pub(crate) state_key: String,
    pub(crate) session_key: String,
    pub(crate) accepted_key: String,
}

impl OutboxRow {
    /// Reads a row strictly: what is damaged or of another format must not be sent.
    pub(crate) fn of(item: Item) -> Result<Self, StoreError> {
        let known = i64::from(VERSION);
        let found = number(&item, "version");
        if found == Some(known) {
            return read(item);
        }
        let fault = match found {
            Some(found) if found > known => {
                format!("a newer emit-retry wrote it, in format {found}, and this one knows {known}: upgrade it")
            }
            Some(found) => format!("it has format {found}, and this program knows {known}"),
            None => "it has no format".to_owned(),
        };
        Err(StoreError::Damaged { key: text(&item, KEY).unwrap_or_default().to_owned(), fault })
    }

    /// The attempts that are kept, oldest first.
    pub(crate) fn attempts(&self) -> Result<Vec<Attempt>, StoreError> {
        serde_json::from_str(&self.attempts)
            .map_err(|fault| StoreError::Damaged { key: self.pk.clone(), fault: format!("attempts: {fault}") })
    }

    /// The message as callers see it.
    pub(crate) fn into_message(self) -> Result<Message, StoreError> {
        let attempts = self.attempts()?;
        let show = |ms: i64| time::format_ms(time::from_unix_ms(ms));
        Ok(Message {
            webhook_id: self.pk,
            state: self.state,
            event: self.event,
            session_id: self.session_id,
            domain: self.domain,
            accepted_at: show(self.accepted_at),
            next_attempt_at: self.next_attempt_at.map(show),
            delivered_at: self.delivered_at.map(show),
            attempts,
            attempts_total: self.attempts_total,
        })
    }
}

/// Adds an attempt to those that are kept.
pub(crate) fn with_attempt(mut kept: Vec<Attempt>, attempt: &Attempt) -> Vec<Attempt> {
    kept.push(attempt.clone());
    if kept.len() > FIRST_ATTEMPTS + LATEST_ATTEMPTS {
        kept.remove(FIRST_ATTEMPTS);
    }
    kept
}

/// Attempts as they are stored.
pub(crate) fn attempts_json(attempts: &[Attempt]) -> Result<String, StoreError> {
    serde_json::to_string(attempts)
        .map_err(|fault| StoreError::Damaged { key: "new".to_owned(), fault: fault.to_string() })
}

/// The key, in the index of what is due, of what waits for its next attempt after `step` attempts of the schedule.
pub(crate) fn due_key(webhook_id: &str, step: u32) -> String {
    sharded(if step == 0 { FIRST } else { RETRY }, shard(webhook_id))
}

/// The key, in the same index, of what somebody works on: apart, so that a lease that a wrong clock made is found.
pub(crate) fn leased_key(webhook_id: &str) -> String {
    sharded(LEASED, shard(webhook_id))
}

/// The key, in the same index, of what ops took: nobody looks for work there, but a bulk replay goes through it.
pub(crate) fn delivered_key(webhook_id: &str) -> String {
    sharded(DELIVERED, shard(webhook_id))
}

/// The key of the index by state.
pub(crate) fn state_key(webhook_id: &str, state: MessageState) -> String {
    sharded(state.as_str(), shard(webhook_id))
}

/// The key of the index by session.
pub(crate) fn session_key(webhook_id: &str, session_id: &str) -> String {
    key_of(session_id, shard(webhook_id))
}

/// What those two are sorted by: the time of acceptance, then the id.
pub(crate) fn accepted_key(webhook_id: &str, accepted_at_ms: i64) -> String {
    format!("{}#{webhook_id}", time::format_ms(time::from_unix_ms(accepted_at_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_3_and_the_latest_30_attempts_are_kept() {
        let attempt = |ms| Attempt { at: String::new(), status: None, error: None, ms, answer: None };
        let kept = (0..100).fold(Vec::new(), |kept, ms| with_attempt(kept, &attempt(ms)));
        let ms: Vec<u64> = kept.iter().map(|attempt| attempt.ms).collect();
        let expected: Vec<u64> = (0..3).chain(70..100).collect();
        assert_eq!(ms, expected);
    }
}
