//! Pages and cursors.

use super::{Desk, event, ids};
use crate::harness::{EVENTS, TICKETS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_show_each_record_once_while_others_are_added() {
    let desk = Desk::start().await;
    let mut random = fastrand::Rng::with_seed(11);
    let mut all = Vec::new();
    let add = async |all: &mut Vec<String>| {
        let time = format!("2026-11-24T10:{:02}:{:02}Z", all.len() / 60, all.len() % 60);
        all.push(desk.deliver(&time, &event("dns.applied", "", "one.example", "{}")).await);
    };
    for _ in 0..40 {
        add(&mut all).await;
    }
    let lists: [&[(&str, &str)]; 3] = [&[], &[("session_id", "")], &[("domain", "one.example")]];
    for (list, order) in lists.iter().flat_map(|list| [(list, "desc"), (list, "asc")]) {
        let at_first = all.len();
        let mut shown = Vec::new();
        let mut cursor: Option<String> = None;
        for page in 0.. {
            let limit = random.usize(1..=9).to_string();
            let mut query = [*list, &[("order", order), ("limit", &limit)]].concat();
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let (items, next) = desk.page(EVENTS, &query).await;
            shown.extend(ids(&items));
            cursor = next;
            if cursor.is_none() {
                break;
            }
            // So long as not for ever, the end moves away.
            if page < 5 {
                add(&mut all).await;
            }
        }
        let mut expected = if order == "asc" { all.clone() } else { all[..at_first].to_vec() };
        if order == "desc" {
            expected.reverse();
        }
        assert_eq!(shown, expected, "{list:?} {order}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_holds_for_its_own_list_with_any_limit_and_goes_on_where_it_was_however_often() {
    let desk = Desk::start().await;
    let mut all = Vec::new();
    for second in 0..60 {
        let body = event("account.created", "s", &format!("d{second}.example"), "{}");
        all.push(desk.deliver(&format!("2026-11-24T10:00:{second:02}Z"), &body).await);
    }
    all.reverse();
    let (first, cursor) = desk.page(EVENTS, &[("session_id", "s")]).await;
    assert_eq!(ids(&first), all[..50], "50 is the default");
    let cursor = cursor.unwrap();
    let (rest, end) = desk.page(EVENTS, &[("session_id", "s"), ("cursor", &cursor)]).await;
    assert_eq!((ids(&rest), end), (all[50..].to_vec(), None));
    desk.deliver("2026-11-24T10:01:00Z", &event("dns.applied", "s", "", "{}")).await;
    for limit in [1, 3, 10, 500] {
        let (rest, _) =
            desk.page(EVENTS, &[("session_id", "s"), ("cursor", &cursor), ("limit", &limit.to_string())]).await;
        assert_eq!(ids(&rest), all[50..50 + limit.min(10)]);
    }
    let others: [(&str, &[(&str, &str)]); 5] = [
        (EVENTS, &[]),
        (EVENTS, &[("session_id", "other")]),
        (EVENTS, &[("session_id", "s"), ("order", "asc")]),
        (EVENTS, &[("session_id", "s"), ("event", "dns.applied")]),
        (TICKETS, &[]),
    ];
    let damaged = [cursor[1..].to_owned(), format!("{cursor}A"), "x".to_owned(), String::new(), "x".repeat(2_000)];
    let damaged = damaged.iter().map(|cursor| (EVENTS, &[("session_id", "s")][..], cursor));
    for (path, query, cursor) in others.iter().map(|(path, query)| (*path, *query, &cursor)).chain(damaged) {
        let reply = desk.get(path, &[query, &[("cursor", cursor)]].concat()).await;
        reply.assert_problem(400, "invalid_query");
        assert!(reply.body["detail"].as_str().unwrap().contains("`cursor`"), "{reply:?}");
    }
    for limit in ["0", "501", "-1", "", "1.0", "1e1", " 1", "many", "99999999999999999999"] {
        for path in [EVENTS, TICKETS] {
            let reply = desk.get(path, &[("limit", limit)]).await;
            reply.assert_problem(400, "invalid_query");
            assert!(reply.body["detail"].as_str().unwrap().contains("`limit`"), "{reply:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_megabytes_comes_whole() {
    let desk = Desk::start().await;
    let data = format!(r#"{{"x":"{}"}}"#, "x".repeat(20_000));
    let mut all = Vec::new();
    // More than a hundred: more than is read at one go.
    for number in 0..110 {
        let time = format!("2026-11-24T10:{:02}:{:02}Z", number / 60, number % 60);
        all.push(desk.deliver(&time, &event("dns.applied", "s", "", &data)).await);
    }
    all.reverse();
    let (items, next) = desk.page(EVENTS, &[("limit", "500"), ("session_id", "s")]).await;
    assert_eq!((ids(&items), next), (all, None));
    assert!(items.iter().all(|item| item["data"]["x"].as_str().unwrap().len() == 20_000));
}
