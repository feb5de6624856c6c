//! What a page costs does not grow with the table (contract §4). The engine's answers say how many items it read.
//!
//! The table has 20,000 records here; `OPSHOOK_TEST_RECORDS=200000` makes it as large as the promise says.

use std::sync::Arc;

use contract::event::{Domain, EventName, SessionId};
use dynoxide::{AttributeValue, ImportOptions, Item};
use jiff::Timestamp;
use serde_json::json;
use store::pages::{Order, PageRequest, RecordFilter};
use store::{Deadline, Store};

use crate::counting::{Counting, Tables};
use crate::harness::{Server, account_created, deliver_to, settings, store};

/// Time between two records: some 2,000 a day.
const STEP_MS: i64 = 43_210;
const PER_IMPORT: usize = 5_000;

/// A table of event records: a quarter of them has the same session and domain, a quarter no session, a quarter no
/// domain.
struct Table {
    counting: Counting,
    store: Store,
    end_ms: i64,
}

impl Table {
    async fn with(records: usize) -> Self {
        let counting = Counting::start().await;
        let store = store(&settings(counting.addr, &[])).await;
        store.create_tables(store::tables::ALL).await.unwrap();
        let template = template(&counting).await;
        let end_ms = Timestamp::now().as_millisecond();
        let first_ms = end_ms - i64::try_from(records).unwrap() * STEP_MS;
        let started = std::time::Instant::now();
        let tables = Arc::clone(&counting.tables);
        tokio::task::spawn_blocking(move || fill(&tables, &template, first_ms, records)).await.unwrap();
        println!("{records} records filled in {:?}", started.elapsed());
        Self { counting, store, end_ms }
    }

    /// A page of 50: how many items the engine read for it, how many operations there were, and how many it shows.
    async fn page(&self, filter: &RecordFilter, cursor: Option<&str>) -> (usize, usize, usize, Option<String>) {
        self.counting.tables.reset();
        let now = Timestamp::from_millisecond(self.end_ms).unwrap();
        let deadline = Deadline::within(std::time::Duration::from_secs(30));
        let page = self.store.records(filter, PageRequest { limit: 50, cursor, now, deadline }).await.unwrap();
        let (items, operations) = self.counting.tables.read();
        (items, operations, page.items.len(), page.next_cursor)
    }
}

/// A row that receive wrote: the others are made after it.
async fn template(counting: &Counting) -> Item {
    let receive = Server::receive(settings(counting.addr, &[("TICKET_EVENTS", "other.event")])).await;
    let reply = deliver_to(receive.addr, &account_created("a-session", "a.example")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    receive.stop().await;
    let id = reply.body["event_id"].as_str().unwrap().to_owned();
    let key = json!({"TableName": "opshook_webhook_events", "Key": {"pk": {"S": id}}});
    let row: Item = serde_json::from_value(counting.tables.operation("GetItem", &key)["Item"].take()).unwrap();
    // If the store writes its keys in another way by now, the fill below has to follow.
    let mut again = row.clone();
    set_keys(&mut again, &id, "a-session", "a.example");
    assert_eq!(again, row);
    row
}

/// Gives a row its id, session and domain, and the index keys that follow from them.
fn set_keys(row: &mut Item, id: &str, session: &str, domain: &str) {
    let shard = id.bytes().last().unwrap() % 4;
    let ms = i64::from_str_radix(&id.replace('-', "")[..12], 16).unwrap();
    let key = |value: &str| if value.is_empty() { format!("none#{shard}") } else { format!("={value}") };
    let values = [
        ("pk", id.to_owned()),
        ("event_id", id.to_owned()),
        ("session_id", session.to_owned()),
        ("domain", domain.to_owned()),
        ("session_key", key(session)),
        ("domain_key", key(domain)),
        ("day_key", format!("{}#{shard}", day(ms))),
    ];
    for (name, value) in values {
        row.insert(name.to_owned(), AttributeValue::S(value));
    }
}

fn day(ms: i64) -> String {
    Timestamp::from_millisecond(ms).unwrap().to_string()[..10].to_owned()
}

/// A UUIDv7 of a time.
fn id_at(ms: i64, random: &mut fastrand::Rng) -> String {
    let (a, b, c) = (random.u16(..0x1000), random.u16(..0x4000) | 0x8000, random.u64(..1 << 48));
    let time = format!("{ms:012x}");
    format!("{}-{}-7{a:03x}-{b:04x}-{c:012x}", &time[..8], &time[8..])
}

fn fill(tables: &Tables, template: &Item, first_ms: i64, records: usize) {
    let mut random = fastrand::Rng::with_seed(9);
    let mut ms = first_ms;
    let numbers: Vec<usize> = (0..records).collect();
    for numbers in numbers.chunks(PER_IMPORT) {
        let rows = numbers.iter().map(|number| {
            let (session, domain) = match number % 4 {
                0 => ("one-session".to_owned(), "one.example".to_owned()),
                1 => (String::new(), format!("d{number}.example")),
                2 => (format!("s{number}"), String::new()),
                _ => (format!("s{number}"), format!("d{number}.example")),
            };
            let mut row = template.clone();
            set_keys(&mut row, &id_at(ms, &mut random), &session, &domain);
            ms += STEP_MS;
            row
        });
        tables.db.import_items("opshook_webhook_events", rows.collect(), ImportOptions::default()).unwrap();
    }
    let note = json!({"pk": {"S": "first_day"}, "day": {"S": day(first_ms)}});
    tables.operation("PutItem", &json!({"TableName": "opshook_webhook_events", "Item": note}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_page_of_50_reads_does_not_grow_with_the_table() {
    let records = std::env::var("OPSHOOK_TEST_RECORDS").map_or(20_000, |count| count.parse().unwrap());
    let session = |text: &str| RecordFilter { session_id: Some(SessionId::parse(text).unwrap()), ..Default::default() };
    let domain = |text: &str| RecordFilter { domain: Some(Domain::parse(text).unwrap()), ..Default::default() };
    let rare = EventName::parse("never.seen").unwrap();
    let lists = [
        ("by session", session("one-session"), 1),
        ("without a session", session(""), 4),
        ("by domain", domain("one.example"), 1),
        ("without a domain", domain(""), 4),
        ("by time", RecordFilter::default(), 4),
    ];
    let (small, large) = (Table::with(2_000).await, Table::with(records).await);
    for (name, filter, shards) in lists {
        for order in [Order::Descending, Order::Ascending] {
            let filter = RecordFilter { order, ..filter.clone() };
            let mut read = [Vec::new(), Vec::new()];
            for (read, table) in read.iter_mut().zip([&small, &large]) {
                let mut cursor = None;
                for _ in 0..4 {
                    let (items, operations, shown, next) = table.page(&filter, cursor.as_deref()).await;
                    assert_eq!(shown, 50, "{name}");
                    read.push((items, operations));
                    cursor = next;
                }
            }
            println!("{name}, {order:?}: (items, operations) of 2,000: {:?}, of {records}: {:?}", read[0], read[1]);
            // Of one partition it is one more than is shown, and then the records themselves. Of four it is each one's
            // share, and for some of them twice that again.
            let bound = if shards == 1 { 52 + 50 } else { 52 + 4 * 26 + 50 };
            assert!(read.iter().flatten().all(|(items, _)| (51 + 50..=bound).contains(items)), "{name}: {read:?}");
            let sums = read.map(|pages| pages.iter().map(|(items, _)| items).sum::<usize>());
            assert!(sums[0].abs_diff(sums[1]) <= sums[0] / 4, "{name}: {sums:?}");
        }
        // What matches nothing reads what it may, and no more.
        let filter = RecordFilter { event: Some(rare.clone()), ..filter };
        let (items, operations, shown, next) = large.page(&filter, None).await;
        println!("{name}, matching nothing: {items} items, {operations} operations");
        assert!(items <= 1_000 + 1 && shown == 0 && next.is_some(), "{name}: {items} items");
    }
}
