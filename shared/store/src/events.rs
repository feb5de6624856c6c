//! A delivery becomes an event record, and at most one ticket.
//!
//! A ticket *is* the record that opened it: one item, put under `attribute_not_exists(pk)` with a key made from what
//! makes the ticket one. So a record and its ticket can't be apart, and nothing is read before it is written.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use contract::event::Event;
use contract::id::{EventId, WebhookId};
use contract::ticket::TicketId;
use contract::time;
use contract::wire::{EventRecord, Outcome, TicketStatus};
use jiff::Timestamp;
use serde::Serialize;

use crate::client::{Deadline, Store, call, call_keeping};
use crate::error::StoreError;
use crate::item::{self, Item, s, shard, sharded, text, write};
use crate::tables::KEY;
use crate::view::record_of;

/// The item that notes the first day of which there are records, so that a list by time knows where it ends.
const FIRST_DAY: &str = "first_day";
const MS_PER_DAY: i64 = 86_400_000;

/// A verified and valid delivery.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The record's id, made once for this delivery: by it a write whose answer was lost knows its own.
    pub event_id: EventId,
    /// The message, as its sender named it.
    pub webhook_id: &'a WebhookId,
    /// What it says.
    pub event: &'a Event,
    /// The body as it was received.
    pub body: &'a str,
    /// Days until the record expires. A record that opens a ticket never does.
    pub retention_days: u32,
}

/// A ticket to open with a delivery, if there is none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTicket {
    /// Its id and key.
    pub id: TicketId,
    /// One line for people.
    pub subject: String,
    /// `data.email`.
    pub email: Option<String>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The record, and with it its ticket.
    TicketCreated,
    /// The record alone: the ticket was there.
    Duplicate {
        /// Whether `data` differs from that of the delivery that opened the ticket.
        payload_changed: bool,
    },
    /// The record alone: its event makes no ticket.
    RecordOnly,
}

/// A row of `webhook_events`. Body and `data` are JSON text: DynamoDB's maps end at 32 levels and 38 digits.
#[derive(Debug, Clone, Serialize)]
struct EventRow {
    pk: String,
    event_id: String,
    webhook_id: String,
    event: String,
    session_id: String,
    domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    data: String,
    data_sha256: String,
    body: String,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket_id: Option<String>,
    payload_changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    session_key: String,
    domain_key: String,
    day_key: String,
    #[serde(flatten)]
    desk: Option<DeskFields>,
}

/// What a row has more when it is a ticket.
#[derive(Debug, Clone, Serialize)]
struct DeskFields {
    status: TicketStatus,
    status_key: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
}

/// What lists show of a row, and what says whether it is damaged: all but its body.
pub(crate) const FIELDS_OF_LISTS: &[&str] = &[
    KEY,
    "event_id",
    "webhook_id",
    "event",
    "session_id",
    "domain",
    "timestamp",
    "data",
    "data_sha256",
    "outcome",
    "ticket_id",
    "payload_changed",
    "expires_at",
    "status",
    "status_key",
    "subject",
    "email",
    "updated_at",
    "closed_at",
];

impl Store {
    /// Records a delivery: with `ticket`, the ticket's item under its condition, and a plain record where the ticket
    /// was there; without, the plain record. When this answers, what it says is durable. It may be called again with
    /// the same `event_id`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there was no answer by the deadline: the write may have happened.
    pub async fn record(
        &self,
        delivery: &Delivery<'_>,
        ticket: Option<&NewTicket>,
        deadline: Deadline,
    ) -> Result<Recorded, StoreError> {
        self.note_first_day(&day_of(delivery.event_id.unix_ms()), deadline).await?;
        let plain = plain_row(delivery);
        let Some(ticket) = ticket else {
            self.put(&plain, deadline).await?;
            return Ok(Recorded::RecordOnly);
        };
        let Some(opened) = self.put_ticket(&ticket_row(&plain, ticket), deadline).await? else {
            return Ok(Recorded::TicketCreated);
        };
        if text(&opened, "event_id") == Some(plain.event_id.as_str()) {
            // Our own write took effect and its answer was lost.
            return Ok(Recorded::TicketCreated);
        }
        let payload_changed = text(&opened, "data_sha256") != Some(plain.data_sha256.as_str());
        let duplicate = EventRow {
            outcome: Outcome::Duplicate,
            ticket_id: Some(ticket.id.as_str().to_owned()),
            payload_changed,
            ..plain
        };
        self.put(&duplicate, deadline).await?;
        Ok(Recorded::Duplicate { payload_changed })
    }

    /// Puts the ticket's item, unless its key is taken: then answers the item that has it.
    async fn put_ticket(&self, row: &EventRow, deadline: Deadline) -> Result<Option<Item>, StoreError> {
        let request = self
            .client
            .put_item()
            .table_name(&self.events_table)
            .set_item(Some(write(row)?))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let answer = call_keeping("PutItem", &self.events_table, deadline, request.send(), |error| match error {
            PutItemError::ConditionalCheckFailedException(failed) => Some(failed.item.clone().unwrap_or_default()),
            _ => None,
        });
        Ok(answer.await?.err())
    }

    /// Puts a row under its own id: again and again, it is the same row.
    async fn put(&self, row: &EventRow, deadline: Deadline) -> Result<(), StoreError> {
        let request = self.client.put_item().table_name(&self.events_table).set_item(Some(write(row)?));
        call("PutItem", &self.events_table, deadline, request.send()).await.map(|_| ())
    }

    /// Notes `day` as the first one, if it is earlier than what is noted. Before the record and not after: a list must
    /// never miss a record. Costs a write once a process.
    async fn note_first_day(&self, day: &str, deadline: Deadline) -> Result<(), StoreError> {
        if self.known_first_day().is_some_and(|known| *known <= *day) {
            return Ok(());
        }
        let request = self
            .client
            .update_item()
            .table_name(&self.events_table)
            .key(KEY, s(FIRST_DAY))
            .update_expression("SET #day = :day")
            .condition_expression("attribute_not_exists(#day) OR #day > :day")
            .expression_attribute_names("#day", "day")
            .expression_attribute_values(":day", s(day));
        let _earlier_is_noted =
            call_keeping("UpdateItem", &self.events_table, deadline, request.send(), |error| match error {
                UpdateItemError::ConditionalCheckFailedException(_) => Some(()),
                _ => None,
            })
            .await?;
        self.remember_first_day(day);
        Ok(())
    }

    /// The first day of which there are records, such as `2026-11-24`; none when there are none.
    pub(crate) async fn first_day(&self, deadline: Deadline) -> Result<Option<String>, StoreError> {
        let item = self.get(&self.events_table, FIRST_DAY, deadline).await?;
        Ok(item.as_ref().and_then(|item| text(item, "day")).map(str::to_owned))
    }

    /// One event record with its body, if it is there and has not expired. What can't be read of it is left empty.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn event(
        &self,
        id: EventId,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Option<EventRecord>, StoreError> {
        let id_text = id.to_string();
        let mut item = self.get(&self.events_table, &id_text, deadline).await?;
        if item.is_none()
            && let Some(key) = self.key_by_day(&id_text, id.unix_ms(), deadline).await?
        {
            item = self.get(&self.events_table, &key, deadline).await?;
        }
        let record = item.filter(|item| !is_expired(item, now)).as_ref().map(record_of);
        // Every row has a body.
        Ok(record.map(|record| EventRecord { damaged: record.damaged || record.body.is_none(), ..record }))
    }

    /// The key of the record that is a ticket: the index by day has it, for the id says the day.
    async fn key_by_day(&self, id: &str, unix_ms: i64, deadline: Deadline) -> Result<Option<String>, StoreError> {
        let request = self
            .client
            .query()
            .table_name(&self.events_table)
            .index_name("day_key")
            .key_condition_expression("day_key = :day AND event_id = :id")
            .expression_attribute_values(":day", s(sharded(&day_of(unix_ms), shard(id))))
            .expression_attribute_values(":id", s(id));
        let output = call("Query", &self.events_table, deadline, request.send()).await?;
        Ok(output.items().first().and_then(|item| text(item, KEY)).map(str::to_owned))
    }

    /// One item by its key.
    pub(crate) async fn get(&self, table: &str, key: &str, deadline: Deadline) -> Result<Option<Item>, StoreError> {
        let request = self.client.get_item().table_name(table).key(KEY, s(key)).consistent_read(true);
        Ok(call("GetItem", table, deadline, request.send()).await?.item)
    }
}

fn plain_row(delivery: &Delivery<'_>) -> EventRow {
    let event_id = delivery.event_id.to_string();
    let received_ms = delivery.event_id.unix_ms();
    let event = delivery.event;
    EventRow {
        pk: event_id.clone(),
        webhook_id: delivery.webhook_id.as_str().to_owned(),
        event: event.event.as_str().to_owned(),
        session_id: event.session_id.as_str().to_owned(),
        domain: event.domain.as_str().to_owned(),
        timestamp: event.timestamp.clone(),
        data: event.data.as_str().to_owned(),
        data_sha256: event.data.canonical_sha256(),
        body: delivery.body.to_owned(),
        outcome: Outcome::Recorded,
        ticket_id: None,
        payload_changed: false,
        expires_at: Some((received_ms + i64::from(delivery.retention_days) * MS_PER_DAY) / 1_000),
        session_key: key_of(event.session_id.as_str(), shard(&event_id)),
        domain_key: key_of(event.domain.as_str(), shard(&event_id)),
        day_key: sharded(&day_of(received_ms), shard(&event_id)),
        event_id,
        desk: None,
    }
}

fn ticket_row(plain: &EventRow, ticket: &NewTicket) -> EventRow {
    let id = ticket.id.as_str();
    let desk = DeskFields {
        status: TicketStatus::Open,
        status_key: status_key(id, TicketStatus::Open),
        subject: ticket.subject.clone(),
        email: ticket.email.clone(),
        updated_at: received_at(&plain.event_id),
        closed_at: None,
    };
    EventRow {
        pk: id.to_owned(),
        outcome: Outcome::TicketCreated,
        ticket_id: Some(id.to_owned()),
        expires_at: None,
        desk: Some(desk),
        ..plain.clone()
    }
}

/// When a delivery arrived: its id says so.
fn received_at(event_id: &str) -> String {
    let ms = EventId::parse(event_id).map_or(0, |id| id.unix_ms());
    time::format_ms(time::from_unix_ms(ms))
}

/// The key of an index by session or domain. What has none is spread over shards; `=` keeps the two apart.
pub(crate) fn key_of(value: &str, shard: u8) -> String {
    if value.is_empty() { sharded("none", shard) } else { format!("={value}") }
}

/// The key of the desk's index.
pub(crate) fn status_key(ticket_id: &str, status: TicketStatus) -> String {
    sharded(status.as_str(), shard(ticket_id))
}

/// The day of a time in milliseconds since 1970, in UTC, such as `2026-11-24`.
pub(crate) fn day_of(unix_ms: i64) -> String {
    time::format_ms(time::from_unix_ms(unix_ms)).chars().take(10).collect()
}

/// Whether an item has expired: engines remove such items late, or only when told.
pub(crate) fn is_expired(item: &HashMap<String, aws_sdk_dynamodb::types::AttributeValue>, now: Timestamp) -> bool {
    item::number(item, "expires_at").is_some_and(|seconds| seconds <= now.as_second())
}
