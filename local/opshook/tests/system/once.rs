//! One event, one ticket: however often and over whatever it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::{Barrier, Mutex};
use tokio::time::Instant;

use crate::harness::{EVENTS, ONBOARD, Server, TICKETS, TOKEN, World, account_created, call, new_id, signed};
use crate::process::{Process, function_binary};
use crate::proxy::Wire;

const DELIVERIES: usize = 1_000;
const CONNECTIONS: usize = 64;

/// One delivery, from its sender's side.
struct Delivered {
    webhook_id: String,
    sent: Instant,
    answered: Instant,
    status: u16,
    body: Value,
}

impl Delivered {
    fn event_id(&self) -> &str {
        self.body["event_id"].as_str().unwrap()
    }
}

/// Sends one body `DELIVERIES` times over `CONNECTIONS` connections that all begin at once, spread over the receives.
async fn storm(receives: &[SocketAddr], body: &str) -> Vec<Delivered> {
    // One at a time: a build without optimisation is slow, and each delivery has 2 s.
    static ALONE: Mutex<()> = Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let begin = Arc::new(Barrier::new(CONNECTIONS));
    let next = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|place| {
            let (begin, next) = (Arc::clone(&begin), Arc::clone(&next));
            let (receive, body) = (receives[place % receives.len()], body.to_owned());
            tokio::spawn(async move {
                let mut wire = Wire::connect(receive).await.unwrap();
                begin.wait().await;
                let mut delivered = Vec::new();
                while next.fetch_add(1, Ordering::Relaxed) < DELIVERIES {
                    delivered.push(deliver(&mut wire, receive, &body).await);
                }
                delivered
            })
        })
        .collect();
    let mut all = Vec::new();
    for sender in senders {
        all.extend(sender.await.unwrap());
    }
    all
}

async fn deliver(wire: &mut Wire, receive: SocketAddr, body: &str) -> Delivered {
    let webhook_id = new_id();
    let mut request = format!("POST {ONBOARD} HTTP/1.1\r\nhost: {receive}\r\n");
    for (name, value) in signed(&webhook_id, body.as_bytes()) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let sent = Instant::now();
    // The connection has to stay: an error here is one of the 64 that was closed.
    let answer = wire.exchange(request.as_bytes()).await.unwrap();
    let answered = Instant::now();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(matches!(answer.status(), 200 | 201), "{} after {:?}: {body}", answer.status(), answered - sent);
    Delivered { webhook_id, sent, answered, status: answer.status(), body }
}

/// What must hold after `DELIVERIES` of one event, from the answers and from what ops can read.
async fn assert_one_ticket(world: &World, delivered: &[Delivered]) {
    let mut answers = BTreeMap::new();
    for one in delivered {
        *answers.entry((one.status, one.body["outcome"].as_str().unwrap())).or_insert(0) += 1;
        assert_eq!(one.body["webhook_id"], one.webhook_id);
    }
    assert_eq!(answers, BTreeMap::from([((200, "duplicate"), DELIVERIES - 1), ((201, "ticket_created"), 1)]));
    let ticket_ids: BTreeSet<&str> = delivered.iter().map(|one| one.body["ticket_id"].as_str().unwrap()).collect();
    assert_eq!(ticket_ids.len(), 1, "{ticket_ids:?}");

    let tickets = world.all(TICKETS).await;
    assert_eq!(tickets.len(), 1);
    let first = delivered.iter().find(|one| one.status == 201).unwrap();
    assert_eq!(tickets[0]["event_id"], first.event_id());
    assert_eq!(tickets[0]["ticket_id"], first.body["ticket_id"]);

    let records = world.all(EVENTS).await;
    assert_eq!(records.len(), DELIVERIES);
    let answered: BTreeMap<&str, &Delivered> = delivered.iter().map(|one| (one.event_id(), one)).collect();
    assert_eq!(answered.len(), DELIVERIES, "two deliveries have one event_id");
    for record in &records {
        let answer = answered[record["event_id"].as_str().unwrap()];
        assert_eq!(record["webhook_id"], answer.webhook_id);
        assert_eq!(record["outcome"], answer.body["outcome"]);
        assert_eq!(record["ticket_id"], first.body["ticket_id"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_deliveries_of_one_event_over_64_connections_make_one_ticket_and_a_thousand_records() {
    let world = World::start().await;
    let begun = Instant::now();
    let delivered = storm(&[world.receive.addr], &account_created("onb-1", "example.com")).await;
    eprintln!("{DELIVERIES} deliveries in {:?}", begun.elapsed());
    assert_one_ticket(&world, &delivered).await;

    // Whatever was answered before another was sent came before it, and its id says so.
    for later in &delivered {
        let earlier = delivered.iter().filter(|one| one.answered < later.sent);
        assert!(earlier.into_iter().all(|one| one.event_id() < later.event_id()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_receives_on_one_engine_make_one_ticket_of_a_thousand_deliveries() {
    let world = World::start().await;
    let second = Server::receive(world.settings.clone()).await;
    let delivered = storm(&[world.receive.addr, second.addr], &account_created("onb-1", "example.com")).await;
    assert_one_ticket(&world, &delivered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_receive_processes_on_one_engine_make_one_ticket_of_a_thousand_deliveries() {
    let binary = function_binary("receive");
    let world = World::start().await;
    let mut processes = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let settings = world.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut process = Process::start(&binary, &[], settings);
        let line: Value = serde_json::from_str(&process.line_with(r#""message":"listening""#).await).unwrap();
        addresses.push(line["address"].as_str().unwrap().parse().unwrap());
        processes.push(process);
    }
    let delivered = storm(&addresses, &account_created("onb-1", "example.com")).await;
    assert_one_ticket(&world, &delivered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_ids_are_in_the_order_of_arrival_whatever_becomes_of_the_event() {
    let world = World::start().await;
    let mut wire = Wire::connect(world.receive.addr).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..200 {
        // In turn: a ticket, its duplicate, and an event that makes none.
        let body = match number % 3 {
            2 => json!({"event": "dns.applied", "session_id": "onb-1"}).to_string(),
            _ => account_created(&format!("onb-{}", number / 3), ""),
        };
        ids.push(deliver(&mut wire, world.receive.addr, &body).await.event_id().to_owned());
    }
    assert!(ids.windows(2).all(|two| two[0] < two[1]), "{ids:?}");
    let listed: Vec<Value> = world.all(&format!("{EVENTS}?order=asc")).await;
    let listed: Vec<&str> = listed.iter().map(|record| record["event_id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids);
}

/// An `account.created` with this text as its `data`.
fn with_data(data: &str) -> String {
    format!(r#"{{"event":"account.created","session_id":"onb-1","domain":"example.com","data":{data}}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_says_whether_its_data_differs_and_is_not_fooled_by_how_it_is_written() {
    let world = World::start().await;
    let first = r#"{"email":"ana@example.com","n":1.0,"deep":{"b":[1,2],"a":"ü"}}"#;
    assert_eq!(world.deliver(&with_data(first)).await.status, 201);
    let same = [
        first,
        r#"{"n":1.0,"email":"ana@example.com","deep":{"a":"ü","b":[1,2]}}"#,
        "{ \"email\" : \"ana@example.com\",\n\t\"n\":1.0, \"deep\":{\"b\":[ 1 , 2 ],\"a\":\"ü\"} }",
        r#"{"email":"\u0061na@example.com","n":1.0,"deep":{"b":[1,2],"a":"\u00fc"}}"#,
    ];
    let other = [
        r#"{"email":"ana@example.com","n":1,"deep":{"b":[1,2],"a":"ü"}}"#,
        r#"{"email":"ana@example.com","n":1.00,"deep":{"b":[1,2],"a":"ü"}}"#,
        r#"{"email":"ana@example.com","n":"1.0","deep":{"b":[1,2],"a":"ü"}}"#,
        r#"{"email":"ana@example.com","n":1.0,"deep":{"b":[2,1],"a":"ü"}}"#,
        r#"{"email":"bob@example.com","n":1.0,"deep":{"b":[1,2],"a":"ü"}}"#,
        r#"{"email":"ana@example.com","n":1.0,"deep":{"b":[1,2],"a":"ü"},"more":null}"#,
        "{}",
        "null",
    ];
    let cases = same.iter().map(|data| (*data, false)).chain(other.iter().map(|data| (*data, true)));
    for (data, changed) in cases {
        let reply = world.deliver(&with_data(data)).await;
        assert_eq!((reply.status, &reply.body["payload_changed"]), (200, &json!(changed)), "{data}");
        let record = world.ops(&format!("{EVENTS}/{}", reply.body["event_id"].as_str().unwrap())).await.body;
        assert_eq!(record["payload_changed"], changed, "{data}");
        assert_eq!(record["body"], with_data(data), "the body is kept as it came");
    }
    // It is compared with the first, not with the one before; and the ticket shows the first.
    let tickets = world.all(TICKETS).await;
    assert_eq!((tickets.len(), &tickets[0]["email"]), (1, &json!("ana@example.com")));
    let changed = world.all(&format!("{EVENTS}?payload_changed=true")).await;
    assert_eq!(changed.len(), other.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_ticket_stays_the_key_and_stays_closed() {
    let world = World::start().await;
    let event = account_created("onb-1", "example.com");
    let created = world.deliver(&event).await;
    let id = created.body["ticket_id"].as_str().unwrap().to_owned();
    let token = format!("Bearer {TOKEN}");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let url = world.query.url(&format!("{TICKETS}/{id}"));
    let closed = call(reqwest::Method::PATCH, &url, &headers, r#"{"status":"closed"}"#).await;
    assert_eq!((closed.status, closed.body["status"].as_str()), (200, Some("closed")), "{closed:?}");

    for _ in 0..2 {
        let again = world.deliver(&event).await;
        assert_eq!((again.status, again.body["outcome"].as_str()), (200, Some("duplicate")), "{again:?}");
        assert_eq!(again.body["ticket_id"], id);
    }
    let ticket = world.ops(&format!("{TICKETS}/{id}")).await.body;
    assert_eq!(ticket, closed.body, "nothing of it has changed");
    assert_eq!(world.all(TICKETS).await, [ticket]);
    assert_eq!(world.all(&format!("{TICKETS}?status=open")).await.len(), 0);
    assert_eq!(world.all(EVENTS).await.len(), 3);
}
