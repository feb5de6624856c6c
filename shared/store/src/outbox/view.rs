//! Rows as callers see them. What can't be read of a row is left empty: a page with a damaged row, or with one of another
//! format, is shown all the same.

use contract::time;
use contract::wire::{Attempt, Message, MessageState, MessageSummary};

use crate::item::{Item, number, text};
use crate::tables::{EXPIRES_AT, KEY};

/// What a list shows of a message, and what says whether it is to be shown: all but the body.
pub(crate) const SUMMARY_FIELDS: &[&str] = &[
    KEY,
    "state",
    "state_key",
    "event",
    "session_id",
    "domain",
    "accepted_at",
    "next_attempt_at",
    "delivered_at",
    "attempts",
    "attempts_total",
    EXPIRES_AT,
];

/// Whether a row is a message: the table has other rows too.
pub(crate) fn is_message(key: &str) -> bool {
    key.starts_with("msg_")
}

/// The message that a row is.
pub(crate) fn message_of(item: &Item) -> Message {
    Message {
        webhook_id: string(item, KEY),
        state: state_of(item),
        event: string(item, "event"),
        session_id: string(item, "session_id"),
        domain: string(item, "domain"),
        accepted_at: time_of(item, "accepted_at").unwrap_or_default(),
        next_attempt_at: time_of(item, "next_attempt_at"),
        delivered_at: time_of(item, "delivered_at"),
        attempts: attempts_of(item),
        attempts_total: number(item, "attempts_total").and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
    }
}

/// The same in short.
pub(crate) fn summary_of(item: &Item) -> MessageSummary {
    let message = message_of(item);
    MessageSummary {
        webhook_id: message.webhook_id,
        state: message.state,
        event: message.event,
        session_id: message.session_id,
        domain: message.domain,
        accepted_at: message.accepted_at,
        next_attempt_at: message.next_attempt_at,
        delivered_at: message.delivered_at,
        attempts_total: message.attempts_total,
        last_attempt: message.attempts.into_iter().next_back(),
    }
}

/// Where a state can't be read, it is the one by which lists find the row; without that, someone has to look.
fn state_of(item: &Item) -> MessageState {
    let by_key = || text(item, "state_key")?.split('#').next().and_then(MessageState::parse);
    text(item, "state").and_then(MessageState::parse).or_else(by_key).unwrap_or(MessageState::Parked)
}

/// Those of the attempts that can be read.
fn attempts_of(item: &Item) -> Vec<Attempt> {
    let kept: Vec<serde_json::Value> =
        text(item, "attempts").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    kept.into_iter().filter_map(|attempt| serde_json::from_value(attempt).ok()).collect()
}

/// A text, empty where there is none.
pub(crate) fn string(item: &Item, name: &str) -> String {
    text(item, name).unwrap_or_default().to_owned()
}

/// A time that is stored in milliseconds.
pub(crate) fn time_of(item: &Item, name: &str) -> Option<String> {
    number(item, name).map(|ms| time::format_ms(time::from_unix_ms(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{n, s};

    fn item(attributes: &[(&str, aws_sdk_dynamodb::types::AttributeValue)]) -> Item {
        attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn what_can_be_read_of_a_damaged_row_is_shown() {
        let attempts = r#"[{"at":"a","status":500,"error":null,"ms":1,"answer":null,"new":1},{"at":1},7]"#;
        let row = item(&[
            (KEY, s("msg_1")),
            ("state_key", s("dead#2")),
            ("event", n(7)),
            ("domain", s("one.example")),
            ("accepted_at", s("yesterday")),
            ("next_attempt_at", n(i64::MAX)),
            ("attempts", s(attempts)),
            ("attempts_total", n(-1)),
        ]);
        let message = message_of(&row);
        assert_eq!((message.webhook_id.as_str(), message.state), ("msg_1", MessageState::Dead));
        assert_eq!((message.event.as_str(), message.domain.as_str()), ("", "one.example"));
        assert_eq!((message.accepted_at.as_str(), message.delivered_at), ("", None));
        assert!(message.next_attempt_at.is_some_and(|time| time.starts_with("9999-12-30T")));
        assert_eq!((message.attempts.len(), message.attempts_total), (1, 0));
        assert_eq!(summary_of(&row).last_attempt.map(|attempt| attempt.ms), Some(1));
        assert_eq!(message_of(&Item::new()).state, MessageState::Parked);
    }
}
