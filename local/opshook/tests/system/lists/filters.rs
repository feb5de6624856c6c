//! Which event records a list shows.

use super::{Case, Desk, event};
use crate::harness::EVENTS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_filter_shows_what_it_says_and_filters_add_up() {
    let desk = Desk::start().await;
    let odd = "a&b=c d/é+%2B#?";
    let bodies = [
        event("account.created", "s1", "one.example", "{}"),
        event("account.created", "s1", "One.Example.", r#"{ }"#),
        event("account.created", "s1", "one.example", r#"{"a":1}"#),
        event("dns.applied", "s1", "one.example", "{}"),
        event("dns.applied", "", "Bücher.example", "{}"),
        // A session that is named as an index may name those without one.
        event("dns.applied", "none#0", "", "{}"),
        event("account.created", "s1", "", "{}"),
        event("account.created", "", "one.example", "{}"),
        event("dns.applied", odd, "none", "{}"),
        event("an.unknown.event", "", "xn--bcher-kva.example", "{}"),
    ];
    let mut ids = Vec::new();
    for (second, body) in bodies.iter().enumerate() {
        ids.push(desk.deliver(&format!("2026-11-24T10:15:{second:02}Z"), body).await);
    }
    let cases: &[Case<'_>] = &[
        (&[], &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (&[("order", "desc")], &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (&[("order", "asc")], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (&[("session_id", "s1")], &[6, 3, 2, 1, 0]),
        (&[("session_id", "s1"), ("order", "asc")], &[0, 1, 2, 3, 6]),
        (&[("session_id", "S1")], &[]),
        (&[("session_id", "s")], &[]),
        (&[("session_id", odd)], &[8]),
        (&[("session_id", "none#0")], &[5]),
        (&[("session_id", "none")], &[]),
        (&[("session_id", "")], &[9, 7, 4]),
        (&[("session_id", ""), ("order", "asc")], &[4, 7, 9]),
        (&[("domain", "")], &[6, 5]),
        (&[("domain", ""), ("order", "asc")], &[5, 6]),
        (&[("session_id", ""), ("domain", "")], &[]),
        (&[("domain", "Bücher.example")], &[9, 4]),
        (&[("domain", " BÜCHER.EXAMPLE. ")], &[9, 4]),
        (&[("domain", "xn--bcher-kva.example")], &[9, 4]),
        (&[("domain", "none")], &[8]),
        (&[("domain", "one.example")], &[7, 3, 2, 1, 0]),
        (&[("domain", "example")], &[]),
        (&[("session_id", "s1"), ("domain", "one.example")], &[3, 2, 1, 0]),
        (&[("session_id", "s1"), ("domain", "")], &[6]),
        (&[("session_id", ""), ("domain", "one.example")], &[7]),
        (&[("event", "dns.applied")], &[8, 5, 4, 3]),
        (&[("event", "an.unknown.event")], &[9]),
        (&[("event", "never.seen")], &[]),
        (&[("outcome", "ticket_created")], &[7, 6, 0]),
        (&[("outcome", "duplicate")], &[2, 1]),
        (&[("outcome", "recorded")], &[9, 8, 5, 4, 3]),
        (&[("payload_changed", "true")], &[2]),
        (&[("payload_changed", "false"), ("outcome", "duplicate")], &[1]),
        (&[("payload_changed", "false")], &[9, 8, 7, 6, 5, 4, 3, 1, 0]),
        (
            &[
                ("session_id", "s1"),
                ("outcome", "duplicate"),
                ("payload_changed", "true"),
                ("event", "account.created"),
            ],
            &[2],
        ),
        (&[("domain", "one.example"), ("outcome", "ticket_created"), ("order", "asc")], &[0, 7]),
        (&[("from", "2026-11-24T10:15:03Z"), ("to", "2026-11-24T10:15:07Z"), ("domain", "")], &[6, 5]),
        (&[("from", "2026-11-24T10:15:03Z"), ("session_id", "s1"), ("order", "asc")], &[3, 6]),
        (&[("to", "2026-11-24T10:15:03Z"), ("event", "account.created")], &[2, 1, 0]),
    ];
    for (query, expected) in cases {
        let expected: Vec<&String> = expected.iter().map(|place| &ids[*place]).collect();
        assert_eq!(desk.ids(query).await.iter().collect::<Vec<_>>(), expected, "{query:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_is_inclusive_and_to_is_exclusive_to_the_millisecond() {
    let desk = Desk::start().await;
    let mut ids = Vec::new();
    let times = ["10:15:29.999", "10:15:30.000", "10:15:30.000", "10:15:30.001", "10:15:30.002", "23:59:59.999"];
    for time in times {
        ids.push(desk.deliver(&format!("2026-11-23T{time}Z"), &event("dns.applied", "s", "one.example", "{}")).await);
    }
    ids.push(desk.deliver("2026-11-24T00:00:00.000Z", &event("dns.applied", "s", "one.example", "{}")).await);
    let cases = [
        ("from", "2026-11-23T10:15:30Z", 1..7),
        ("from", "2026-11-23T10:15:30.000Z", 1..7),
        ("from", "2026-11-23T10:15:30.0000001Z", 3..7),
        ("from", "2026-11-23T10:15:30.0005Z", 3..7),
        ("from", "2026-11-23T10:15:30.001Z", 3..7),
        ("from", "2026-11-23T10:15:29.9991Z", 1..7),
        ("from", "2026-11-23t11:15:30.002+01:00", 4..7),
        ("from", "2026-11-23T04:45:30.002-05:30", 4..7),
        ("from", "2026-11-24T00:00:00Z", 6..7),
        ("from", "2026-11-24T00:00:00.001Z", 0..0),
        ("from", "1970-01-01T00:00:00Z", 0..7),
        ("from", "0001-01-01T00:00:00Z", 0..7),
        ("from", "9999-12-31T23:59:59Z", 0..0),
        ("to", "2026-11-23T10:15:30Z", 0..1),
        ("to", "2026-11-23T10:15:30.0000001Z", 0..3),
        ("to", "2026-11-23T10:15:30.001Z", 0..3),
        ("to", "2026-11-23T10:15:30.002Z", 0..4),
        ("to", "2026-11-24T00:00:00+00:00", 0..6),
        ("to", "2026-11-24T01:00:00.001+01:00", 0..7),
        ("to", "9999-12-31T23:59:59Z", 0..7),
        ("to", "1970-01-01T00:00:00Z", 0..0),
        ("to", "0001-01-01T00:00:00Z", 0..0),
    ];
    for list in [&[][..], &[("session_id", "s")], &[("domain", "one.example")]] {
        for (name, time, expected) in cases.clone() {
            let mut query = vec![(name, time), ("order", "asc")];
            query.extend(list);
            assert_eq!(desk.ids(&query).await, ids[expected], "{query:?}");
        }
        let both = |from, to| [list, &[("from", from), ("to", to)]].concat();
        let found = desk.ids(&both("2026-11-23T10:15:30Z", "2026-11-23T10:15:30.001Z")).await;
        assert_eq!(found, [ids[2].clone(), ids[1].clone()]);
        for (from, to) in
            [("2026-11-23T10:15:30Z", "2026-11-23T10:15:30Z"), ("2026-11-25T00:00:00Z", "2026-11-23T00:00:00Z")]
        {
            let (items, next) = desk.page(EVENTS, &both(from, to)).await;
            assert_eq!((items.len(), next), (0, None), "from {from} to {to}");
        }
    }
    // In a query a + is a space.
    for name in ["from", "to"] {
        let reply = desk.get(&format!("{EVENTS}?{name}=2026-11-23T10:15:30+01:00"), &[]).await;
        reply.assert_problem(400, "invalid_query");
        assert!(reply.body["detail"].as_str().unwrap().contains(name), "{reply:?}");
        let reply = desk.get(&format!("{EVENTS}?{name}=2026-11-23T11:15:30%2B01:00"), &[]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}
