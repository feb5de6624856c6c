//! Storage on bad days: answers lost after the write took effect, AWS's own errors, an engine that is started again.
//! `OPSHOOK_TEST_SEED` repeats a plan; each test prints its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::{Engine, Storage};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::dynamo::Dynamo;
use crate::harness::{
    EMIT, EVENTS, ONBOARD, Reply, Server, Settings, TICKETS, TOKEN, World, account_created, call, engine, eventually,
    get, new_id, post, settings, signed, store,
};
use crate::proxy::{Call, Fault, Proxy, Refusal, bad_days, pass};

/// Faults after which the write has taken effect, and the store can't know.
const LOST: [Fault; 6] = [
    Fault::LoseAnswer,
    Fault::CutAnswer,
    Fault::Late(Duration::from_millis(5)),
    Fault::RefuseAfter(Refusal::Internal),
    Fault::RefuseAfter(Refusal::Unavailable),
    Fault::RefuseAfter(Refusal::Throttling),
];

/// All functions on one engine behind a proxy, and emit-retry's deliveries behind another.
pub struct Site {
    pub world: World,
    pub storage: Proxy,
    pub ops: Proxy,
}

impl Site {
    pub async fn start() -> Self {
        let engine = engine().await;
        let storage = Proxy::start(engine.addr(), pass()).await;
        let settings = settings(storage.addr, &[]);
        Self::with(engine, storage, settings).await
    }

    /// The functions on the engine at `address`, with nothing in between. The world's own engine stands aside.
    pub async fn direct(address: SocketAddr) -> Self {
        Self::with(engine().await, Proxy::start(address, pass()).await, settings(address, &[])).await
    }

    async fn with(engine: Dynamo, storage: Proxy, settings: Settings) -> Self {
        let receive = Server::receive(settings.clone()).await;
        let query = Server::query(settings.clone()).await;
        let ops = Proxy::start(receive.addr, pass()).await;
        let mut emit_settings = settings.clone();
        emit_settings.insert("OPS_WEBHOOK_URL".to_owned(), format!("http://{}{ONBOARD}", ops.addr));
        let emit = Server::emit(emit_settings).await;
        Self { world: World { settings, receive, query, emit, engine }, storage, ops }
    }

    /// The calls that match meet that fault the first `times` times each.
    fn hit(&self, times: u32, fault: Fault, matches: impl Fn(&Call) -> bool + Send + 'static) {
        self.storage.set_plan(move |call| if call.before < times && matches(call) { fault } else { Fault::Pass });
    }

    pub async fn emit(&self, event: &str, key: Option<&str>) -> Reply {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        post(&self.world.emit.url(EMIT), &headers, event.to_owned()).await
    }

    /// The message once it is delivered: before a lease that nobody knows of would have run out.
    pub async fn delivered(&self, webhook_id: &str) -> Value {
        let url = self.world.emit.url(&format!("/api/v1/outbox/{webhook_id}"));
        eventually(10, "delivered", async || {
            let message = get(&url, &[]).await.body;
            (message["state"] == "delivered").then_some(message)
        })
        .await
    }

    async fn records(&self, session: &str) -> Vec<Value> {
        self.world.all(&format!("{EVENTS}?session_id={session}")).await
    }
}

fn is_ticket_put(call: &Call) -> bool {
    call.is("PutItem", "attribute_not_exists(pk)") && call.body.contains("opshook_webhook_events")
}

fn is_record_put(call: &Call) -> bool {
    call.is("PutItem", "opshook_webhook_events") && !call.body.contains("ConditionExpression")
}

fn is_accept(call: &Call) -> bool {
    call.is("PutItem", "opshook_outbox")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_writes_lost_their_answers_is_answered_as_what_it_became_and_has_one_record() {
    let site = Site::start().await;
    site.hit(2, Fault::LoseAnswer, |call| call.is("UpdateItem", "first_day"));
    assert_eq!(site.world.deliver(&account_created("first", "")).await.status, 201);
    for (number, fault) in LOST.into_iter().enumerate() {
        for times in [1, 3] {
            let session = format!("onb-{number}-{times}");
            let event = account_created(&session, "example.com");
            site.hit(times, fault, is_ticket_put);
            let created = site.world.deliver(&event).await;
            assert_eq!((created.status, created.body["outcome"].as_str()), (201, Some("ticket_created")), "{fault:?}");
            let ticket = format!("{TICKETS}/{}", created.body["ticket_id"].as_str().unwrap());
            assert_eq!(site.world.ops(&ticket).await.body["event_id"], created.body["event_id"], "{fault:?}");
            assert_eq!(site.records(&session).await.len(), 1, "{fault:?}");

            site.hit(times, fault, is_record_put);
            let again = site.world.deliver(&event).await;
            assert_eq!((again.status, again.body["outcome"].as_str()), (200, Some("duplicate")), "{fault:?}");
            let other = json!({"event": "dns.applied", "session_id": session}).to_string();
            let other = site.world.deliver(&other).await;
            assert_eq!((other.status, other.body["outcome"].as_str()), (200, Some("recorded")), "{fault:?}");
            let records = site.records(&session).await;
            let ids: Vec<&Value> = records.iter().map(|record| &record["event_id"]).collect();
            let newest_first = [&other.body["event_id"], &again.body["event_id"], &created.body["event_id"]];
            assert_eq!(ids, newest_first, "{fault:?}");
            assert_eq!(site.world.ops(&ticket).await.body["event_id"], created.body["event_id"], "{fault:?}");
        }
    }
    for fault in LOST {
        assert!(site.storage.count(fault) >= 12, "{:?}", site.storage.counts());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_storage_refused_for_now_is_made_again_and_serves() {
    let site = Site::start().await;
    let faults = Refusal::ALL.map(Fault::Refuse).into_iter().chain([Fault::CutRequest]);
    for (number, fault) in faults.enumerate() {
        let event = account_created(&format!("onb-{number}"), "example.com");
        site.hit(3, fault, |call| call.is("PutItem", "opshook_webhook_events"));
        let replies = [site.world.deliver(&event).await, site.world.deliver(&event).await];
        assert_eq!(replies.each_ref().map(|reply| reply.status), [201, 200], "{fault:?}");
        assert_eq!(site.storage.count(fault), 9, "the ticket's put twice, the duplicate's once, three times each");
    }
    // A call that hangs is given up in time for another.
    site.hit(1, Fault::Hang, is_ticket_put);
    let begun = Instant::now();
    assert_eq!(site.world.deliver(&account_created("onb-hang", "")).await.status, 201);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_acceptance_lost_its_answer_is_accepted_and_delivered_once() {
    let site = Site::start().await;
    for (number, fault) in LOST.into_iter().enumerate() {
        let session = format!("onb-{number}");
        let event = account_created(&session, "");
        site.hit(3, fault, is_accept);
        let accepted = site.emit(&event, None).await;
        assert_eq!((accepted.status, accepted.body["state"].as_str()), (202, Some("pending")), "{fault:?}");
        let message = site.delivered(accepted.body["webhook_id"].as_str().unwrap()).await;
        assert_eq!((&message["attempts_total"], &message["attempts"][0]["status"]), (&json!(1), &json!(201)));

        let key = format!("key-{number}");
        let keyed = site.emit(&event, Some(&key)).await;
        assert_eq!((keyed.status, keyed.body["state"].as_str()), (202, Some("pending")), "{fault:?}");
        let id = keyed.body["webhook_id"].as_str().unwrap();
        assert_eq!(site.delivered(id).await["attempts_total"], 1);
        let again = site.emit(&event, Some(&key)).await;
        assert_eq!((again.status, again.body), (202, json!({"webhook_id": id, "state": "delivered"})), "{fault:?}");
        let other = site.emit(&account_created("another", ""), Some(&key)).await;
        other.assert_problem(422, "idempotency_mismatch");
        assert_eq!(site.delivered(id).await["attempts_total"], 1);
        assert_eq!(site.records(&session).await.len(), 2, "{fault:?}");
    }
    assert_eq!(site.world.all(TICKETS).await.len(), LOST.len());
    assert_eq!(site.ops.counts(), BTreeMap::from([("Pass".to_owned(), 12)]), "deliveries that left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_and_an_outcome_that_lost_their_answers_count_once() {
    let site = Site::start().await;
    // Once one is delivered, emit-retry knows that the endpoint works, and leases new ones to itself.
    let first = site.emit(&account_created("first", ""), None).await;
    site.delivered(first.body["webhook_id"].as_str().unwrap()).await;
    // Each message fails once, so that it has to be claimed; each of its writes meets each of the faults in turn.
    site.ops.set_plan(|call| if call.before == 0 { Fault::Refuse(Refusal::Internal) } else { Fault::Pass });
    let mut turn = 0;
    site.storage.set_plan(move |call| {
        let is_message = call.body.contains("opshook_outbox") && !call.body.contains(r#"{"S":"endpoint"}"#);
        if call.operation != "UpdateItem" || !is_message || call.before >= 2 {
            return Fault::Pass;
        }
        turn += 1;
        LOST[turn % LOST.len()]
    });
    // Five that fail in a row would count as an endpoint that is down.
    for group in 0..3 {
        let mut ids = Vec::new();
        for number in 0..4 {
            let accepted = site.emit(&account_created(&format!("onb-{group}-{number}"), ""), None).await;
            ids.push(accepted.body["webhook_id"].as_str().unwrap().to_owned());
        }
        for id in &ids {
            let message = site.delivered(id).await;
            let attempts = message["attempts"].as_array().unwrap();
            let statuses: Vec<Value> = attempts.iter().map(|attempt| attempt["status"].clone()).collect();
            assert_eq!((json!(statuses), &message["attempts_total"]), (json!([500, 201]), &json!(2)), "{message}");
        }
    }
    // The failure, the claim and the delivery of each, twice; the last one may be on its way still.
    let faults = || LOST.map(|fault| site.storage.count(fault)).iter().sum::<u32>();
    eventually(5, "all faults", async || (faults() >= 12 * 3 * 2).then_some(())).await;
    assert_eq!(faults(), 12 * 3 * 2, "{:?}", site.storage.counts());
    assert_eq!(site.ops.count(Fault::Pass), 13, "deliveries that arrived");
    assert_eq!(site.world.all(EVENTS).await.len(), 13);
}

/// One delivery and what its sender saw: the last answer, and how often a 503 came before it.
struct Sent {
    triple: usize,
    webhook_id: String,
    answer: Value,
    status: u16,
    refusals: usize,
}

const TRIPLES: usize = 60;
const DELIVERIES: usize = 300;
const SENDERS: usize = 16;

/// Sends 60 triples five times each, mixed, `SENDERS` at a time. `refused` hears of each 503, from when to when it was
/// asked for; what it returns without a panic is sent again under the same id.
async fn send_all(site: &Site, progress: &AtomicUsize, refused: impl Fn(Instant, Instant)) -> Vec<Sent> {
    let sent = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let sender = async || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= DELIVERIES {
            return;
        }
        let triple = number % TRIPLES;
        let domain = ["", "a.example", "b.example"][triple % 3];
        let event = account_created(&format!("onb-{}", triple / 3), domain);
        let webhook_id = new_id();
        let mut refusals = 0;
        let end = Instant::now() + Duration::from_secs(30);
        let reply = loop {
            assert!(Instant::now() < end, "it is refused for ever");
            let headers = signed(&webhook_id, event.as_bytes());
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let begun = Instant::now();
            let reply = post(&site.world.receive.url(ONBOARD), &headers, event.clone()).await;
            if reply.status != 503 {
                break reply;
            }
            refusals += 1;
            refused(begun, Instant::now());
        };
        progress.fetch_add(1, Ordering::Relaxed);
        let Reply { status, body: answer, .. } = reply;
        sent.lock().unwrap().push(Sent { triple, webhook_id, answer, status, refusals });
    };
    futures_util::future::join_all((0..SENDERS).map(|_| sender())).await;
    sent.into_inner().unwrap()
}

/// What must hold whatever happened: see the names.
async fn assert_sound(site: &Site, sent: &[Sent]) {
    let records = site.world.all(EVENTS).await;
    let tickets = site.world.all(TICKETS).await;
    let records: HashMap<&str, &Value> = records.iter().map(|r| (r["event_id"].as_str().unwrap(), r)).collect();
    let tickets: HashMap<&str, &Value> = tickets.iter().map(|t| (t["ticket_id"].as_str().unwrap(), t)).collect();

    // Each answer is true, and stays true.
    let mut ticket_of_triple = BTreeMap::<usize, BTreeSet<&str>>::new();
    for one in sent {
        assert!(matches!(one.status, 200 | 201), "{} {}", one.status, one.answer);
        let record = records[one.answer["event_id"].as_str().unwrap()];
        let ticket_id = one.answer["ticket_id"].as_str().unwrap();
        assert_eq!(record["webhook_id"], one.webhook_id);
        assert_eq!((&record["outcome"], &record["ticket_id"]), (&one.answer["outcome"], &one.answer["ticket_id"]));
        assert_eq!(one.status == 201, one.answer["outcome"] == "ticket_created");
        assert_eq!(one.status == 201, tickets[ticket_id]["event_id"] == one.answer["event_id"]);
        ticket_of_triple.entry(one.triple).or_default().insert(ticket_id);
    }
    // One ticket for each triple, and none for two.
    assert_eq!((tickets.len(), ticket_of_triple.len()), (TRIPLES, TRIPLES));
    assert!(ticket_of_triple.values().all(|ids| ids.len() == 1));
    assert_eq!(ticket_of_triple.values().flatten().collect::<BTreeSet<_>>().len(), TRIPLES);

    // Who opened a ticket was told so, unless its answer was lost.
    let refused: BTreeSet<&str> = sent.iter().filter(|s| s.refusals > 0).map(|s| s.webhook_id.as_str()).collect();
    for (ticket_id, ticket) in &tickets {
        let opener = records[ticket["event_id"].as_str().unwrap()];
        assert_eq!((&opener["outcome"], &opener["ticket_id"]), (&json!("ticket_created"), &json!(ticket_id)));
        for part in ["event", "session_id", "domain"] {
            assert_eq!(opener[part], ticket[part]);
        }
        let told = sent.iter().any(|one| one.status == 201 && one.answer["event_id"] == ticket["event_id"]);
        assert!(told || refused.contains(opener["webhook_id"].as_str().unwrap()), "{opener}");
    }
    let created = records.values().filter(|record| record["outcome"] == "ticket_created");
    assert_eq!(created.count(), TRIPLES, "a record says created that no ticket is of");
    // A delivery that was answered 503 may have been recorded all the same.
    let unanswered = records.len() - sent.len();
    assert!(unanswered <= sent.iter().map(|one| one.refusals).sum(), "{unanswered} records that nobody sent");
}

fn seed() -> u64 {
    let seed = std::env::var("OPSHOOK_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("OPSHOOK_TEST_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_fault_on_three_of_ten_calls_every_delivery_is_answered_and_each_triple_has_its_one_ticket() {
    let site = Site::start().await;
    let mut plan = bad_days(seed(), 0.3);
    site.storage.set_plan(move |call| plan(call));
    let begun = Instant::now();
    let sent =
        send_all(&site, &AtomicUsize::new(0), |_, _| panic!("a 503 though trying again would have served")).await;
    eprintln!("{DELIVERIES} deliveries in {:?}, calls: {:?}", begun.elapsed(), site.storage.counts());
    let closed = close_some(&site).await;
    let again =
        send_all(&site, &AtomicUsize::new(0), |_, _| panic!("a 503 though trying again would have served")).await;
    assert!(again.iter().all(|one| one.status == 200), "all tickets were there");
    site.storage.set_plan(|_| Fault::Pass);
    let sent: Vec<Sent> = sent.into_iter().chain(again).collect();
    assert_sound(&site, &sent).await;
    assert_eq!(site.world.all(EVENTS).await.len(), sent.len(), "exactly one record for each delivery");
    for ticket in closed {
        let now = site.world.ops(&format!("{TICKETS}/{}", ticket["ticket_id"].as_str().unwrap())).await.body;
        assert_eq!(now, ticket, "a ticket was overwritten");
    }
}

/// Closes every third ticket, faults or not; how they are then.
async fn close_some(site: &Site) -> Vec<Value> {
    let token = format!("Bearer {TOKEN}");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let mut closed = Vec::new();
    for ticket in site.world.all(TICKETS).await.iter().step_by(3) {
        let url = site.world.query.url(&format!("{TICKETS}/{}", ticket["ticket_id"].as_str().unwrap()));
        let reply = call(reqwest::Method::PATCH, &url, &headers, r#"{"status":"closed"}"#).await;
        assert_eq!((reply.status, reply.body["status"].as_str()), (200, Some("closed")), "{reply:?}");
        closed.push(reply.body);
    }
    closed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_faults_and_the_engine_started_again_in_between_nothing_is_lost_doubled_or_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Engine::start(Storage::Directory(dir.path().to_owned()), "127.0.0.1:0".parse().unwrap());
    let mut engine = open().await.unwrap();
    store(&settings(engine.addr(), &[])).await.create_tables(store::tables::ALL).await.unwrap();
    // The world's own engine stands aside; the functions speak to the proxy alone.
    let site = Site::start().await;
    site.storage.point_at(engine.addr());
    let mut plan = bad_days(seed(), 0.3);
    site.storage.set_plan(move |call| plan(call));

    let progress = AtomicUsize::new(0);
    let outages = Mutex::new(Vec::<(Instant, Option<Instant>)>::new());
    let (begun, refusals) = (Instant::now(), AtomicUsize::new(0));
    let restarts = async {
        for mark in [50, 120, 190, 260] {
            eventually(30, "progress", async || (progress.load(Ordering::Relaxed) >= mark).then_some(())).await;
            outages.lock().unwrap().push((Instant::now(), None));
            engine.stop().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            engine = open().await.unwrap();
            site.storage.point_at(engine.addr());
            outages.lock().unwrap().last_mut().unwrap().1 = Some(Instant::now());
        }
        engine
    };
    let sending = send_all(&site, &progress, |from, to| {
        refusals.fetch_add(1, Ordering::Relaxed);
        let overlaps = |(begin, end): &(Instant, Option<Instant>)| to >= *begin && end.is_none_or(|end| from <= end);
        let in_outage = outages.lock().unwrap().iter().any(overlaps);
        assert!(in_outage && to - from > Duration::from_millis(1_500), "a 503 though trying again would have served");
    });
    let (sent, engine) = tokio::join!(sending, restarts);
    let longest = outages.lock().unwrap().iter().map(|(from, to)| to.unwrap() - *from).max();
    eprintln!(
        "{DELIVERIES} deliveries in {:?}, {refusals:?} times 503, longest outage {longest:?}, calls: {:?}",
        begun.elapsed(),
        site.storage.counts()
    );
    site.storage.set_plan(|_| Fault::Pass);
    assert_sound(&site, &sent).await;
    engine.stop().await;
}
