//! What a page of the outbox costs does not grow with the outbox. The engine's answers say how many items it read.

use std::sync::Arc;
use std::time::Duration;

use contract::event::SessionId;
use contract::wire::{Level, MessageState};
use dynoxide::{ImportOptions, Item};
use jiff::Timestamp;
use store::outbox::{ActivityFilter, MessageFilter};
use store::pages::PageRequest;
use store::{Deadline, Store};

use super::{Row, entry, message, now_ms};
use crate::counting::Counting;
use crate::harness::{settings, store};

/// So many messages, nine of ten delivered, and a tenth as many entries, all `info`, on an engine that counts.
async fn filled(messages: i64) -> (Counting, Store) {
    let counting = Counting::start().await;
    let store = store(&settings(counting.addr, &[])).await;
    store.create_tables(store::tables::ALL).await.unwrap();
    let tables = Arc::clone(&counting.tables);
    let start = now_ms() - messages * 1_000;
    tokio::task::spawn_blocking(move || {
        let session = |place: i64| if place % 2 == 0 { "s1" } else { "" };
        let messages = (0..messages).map(|place| {
            let state = if place % 10 == 0 {
                ["pending", "dead"][usize::try_from(place % 4 / 2).unwrap()]
            } else {
                "delivered"
            };
            message(start + place * 1_000, state, session(place), None)
        });
        let rows = messages.flat_map(|row| {
            let entry = (row.ms / 1_000 % 10 == 0).then(|| entry(row.ms, "info", row.session, 1_000_000));
            [Some(row), entry].into_iter().flatten()
        });
        let items: Vec<Item> = rows.map(|Row { stored, .. }| serde_json::from_value(stored).unwrap()).collect();
        for items in items.chunks(5_000) {
            tables.db.import_items(super::TABLE, items.to_vec(), ImportOptions::default()).unwrap();
        }
    })
    .await
    .unwrap();
    (counting, store)
}

fn request(cursor: Option<&str>) -> PageRequest<'_> {
    PageRequest { limit: 50, cursor, now: Timestamp::now(), deadline: Deadline::within(Duration::from_secs(30)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_page_of_50_reads_does_not_grow_with_the_outbox() {
    let session = |text: &str| Some(SessionId::parse(text).unwrap());
    let lists = [
        ("all", MessageFilter::default(), 16),
        ("by state", MessageFilter { state: Some(MessageState::Delivered), ..Default::default() }, 4),
        ("by session", MessageFilter { session_id: session("s1"), ..Default::default() }, 1),
        ("without a session", MessageFilter { session_id: session(""), ..Default::default() }, 4),
    ];
    let (small, large) = (filled(2_000).await, filled(20_000).await);
    for (name, filter, partitions) in lists {
        let mut read = [Vec::new(), Vec::new()];
        for (read, (counting, store)) in read.iter_mut().zip([&small, &large]) {
            let mut cursor = None;
            for _ in 0..4 {
                counting.tables.reset();
                let page = store.messages(&filter, request(cursor.as_deref())).await.unwrap();
                assert_eq!(page.items.len(), 50, "{name}");
                read.push(counting.tables.read());
                cursor = page.next_cursor;
            }
        }
        println!("{name}: (items, operations) of 2,000: {:?}, of 20,000: {:?}", read[0], read[1]);
        // One more than is shown and where the last page ended, what is read ahead of the merge, and the messages.
        let ahead = if partitions == 1 { 0 } else { 160 };
        assert!(read.iter().flatten().all(|(items, _)| *items <= 52 + ahead + 50), "{name}: {read:?}");
        let sums = read.map(|pages| pages.iter().map(|(items, _)| items).sum::<usize>());
        assert!(sums[0].abs_diff(sums[1]) <= sums[0] / 4, "{name}: {sums:?}");
    }
    // What matches nothing reads what it may, and no more.
    let (counting, store) = &large;
    for session_id in [session("s1"), session("")] {
        counting.tables.reset();
        let filter = MessageFilter { session_id, state: Some(MessageState::Parked), ..Default::default() };
        let page = store.messages(&filter, request(None)).await.unwrap();
        let (items, operations) = counting.tables.read();
        println!("matching nothing: {items} items, {operations} operations");
        assert!(items <= 1_000 && page.items.is_empty() && page.next_cursor.is_some());
    }
    counting.tables.reset();
    let filter = ActivityFilter { level: Some(Level::Warn), ..Default::default() };
    let page = store.activities(&filter, request(None)).await.unwrap();
    let (items, _) = counting.tables.read();
    assert!(items <= 1_000 && page.items.is_empty() && page.next_cursor.is_some(), "{items} {page:?}");
    // What a drain takes.
    counting.tables.reset();
    let now = Timestamp::now();
    let some = store.oldest_pending(None, 32, now, Deadline::within(Duration::from_secs(30))).await.unwrap();
    let (items, operations) = counting.tables.read();
    println!("the oldest 32: {items} items, {operations} operations");
    assert!(some.len() == 32 && items <= 32 + 4 * 18);
}
