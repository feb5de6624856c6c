//! The promises, in the end: what was accepted is delivered, recorded and one ticket.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;

use serde_json::Value;

use crate::chaos::load::{Accepted, Book, MAX_BROKEN, Triple};
use crate::chaos::outbox::End;
use crate::chaos::site::ATTEMPTS;
use crate::harness::{EVENTS, TICKETS, ops};

/// A row of ops's list of event records.
struct Record {
    event_id: String,
    webhook_id: String,
    number: Option<u64>,
    triple: Triple,
    outcome: String,
    ticket_id: Option<String>,
}

struct Ticket {
    ticket_id: String,
    event_id: String,
    triple: Triple,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Verdict {
    pub accepted: usize,
    pub delivered: usize,
    pub tickets: usize,
    /// Messages that were accepted and did not reach ops whole: not delivered, not recorded, or without their ticket.
    pub lost: usize,
    /// Onboardings with a second ticket.
    pub double: usize,
    pub records: usize,
    /// Messages that ops recorded more than once, which it may.
    pub received_again: usize,
    /// Messages of which no portal knows, for their 202 was lost, and that were delivered.
    pub unknown_delivered: usize,
    /// Each promise that broke, in words, some 20 of a kind.
    pub broken: Vec<String>,
}

/// Gathers what broke, a few of each kind.
struct Broken(BTreeMap<&'static str, Vec<String>>);

impl Broken {
    fn note(&mut self, kind: &'static str, what: impl std::fmt::Display) {
        let found = self.0.entry(kind).or_default();
        if found.len() < MAX_BROKEN {
            found.push(format!("{kind}: {what}"));
        }
    }
}

/// Reads all that ops has and compares it with what the portals know.
pub async fn check(book: &Book, end: &End, query: SocketAddr) -> Verdict {
    let mut records = Vec::new();
    pages(query, EVENTS, |row| records.push(record(row))).await;
    let mut tickets = Vec::new();
    pages(query, TICKETS, |row| tickets.push(ticket(row))).await;
    let mut broken = Broken(BTreeMap::new());

    let mut lost: HashSet<&str> = HashSet::new();
    let delivered = messages(book, end, &mut lost, &mut broken);
    let unknown_delivered = recorded(book, &records, &mut lost, &mut broken);
    let double = ticketed(book, &records, &tickets, &mut lost, &mut broken);

    let mut of_message = HashMap::<&str, usize>::new();
    records.iter().for_each(|record| *of_message.entry(&record.webhook_id).or_default() += 1);
    Verdict {
        accepted: ids(book).len(),
        delivered,
        tickets: tickets.len(),
        lost: lost.len(),
        double,
        records: records.len(),
        received_again: of_message.values().filter(|count| **count > 1).count(),
        unknown_delivered,
        broken: broken.0.into_values().flatten().chain(end.broken.iter().cloned()).collect(),
    }
}

fn ids(book: &Book) -> BTreeSet<&str> {
    book.accepted.iter().map(|accepted| accepted.webhook_id.as_str()).collect()
}

/// Each message that was accepted is delivered, and its attempts say so. Answers how many are.
fn messages<'a>(book: &'a Book, end: &End, lost: &mut HashSet<&'a str>, broken: &mut Broken) -> usize {
    let ids = ids(book);
    if ids.len() != book.accepted.len() {
        broken.note("one id for two messages", book.accepted.len() - ids.len());
    }
    let mut delivered = 0;
    for Accepted { webhook_id, number, .. } in &book.accepted {
        match end.messages.get(webhook_id).map(|row| row.state.as_str()) {
            Some("delivered") => delivered += 1,
            state => {
                let state = state.unwrap_or("in no list");
                broken.note("accepted and not delivered", format!("{webhook_id} (number {number}) is {state}"));
                lost.insert(webhook_id);
            }
        }
    }
    let known = end.messages.keys().filter(|id| ids.contains(id.as_str())).count();
    if end.messages.len() - known > book.unknown.len() {
        broken.note("messages of nobody in the outbox", end.messages.len() - known);
    }
    for (id, row) in &end.messages {
        if row.state == "delivered" && !row.last_status.is_some_and(|status| (200..300).contains(&status)) {
            broken.note("delivered and its last attempt says otherwise", format!("{id} {row:?}"));
        }
    }
    for message in end.samples.iter().filter(|message| message["state"] == "delivered") {
        let statuses =
            message["attempts"].as_array().into_iter().flatten().filter_map(|attempt| attempt["status"].as_u64());
        let successes = statuses.filter(|status| (200..300).contains(status)).count();
        if successes != 1 && !end.replayed.contains(message["webhook_id"].as_str().unwrap_or_default()) {
            broken.note("delivered and attempted again", message);
        }
    }
    for id in &end.twice {
        broken.note("twice in a list of the outbox", id);
    }
    rested(end, broken);
    delivered
}

/// What was dead or parked was so for a reason, and the activity log says it.
fn rested(end: &End, broken: &mut Broken) {
    let told: HashSet<(&str, &str)> = end
        .activity
        .iter()
        .filter_map(|entry| Some((entry["code"].as_str()?, entry["webhook_id"].as_str()?)))
        .collect();
    for (id, row) in &end.rested {
        if row.state == "dead" && row.attempts < ATTEMPTS {
            broken.note("dead before the last attempt", format!("{id} {row:?}"));
        }
        if row.state == "parked" && row.last_status != Some(410) {
            broken.note("parked without a 410", format!("{id} {row:?}"));
        }
        if !told.contains(&(format!("message_{}", row.state).as_str(), id.as_str())) {
            broken.note("dead or parked, and the activity log does not say so", format!("{id} {row:?}"));
        }
    }
}

/// Each message that was delivered is recorded as it was posted, and nothing else is. Answers how many of those are
/// recorded of which the portals don't know.
fn recorded<'a>(book: &'a Book, records: &[Record], lost: &mut HashSet<&'a str>, broken: &mut Broken) -> usize {
    let accepted: HashMap<&str, &Accepted> =
        book.accepted.iter().map(|accepted| (accepted.webhook_id.as_str(), accepted)).collect();
    let mut unknown = BTreeMap::<u64, BTreeSet<&str>>::new();
    let mut found: HashSet<&str> = HashSet::new();
    for record in records {
        let posted = match accepted.get(record.webhook_id.as_str()) {
            Some(accepted) => Some((accepted.number, &accepted.triple)),
            None => {
                let number = record.number.unwrap_or(0);
                unknown.entry(number).or_default().insert(&record.webhook_id);
                book.unknown.get(&number).map(|triple| (number, triple))
            }
        };
        found.insert(&record.webhook_id);
        if posted != record.number.map(|number| (number, &record.triple)) || posted.is_none() {
            broken.note("recorded and never posted so", format!("{} {:?}", record.event_id, record.triple));
        }
    }
    for (number, ids) in unknown.iter().filter(|(_, ids)| ids.len() > 1) {
        broken.note("posted once and two messages", format!("number {number}: {ids:?}"));
    }
    for Accepted { webhook_id, number, .. } in &book.accepted {
        if !found.contains(webhook_id.as_str()) {
            broken.note("accepted and not recorded by ops", format!("{webhook_id} (number {number})"));
            lost.insert(webhook_id);
        }
    }
    unknown.len()
}

/// Each onboarding that was posted has one ticket, made by one record, and no other has one. Answers how many have more.
fn ticketed<'a>(
    book: &'a Book,
    records: &[Record],
    tickets: &[Ticket],
    lost: &mut HashSet<&'a str>,
    broken: &mut Broken,
) -> usize {
    let mut of_triple = BTreeMap::<&Triple, Vec<&Ticket>>::new();
    tickets.iter().for_each(|ticket| of_triple.entry(&ticket.triple).or_default().push(ticket));
    for Accepted { webhook_id, triple, .. } in book.accepted.iter().filter(|accepted| accepted.triple.is_ticket()) {
        if !of_triple.contains_key(triple) {
            broken.note("accepted and no ticket", format!("{triple:?} of {webhook_id}"));
            lost.insert(webhook_id);
        }
    }
    let posted: HashSet<&Triple> =
        book.accepted.iter().map(|accepted| &accepted.triple).chain(book.unknown.values()).collect();
    for triple in of_triple.keys().filter(|triple| !triple.is_ticket() || !posted.contains(*triple)) {
        broken.note("a ticket of what was never posted", format!("{triple:?}"));
    }

    let by_id: HashMap<&str, &Record> = records.iter().map(|record| (record.event_id.as_str(), record)).collect();
    for ticket in tickets {
        let opener = by_id.get(ticket.event_id.as_str());
        let fits = opener.is_some_and(|record| {
            record.outcome == "ticket_created"
                && record.ticket_id.as_deref() == Some(ticket.ticket_id.as_str())
                && record.triple == ticket.triple
        });
        if !fits {
            broken.note("a ticket without the record that opened it", &ticket.ticket_id);
        }
    }
    let mut opened = BTreeMap::<&Triple, usize>::new();
    for record in records {
        match (record.outcome.as_str(), record.triple.is_ticket(), of_triple.get(&record.triple)) {
            ("ticket_created", true, _) => *opened.entry(&record.triple).or_default() += 1,
            ("duplicate", true, Some(of))
                if of.iter().any(|ticket| record.ticket_id.as_deref() == Some(&ticket.ticket_id)) => {}
            ("recorded", false, None) if record.ticket_id.is_none() => {}
            (outcome, ..) => broken.note("a record that fits no ticket", format!("{} {outcome}", record.event_id)),
        }
    }
    let listed = of_triple.iter().filter(|(_, tickets)| tickets.len() > 1).map(|(triple, _)| *triple);
    let opened = opened.iter().filter(|(_, count)| **count > 1).map(|(triple, _)| *triple);
    let double: BTreeSet<&Triple> = listed.chain(opened).collect();
    double.iter().for_each(|triple| broken.note("two tickets", format!("{triple:?}")));
    double.len()
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

fn triple(row: &Value) -> Triple {
    Triple(text(row, "event"), text(row, "session_id"), text(row, "domain"))
}

fn record(row: &Value) -> Record {
    Record {
        event_id: text(row, "event_id"),
        webhook_id: text(row, "webhook_id"),
        number: row["data"]["number"].as_u64(),
        triple: triple(row),
        outcome: text(row, "outcome"),
        ticket_id: row["ticket_id"].as_str().map(str::to_owned),
    }
}

fn ticket(row: &Value) -> Ticket {
    Ticket { ticket_id: text(row, "ticket_id"), event_id: text(row, "event_id"), triple: triple(row) }
}

/// Every row of a list of ops, page after page: a long run has more than fits in memory as it comes.
async fn pages(query: SocketAddr, path: &str, mut row: impl FnMut(&Value)) {
    let mut cursor = String::new();
    loop {
        let mut reply = ops(query, &format!("{path}?limit=500{cursor}")).await;
        for _ in 0..5 {
            // A busy machine may take longer than a page has.
            if reply.status == 503 {
                reply = ops(query, &format!("{path}?limit=500{cursor}")).await;
            }
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body["items"].as_array().unwrap().iter().for_each(&mut row);
        let Some(next) = reply.body["next_cursor"].as_str() else { return };
        cursor = format!("&cursor={next}");
    }
}
