//! Lists over many days, and what has expired.

use super::{Desk, Receive, event, ids, text, unix_ms};
use crate::harness::{EVENTS, TICKETS};

const DAY_MS: i64 = 86_400_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_by_time_crosses_gaps_of_months_by_pages_that_may_be_empty_and_it_ends() {
    let desk = Desk::start().await;
    let (items, next) = desk.page(EVENTS, &[]).await;
    assert_eq!((items.len(), next), (0, None), "an empty table");
    let start = unix_ms("2026-01-10T23:59:59.999Z");
    // Two on each side of a midnight, and then gaps.
    let times = [0, 1, DAY_MS, 2 * DAY_MS, 33 * DAY_MS, 33 * DAY_MS + 1, 100 * DAY_MS];
    let mut all = Vec::new();
    for time in times {
        let reply = desk.receive.deliver(start + time, &event("dns.applied", "s", "", "{}")).await;
        all.push(reply.body["event_id"].as_str().unwrap().to_owned());
    }
    // Another host's clock is behind: its record comes last and is the oldest.
    let behind = Receive::start(&desk.engine, &[]).await;
    let reply = behind.deliver(start - 3 * DAY_MS, &event("dns.applied", "s", "", "{}")).await;
    all.insert(0, reply.body["event_id"].as_str().unwrap().to_owned());
    // The last 40 days are empty too.
    desk.clock.set(start + 140 * DAY_MS);
    let mut random = fastrand::Rng::with_seed(5);
    let far = [("from", "0001-01-01T00:00:00Z"), ("to", "9999-12-31T00:00:00Z")];
    let gap = [text(start + 35 * DAY_MS), text(start + 99 * DAY_MS)];
    for (order, bounds) in [("asc", &far[..]), ("desc", &[])] {
        let mut expected = all.clone();
        if order == "desc" {
            expected.reverse();
        }
        let query = [bounds, &[("order", order)]].concat();
        let (items, pages) = desk.pages(EVENTS, &query, || random.usize(1..=3)).await;
        assert_eq!(ids(&items), expected, "{query:?}");
        assert!(pages <= 144 / 31 + 1 + all.len(), "{pages} pages");
        let query = [("from", gap[0].as_str()), ("to", &gap[1]), ("order", order)];
        let (items, pages) = desk.pages(EVENTS, &query, || 500).await;
        assert_eq!((items.len(), pages), (0, 3), "64 days are 3 pages");
    }
    let (items, next) = desk.page(EVENTS, &[]).await;
    assert_eq!((items.len(), next.is_some()), (0, true), "31 days with nothing in them");
    // By session nothing is far away.
    assert_eq!(desk.page(EVENTS, &[("session_id", "s"), ("order", "asc")]).await.0.len(), all.len());
    // A record from a host whose clock is ahead is not lost.
    desk.clock.set(start + 100 * DAY_MS - 3_600_000);
    assert_eq!(ids(&desk.page(EVENTS, &[]).await.0), all[7..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_records_are_nowhere_and_tickets_with_their_records_stay() {
    let desk = Desk::with(&[("EVENT_RETENTION_DAYS", "1")]).await;
    let start = unix_ms("2026-11-20T10:00:00Z");
    let bodies = [
        event("account.created", "s", "one.example", "{}"),
        event("account.created", "s", "one.example", r#"{"a":1}"#),
        event("dns.applied", "s", "one.example", "{}"),
        event("dns.applied", "", "one.example", "{}"),
        event("dns.applied", "s", "", "{}"),
    ];
    let mut all = Vec::new();
    for (body, ms) in bodies.iter().zip(0..) {
        all.push(desk.receive.deliver(start + ms, body).await.body);
    }
    let id = |place: usize| all[place]["event_id"].as_str().unwrap().to_owned();
    let lists: [&[(&str, &str)]; 5] = [
        &[],
        &[("session_id", "s")],
        &[("domain", "one.example")],
        &[("session_id", "s"), ("domain", "one.example")],
        &[("from", "2026-11-20T10:00:00Z"), ("to", "2026-11-20T10:00:01Z")],
    ];
    desk.clock.set(start + DAY_MS - 2_000);
    for (list, count) in lists.iter().zip([5, 4, 4, 3, 5]) {
        assert_eq!(desk.ids(list).await.len(), count, "before they expire: {list:?}");
    }
    desk.clock.set(start + 2 * DAY_MS);
    for list in lists {
        for order in ["asc", "desc"] {
            assert_eq!(desk.ids(&[list, &[("order", order)]].concat()).await, [id(0)], "{list:?}");
        }
    }
    for list in [[("session_id", "")], [("domain", "")], [("outcome", "duplicate")], [("outcome", "recorded")]] {
        assert_eq!(desk.ids(&list).await, [""; 0], "{list:?}");
    }
    assert_eq!(desk.get(&format!("{EVENTS}/{}", id(0)), &[]).await.status, 200);
    for place in 1..5 {
        desk.get(&format!("{EVENTS}/{}", id(place)), &[]).await.assert_problem(404, "not_found");
    }
    let ticket_id = all[0]["ticket_id"].as_str().unwrap();
    let ticket = desk.get(&format!("{TICKETS}/{ticket_id}"), &[]).await;
    assert_eq!((ticket.status, ticket.body["event_id"].as_str()), (200, Some(id(0).as_str())));
    assert_eq!(desk.page(TICKETS, &[]).await, (vec![ticket.body], None));
    // Its key is taken for ever.
    let again = desk.receive.deliver(start + 2 * DAY_MS, &bodies[1]).await;
    assert_eq!((again.status, &again.body["ticket_id"]), (200, &all[0]["ticket_id"]));
    assert_eq!((again.body["outcome"].as_str(), &again.body["payload_changed"]), (Some("duplicate"), &true.into()));
}
