//! The answers that both ends read and write, as JSON (contract, sections 3 to 5).
//!
//! Fields stand in the contract's order. What is not there is null; only what a field says otherwise of is left out.
//! Times are RFC 3339 in UTC with milliseconds and `Z`.

use serde::{Deserialize, Serialize};

use crate::json::JsonObject;

/// What receive did with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It opened a ticket.
    TicketCreated,
    /// Its ticket was there already.
    Duplicate,
    /// Its event makes no ticket.
    Recorded,
}

impl Outcome {
    /// The name in JSON and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TicketCreated => "ticket_created",
            Self::Duplicate => "duplicate",
            Self::Recorded => "recorded",
        }
    }

    /// The outcome of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::TicketCreated, Self::Duplicate, Self::Recorded].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// What receive answers to a delivery that it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveAnswer {
    /// What was done.
    pub outcome: Outcome,
    /// The event record of this delivery.
    pub event_id: String,
    /// The message, as its sender named it.
    pub webhook_id: String,
    /// The ticket that was opened, or was there.
    pub ticket_id: Option<String>,
    /// Whether a duplicate's `data` differs from the first one's; left out of other outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_changed: Option<bool>,
}

/// One accepted delivery of an event: a row of `webhook_events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its id, which sorts by arrival.
    pub event_id: String,
    /// When it arrived.
    pub received_at: String,
    /// The message, as its sender named it.
    pub webhook_id: String,
    /// What happened.
    pub event: String,
    /// In which onboarding; may be empty.
    pub session_id: String,
    /// The domain that it is about; may be empty.
    pub domain: String,
    /// When it happened, as the sender wrote it.
    pub timestamp: Option<String>,
    /// The event's `data`, as it came.
    pub data: JsonObject,
    /// What was done with it.
    pub outcome: Outcome,
    /// The ticket that it opened, or that was there.
    pub ticket_id: Option<String>,
    /// Whether it is a duplicate whose `data` differs from the first one's.
    pub payload_changed: bool,
    /// The body as it was received; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Whether something of the row can't be read, so that it is empty here; left out where all of it can.
    #[serde(default, skip_serializing_if = "is_false")]
    pub damaged: bool,
}

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketStatus {
    /// Someone has still to see to it.
    Open,
    /// It is done.
    Closed,
}

impl TicketStatus {
    /// The name in JSON and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Closed].into_iter().find(|status| status.as_str() == text)
    }
}

/// The work item that ops sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its id, made from event, session and domain.
    pub ticket_id: String,
    /// One line for people.
    pub subject: String,
    /// Where it stands.
    pub status: TicketStatus,
    /// The event that opened it.
    pub event: String,
    /// In which onboarding; may be empty.
    pub session_id: String,
    /// The domain that it is about; may be empty.
    pub domain: String,
    /// `data.email` of the event that opened it.
    pub email: Option<String>,
    /// The event record that opened it.
    pub event_id: String,
    /// When it was opened.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When it was closed, while it is.
    pub closed_at: Option<String>,
    /// Whether something of the row can't be read, so that it is empty here; left out where all of it can.
    #[serde(default, skip_serializing_if = "is_false")]
    pub damaged: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_false(value: &bool) -> bool {
    !value
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items; there may be none on a page that is not the last.
    pub items: Vec<T>,
    /// What to ask the next page with; only null ends a list.
    pub next_cursor: Option<String>,
}

/// Where a message stands on its way to ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// It is being delivered, or waits for its next attempt.
    Pending,
    /// Ops took it.
    Delivered,
    /// Someone has to look: ops said that the endpoint is gone, or the row can't be read.
    Parked,
    /// The last attempt failed.
    Dead,
}

impl MessageState {
    /// The name in JSON and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Parked => "parked",
            Self::Dead => "dead",
        }
    }

    /// The state of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Parked, Self::Dead].into_iter().find(|state| state.as_str() == text)
    }
}

/// One try to deliver a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: String,
    /// The HTTP status that ops answered, where there was an answer.
    pub status: Option<u16>,
    /// What went wrong, where there was none.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The first 1 KiB of what ops said to a failure.
    pub answer: Option<String>,
}

/// An event in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id, the same on every attempt and replay.
    pub webhook_id: String,
    /// Where it stands.
    pub state: MessageState,
    /// What happened.
    pub event: String,
    /// In which onboarding; may be empty.
    pub session_id: String,
    /// The domain that it is about; may be empty.
    pub domain: String,
    /// When emit-retry took it.
    pub accepted_at: String,
    /// When it is tried next, while it is pending.
    pub next_attempt_at: Option<String>,
    /// When ops took it.
    pub delivered_at: Option<String>,
    /// The attempts, oldest first: the first 3 and the latest 30.
    pub attempts: Vec<Attempt>,
    /// How many attempts there were.
    pub attempts_total: u64,
}

/// A message as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSummary {
    /// Its id, the same on every attempt and replay.
    pub webhook_id: String,
    /// Where it stands.
    pub state: MessageState,
    /// What happened.
    pub event: String,
    /// In which onboarding; may be empty.
    pub session_id: String,
    /// The domain that it is about; may be empty.
    pub domain: String,
    /// When emit-retry took it.
    pub accepted_at: String,
    /// When it is tried next, while it is pending.
    pub next_attempt_at: Option<String>,
    /// When ops took it.
    pub delivered_at: Option<String>,
    /// How many attempts there were.
    pub attempts_total: u64,
    /// The latest of them, which says why it is where it is.
    pub last_attempt: Option<Attempt>,
}

/// What a bulk replay did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// How many messages were replayed, or would be.
    pub count: usize,
    /// Whether there are more.
    pub more: bool,
    /// The `from` of the next call, where there are more delivered ones: those are found again once they are delivered again.
    /// Left out otherwise, for the same call goes on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_from: Option<String>,
}

/// How much an activity entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Someone should look.
    Warn,
}

impl Level {
    /// The name in JSON and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
        }
    }

    /// The level of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Info, Self::Warn].into_iter().find(|level| level.as_str() == text)
    }
}

/// What happened to the outbox or its endpoint, for the people who look after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// When.
    pub at: String,
    /// How much it matters.
    pub level: Level,
    /// What it was, such as `message_dead`.
    pub code: String,
    /// The same in words, with what to do about it.
    pub message: String,
    /// The message that it is about, if it is about one.
    pub webhook_id: Option<String>,
    /// That message's onboarding.
    pub session_id: Option<String>,
}

/// What emit-retry answers to an event that it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The message; left out while sending is disabled, for then there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_id: Option<String>,
    /// The message's state now, or `disabled`.
    pub state: String,
}
