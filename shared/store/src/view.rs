//! Event records and tickets as callers see them. What can't be read of a row is left empty, and the row says that it is
//! damaged: the others of its page are shown all the same.

use contract::id::EventId;
use contract::json::JsonObject;
use contract::ticket::TicketId;
use contract::time;
use contract::wire::{EventRecord, Outcome, Ticket, TicketStatus};

use crate::item::{Item, number, text};
use crate::tables::{EXPIRES_AT, KEY};

/// The record that a row is.
pub(crate) fn record_of(item: &Item) -> EventRecord {
    let mut row = Row { item, is_damaged: false };
    let record = record(&mut row);
    if is_ticket(item) {
        ticket(&mut row);
    }
    EventRecord { damaged: row.is_damaged, ..record }
}

/// The ticket that a row is.
pub(crate) fn ticket_of(item: &Item) -> Ticket {
    let mut row = Row { item, is_damaged: false };
    record(&mut row);
    let ticket = ticket(&mut row);
    Ticket { damaged: row.is_damaged, ..ticket }
}

/// Whether a row, or what an index has of it, is a ticket.
pub(crate) fn is_ticket(item: &Item) -> bool {
    text(item, KEY).is_some_and(|key| TicketId::parse(key).is_some())
}

fn record(row: &mut Row<'_>) -> EventRecord {
    let event_id = row.text("event_id");
    let data = row.text("data");
    let data = row.needed(JsonObject::parse(&data).ok()).unwrap_or_else(JsonObject::empty);
    row.text("data_sha256");
    if row.item.contains_key(EXPIRES_AT) {
        row.needed(number(row.item, EXPIRES_AT));
    }
    let ticket_id = row.optional("ticket_id");
    let outcome = Outcome::parse(&row.text("outcome"));
    // By what else the row says.
    let likely = match &ticket_id {
        _ if is_ticket(row.item) => Outcome::TicketCreated,
        Some(_) => Outcome::Duplicate,
        None => Outcome::Recorded,
    };
    let payload_changed = row.item.get("payload_changed").and_then(|value| value.as_bool().ok()).copied();
    EventRecord {
        received_at: row.received_at(&event_id),
        event_id,
        webhook_id: row.text("webhook_id"),
        event: row.text("event"),
        session_id: row.text("session_id"),
        domain: row.text("domain"),
        timestamp: row.optional("timestamp"),
        data,
        outcome: row.needed(outcome).unwrap_or(likely),
        ticket_id,
        payload_changed: row.needed(payload_changed).unwrap_or_default(),
        body: row.optional("body"),
        damaged: false,
    }
}

fn ticket(row: &mut Row<'_>) -> Ticket {
    let event_id = row.text("event_id");
    let status = TicketStatus::parse(&row.text("status"));
    // By the key under which the desk finds it; without that, someone has to look.
    let by_key = || text(row.item, "status_key")?.split('#').next().and_then(TicketStatus::parse);
    let likely = by_key().unwrap_or(TicketStatus::Open);
    Ticket {
        ticket_id: row.text(KEY),
        subject: row.text("subject"),
        status: row.needed(status).unwrap_or(likely),
        event: row.text("event"),
        session_id: row.text("session_id"),
        domain: row.text("domain"),
        email: row.optional("email"),
        created_at: row.received_at(&event_id),
        event_id,
        updated_at: row.text("updated_at"),
        closed_at: row.optional("closed_at"),
        damaged: false,
    }
}

/// Reads a row, and remembers whether something of it can't be read.
struct Row<'a> {
    item: &'a Item,
    is_damaged: bool,
}

impl Row<'_> {
    fn needed<T>(&mut self, value: Option<T>) -> Option<T> {
        self.is_damaged |= value.is_none();
        value
    }

    /// A text that every row has.
    fn text(&mut self, name: &str) -> String {
        self.needed(text(self.item, name)).unwrap_or_default().to_owned()
    }

    /// A text that a row may have.
    fn optional(&mut self, name: &str) -> Option<String> {
        self.item.contains_key(name).then(|| self.needed(text(self.item, name)).map(str::to_owned)).flatten()
    }

    /// When a delivery arrived: its id says so.
    fn received_at(&mut self, event_id: &str) -> String {
        let id = self.needed(EventId::parse(event_id));
        id.map(|id| time::format_ms(time::from_unix_ms(id.unix_ms()))).unwrap_or_default()
    }
}
