//! What to do with a delivery. Pure: the rules of contract §3, and no I/O.

use std::collections::BTreeSet;

use contract::event::{Event, EventName};
use contract::ticket::{self, TicketId};
use store::events::NewTicket;

/// What to do with a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Record it, and open this ticket unless it is there.
    OpenTicket(NewTicket),
    /// Record it.
    RecordOnly,
}

impl Decision {
    /// The ticket to open, if there is one.
    pub fn ticket(&self) -> Option<&NewTicket> {
        match self {
            Self::OpenTicket(ticket) => Some(ticket),
            Self::RecordOnly => None,
        }
    }
}

/// Decides: the events in `ticket_events` open a ticket, all others are recorded.
pub fn decide(event: &Event, ticket_events: &BTreeSet<EventName>) -> Decision {
    if !ticket_events.contains(&event.event) {
        return Decision::RecordOnly;
    }
    Decision::OpenTicket(NewTicket {
        id: TicketId::of(&event.event, &event.session_id, &event.domain),
        subject: ticket::subject(event),
        email: ticket::email(event),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contract::event::UnknownFields;

    use super::*;

    fn event(name: &str) -> Event {
        let body = format!(r#"{{"event":"{name}","domain":"example.com","data":{{"email":"ana@example.com"}}}}"#);
        Event::parse(body.as_bytes(), UnknownFields::Ignore).unwrap()
    }

    #[test]
    fn only_the_named_events_open_a_ticket() {
        let names = BTreeSet::from([EventName::parse("account.created").unwrap()]);
        let decision = decide(&event("account.created"), &names);
        let ticket = decision.ticket().unwrap();
        assert_eq!(ticket.subject, "[account.created] example.com — ana@example.com");
        assert_eq!(ticket.email.as_deref(), Some("ana@example.com"));
        assert_eq!(decide(&event("dns.applied"), &names), Decision::RecordOnly);
        assert_eq!(decide(&event("account.created.v2"), &names), Decision::RecordOnly);
    }
}
