//! Random records and random queries, against a model that knows no index.

use std::collections::HashMap;

use fastrand::Rng;
use reqwest::Method;

use super::{Desk, Receive, event, ids, text, unix_ms};
use crate::harness::{EVENTS, TICKETS};

const EVENT_NAMES: [&str; 3] = ["account.created", "dns.applied", "domain.validated"];
const SESSIONS: [&str; 4] = ["", "s1", "s2", "none#1"];
const DOMAINS: [&str; 3] = ["", "one.example", "xn--bcher-kva.example"];
const DATA: [&str; 3] = ["{}", r#"{"a":1}"#, r#"{"a":2}"#];
const OUTCOMES: [&str; 3] = ["ticket_created", "duplicate", "recorded"];

/// A record as it should be.
#[derive(Debug, Clone)]
struct Record {
    id: String,
    ms: i64,
    event: &'static str,
    session: &'static str,
    domain: &'static str,
    outcome: &'static str,
    payload_changed: bool,
    /// Of the ticket that it is.
    ticket: Option<(String, bool)>,
}

fn any<T: Copy>(random: &mut Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}

/// Has 200 records delivered to two receives whose clocks go on by jumps, each for itself.
async fn fill(desk: &Desk, random: &mut Rng) -> Vec<Record> {
    let other = Receive::start(&desk.engine, &[]).await;
    let mut clocks = [unix_ms("2026-03-01T00:00:00Z"), unix_ms("2026-03-03T12:00:00Z")];
    let mut first_data = HashMap::new();
    let mut records = Vec::new();
    while records.len() < 200 {
        let (name, session, domain) = (any(random, &EVENT_NAMES), any(random, &SESSIONS), any(random, &DOMAINS));
        if session.is_empty() && domain.is_empty() {
            continue;
        }
        let data = any(random, &DATA);
        let which = random.usize(..2);
        let jump = [0, 0, 1, 1_000, 3_600_000, 86_400_000, 2 * 86_400_000][random.usize(..7)];
        clocks[which] += random.i64(0..=jump);
        let receive = [&desk.receive, &other][which];
        let answer = receive.deliver(clocks[which], &event(name, session, domain, data)).await.body;
        let (outcome, payload_changed) = match first_data.get(&(name, session, domain)) {
            _ if name != "account.created" => ("recorded", false),
            Some(first) => ("duplicate", *first != data),
            None => ("ticket_created", false),
        };
        let ticket_id = answer["ticket_id"].as_str().map(str::to_owned);
        let ticket = ticket_id.filter(|_| outcome == "ticket_created").map(|id| (id, true));
        first_data.entry((name, session, domain)).or_insert(data);
        let id = answer["event_id"].as_str().unwrap().to_owned();
        records.push(Record { id, ms: clocks[which], event: name, session, domain, outcome, payload_changed, ticket });
    }
    desk.clock.set(clocks[0].max(clocks[1]) + 1);
    records.sort_by(|a, b| a.id.cmp(&b.id));
    records
}

type Condition = Box<dyn Fn(&Record) -> bool>;

/// A query, and what it should show.
#[derive(Default)]
struct Query {
    parameters: Vec<(&'static str, String)>,
    conditions: Vec<Condition>,
}

impl Query {
    fn add(&mut self, name: &'static str, value: String, condition: impl Fn(&Record) -> bool + 'static) {
        self.parameters.push((name, value));
        self.conditions.push(Box::new(condition));
    }

    /// Times on, and just beside, the times of records.
    fn add_times(&mut self, random: &mut Rng, records: &[Record]) {
        for name in ["from", "to"] {
            if random.bool() {
                let ms = records[random.usize(..records.len())].ms + random.i64(-1..=1);
                let from = name == "from";
                self.add(name, text(ms), move |record| if from { record.ms >= ms } else { record.ms < ms });
            }
        }
    }

    fn of_records(random: &mut Rng, records: &[Record]) -> Self {
        let mut query = Self::default();
        if random.u8(..3) == 0 {
            let session = any(random, &SESSIONS);
            query.add("session_id", session.to_owned(), move |record| record.session == session);
        }
        if random.u8(..3) == 0 {
            let domain = any(random, &DOMAINS);
            query.add("domain", domain.to_owned(), move |record| record.domain == domain);
        }
        if random.u8(..4) == 0 {
            let event = any(random, &EVENT_NAMES);
            query.add("event", event.to_owned(), move |record| record.event == event);
        }
        if random.u8(..4) == 0 {
            let outcome = any(random, &OUTCOMES);
            query.add("outcome", outcome.to_owned(), move |record| record.outcome == outcome);
        }
        if random.u8(..4) == 0 {
            let changed = random.bool();
            query.add("payload_changed", changed.to_string(), move |record| record.payload_changed == changed);
        }
        query.add_times(random, records);
        query
    }

    fn of_tickets(random: &mut Rng, records: &[Record]) -> Self {
        let mut query = Self::default();
        if random.bool() {
            let open = random.bool();
            let status = if open { "open" } else { "closed" };
            let is = move |record: &Record| record.ticket.as_ref().is_some_and(|(_, is_open)| *is_open == open);
            query.add("status", status.to_owned(), is);
        }
        if random.bool() {
            let domain = any(random, &DOMAINS);
            query.add("domain", domain.to_owned(), move |record| record.domain == domain);
        }
        query.add_times(random, records);
        query
    }

    fn shows(&self, record: &Record) -> bool {
        self.conditions.iter().all(|condition| condition(record))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_queries_over_random_records_show_what_a_plain_filter_would() {
    let seed = std::env::var("OPSHOOK_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("OPSHOOK_TEST_SEED={seed}");
    let random = &mut Rng::with_seed(seed);
    let desk = Desk::start().await;
    let mut records = fill(&desk, random).await;
    for number in 0..60 {
        let mut query = Query::of_records(random, &records);
        let mut expected: Vec<&Record> = records.iter().filter(|record| query.shows(record)).collect();
        if any(random, &["asc", "desc"]) == "asc" {
            query.parameters.push(("order", "asc".to_owned()));
        } else {
            expected.reverse();
        }
        let parameters: Vec<(&str, &str)> =
            query.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let most = any(random, &[9, 50, 500]);
        let (items, _) = desk.pages(EVENTS, &parameters, || random.usize(1..=most)).await;
        let wanted: Vec<&str> = expected.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids(&items), wanted, "query {number}: {parameters:?}");
        for (item, record) in items.iter().zip(expected) {
            let found =
                ["event", "session_id", "domain", "outcome", "received_at"].map(|name| item[name].as_str().unwrap());
            assert_eq!(found, [record.event, record.session, record.domain, record.outcome, &text(record.ms)]);
            assert_eq!(item["payload_changed"], record.payload_changed, "{item}");
        }
    }
    for (id, open) in records.iter_mut().filter_map(|record| record.ticket.as_mut()) {
        if random.bool() {
            *open = false;
            let reply = desk.call(Method::PATCH, &format!("{TICKETS}/{id}"), &[], r#"{"status":"closed"}"#).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }
    for number in 0..30 {
        let query = Query::of_tickets(random, &records);
        let parameters: Vec<(&str, &str)> =
            query.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (items, _) = desk.pages(TICKETS, &parameters, || random.usize(1..=5)).await;
        let tickets = records.iter().rev().filter(|record| record.ticket.is_some() && query.shows(record));
        let wanted: Vec<&str> = tickets.map(|record| record.id.as_str()).collect();
        assert_eq!(ids(&items), wanted, "tickets {number}: {parameters:?}");
    }
}
