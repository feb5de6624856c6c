//! A message that rests is sent again; and one whose row can't be read is laid to rest.

use contract::event::{Event, UnknownFields};
use contract::id::WebhookId;
use contract::time;
use contract::wire::{Level, Message, MessageState};
use jiff::Timestamp;

use crate::client::{Deadline, Store};
use crate::error::StoreError;
use crate::events::is_expired;
use crate::item::{Item, n, number, s, text, write};
use crate::outbox::activity::Entry;
use crate::outbox::change::Change;
use crate::outbox::row::{DELIVERED, OutboxRow, VERSION, accepted_key, due_key, session_key, state_key};

/// Others changed the message in between, again and again.
const MAX_ROUNDS: u32 = 4;

/// What became of a replay.
#[derive(Debug, Clone)]
pub enum Replay {
    /// The message is pending again, and due at once.
    Done(Box<Message>),
    /// It is pending already.
    Pending,
    /// There is no such message, any more.
    Absent,
    /// Its row is damaged so far that there is nothing left to send.
    Unreadable,
}

impl Store {
    /// Has a delivered, parked or dead message sent again, by the schedule from its start. Its id and what is sent stay the
    /// same. `replay_id` is new for each replay.
    ///
    /// # Errors
    /// When storage can't be reached: the message may be pending again then.
    pub async fn replay(
        &self,
        id: &WebhookId,
        replay_id: &str,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Replay, StoreError> {
        if !id.as_str().starts_with("msg_") {
            return Ok(Replay::Absent);
        }
        for _ in 0..MAX_ROUNDS {
            let item = self.get(&self.outbox_table, id.as_str(), deadline).await?;
            let Some(item) = item.filter(|item| !is_expired(item, now)) else { return Ok(Replay::Absent) };
            if text(&item, "state") == Some("pending") {
                return Ok(Replay::Pending);
            }
            let Some((row, change)) = again(item, replay_id, now)? else { return Ok(Replay::Unreadable) };
            let entry = replayed(&row, now);
            match self.change(&change, replay_id, &[entry], deadline).await? {
                None => return row.into_message().map(|message| Replay::Done(Box::new(message))),
                // Our own write took effect and its answer was lost.
                Some(old) if text(&old, "recorded_by") == Some(replay_id) => {
                    return row.into_message().map(|message| Replay::Done(Box::new(message)));
                }
                Some(_) => {}
            }
        }
        Err(StoreError::Unavailable("UpdateItem: others change the message all the time".to_owned()))
    }

    /// Parks a message whose row can't be read, so that it is not found again and again. The row stays as it is otherwise.
    ///
    /// # Errors
    /// When storage can't be reached: the next sweep finds it again.
    pub async fn set_aside(
        &self,
        webhook_id: &str,
        fault: &str,
        change_id: &str,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let change = Change::of(
            webhook_id,
            "SET #state = :parked, state_key = :state_key, aside = :id, accepted_key = if_not_exists(accepted_key, :key) \
             REMOVE due_key, due_at, claim_id, lease_until, next_attempt_at",
            "attribute_exists(due_key) AND NOT begins_with(due_key, :delivered)",
        )
        .with(":delivered", s(DELIVERED))
        .with(":parked", s("parked"))
        .with(":state_key", s(state_key(webhook_id, MessageState::Parked)))
        .with(":id", s(change_id))
        .with(":key", s(accepted_key(webhook_id, time::unix_ms(now))));
        let message = format!(
            "the outbox's entry can't be read ({fault}) and is set aside; mend the row, or replay the message: what is left of \
             it is sent"
        );
        let entry = Entry {
            at: now,
            level: Level::Warn,
            code: "message_unreadable",
            message,
            webhook_id: Some(webhook_id.to_owned()),
            session_id: None,
        };
        self.change(&change, change_id, &[entry], deadline).await.map(|_| ())
    }
}

fn replayed(row: &OutboxRow, now: Timestamp) -> Entry {
    Entry {
        at: now,
        level: Level::Info,
        code: "message_replayed",
        message: format!("replay {} begins: the message is sent again, by the schedule from its start", row.replay),
        webhook_id: Some(row.pk.clone()),
        session_id: Some(row.session_id.clone()),
    }
}

/// The row of a message that begins again, and the change that makes it so. None where nothing is left to send.
fn again(item: Item, replay_id: &str, now: Timestamp) -> Result<Option<(OutboxRow, Change)>, StoreError> {
    let aside = text(&item, "aside").map(str::to_owned);
    let (mut row, is_whole) = match OutboxRow::of(item.clone()) {
        Ok(row) => (row, true),
        Err(_) => match salvaged(&item) {
            Some(row) => (row, false),
            None => return Ok(None),
        },
    };
    let (state_before, replay_before) = (row.state, row.replay);
    let now_ms = time::unix_ms(now);
    row.state = MessageState::Pending;
    row.state_key = state_key(&row.pk, MessageState::Pending);
    row.step = 0;
    row.replay += 1;
    row.next_attempt_at = Some(now_ms);
    row.due_at = Some(now_ms);
    row.due_key = Some(due_key(&row.pk, 0));
    row.recorded_by = Some(replay_id.to_owned());
    (row.delivered_at, row.expires_at, row.claim_id, row.lease_until) = (None, None, None, None);
    row.tried_at = None;
    let absent = ["delivered_at", "expires_at", "claim_id", "lease_until", "tried_at", "aside"];
    let mut written = write(&row)?;
    if is_whole {
        // These don't change, and the body may be large.
        for name in ["body", "attempts", "attempts_total", "request_sha256", "event", "session_id", "domain"] {
            written.remove(name);
        }
    }
    let change = match (&aside, is_whole) {
        (Some(aside), false) => Change::rewriting(&row.pk, written, &absent, "aside = :aside").with(":aside", s(aside)),
        (None, false) => Change::rewriting(&row.pk, written, &absent, "attribute_not_exists(aside)"),
        (_, true) => Change::rewriting(&row.pk, written, &absent, "#state = :before AND replay = :replay_before")
            .with(":before", s(state_before.as_str()))
            .with(":replay_before", n(i64::from(replay_before))),
    };
    Ok(Some((row, change)))
}

/// A whole row from what can be read of a damaged one: its body is enough.
fn salvaged(item: &Item) -> Option<OutboxRow> {
    let pk = text(item, "pk")?.to_owned();
    let body = text(item, "body")?.to_owned();
    let event = Event::parse(body.as_bytes(), UnknownFields::Ignore).ok()?;
    let count = |name| number(item, name).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let attempts =
        text(item, "attempts").filter(|text| serde_json::from_str::<Vec<contract::wire::Attempt>>(text).is_ok());
    let accepted_at = number(item, "accepted_at").or_else(|| accepted_at_of(text(item, "accepted_key")?)).unwrap_or(0);
    Some(OutboxRow {
        version: VERSION,
        state: text(item, "state").and_then(MessageState::parse).unwrap_or(MessageState::Parked),
        event: event.event.as_str().to_owned(),
        session_id: event.session_id.as_str().to_owned(),
        domain: event.domain.as_str().to_owned(),
        request_sha256: text(item, "request_sha256").unwrap_or_default().to_owned(),
        accepted_at,
        next_attempt_at: None,
        delivered_at: None,
        attempts: attempts.unwrap_or("[]").to_owned(),
        attempts_total: u64::from(count("attempts_total")),
        step: 0,
        replay: count("replay"),
        tried_at: None,
        claim_id: None,
        lease_until: None,
        recorded_by: None,
        expires_at: None,
        due_key: None,
        due_at: None,
        state_key: String::new(),
        session_key: session_key(&pk, event.session_id.as_str()),
        accepted_key: accepted_key(&pk, accepted_at),
        body,
        pk,
    })
}

fn accepted_at_of(accepted_key: &str) -> Option<i64> {
    let (at, _) = accepted_key.split_once('#')?;
    time::parse_rfc3339(at).map(time::unix_ms)
}
