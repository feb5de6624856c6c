//! Pages and cursors.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{ACTIVITY, Board, OUTBOX, Row, STATES, entry, ids, message, now_ms, sorted};

/// So many of each state, with and without a session, a second apart.
fn messages(start: i64, count: i64) -> Vec<Row> {
    let session = |place: i64| if place % 2 == 0 { "s1" } else { "" };
    let row =
        |place: i64| message(start + place * 1_000, STATES[usize::try_from(place % 4).unwrap()], session(place), None);
    sorted((0..count).map(row).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_show_each_message_once_while_others_are_added_and_states_change() {
    let start = now_ms() - 10_000_000;
    let rows = messages(start, 60);
    let mut random = fastrand::Rng::with_seed(3);
    for list in [&[][..], &[("session_id", "s1")], &[("session_id", "")]] {
        let board = Board::start().await;
        board.put(&rows).await;
        let expected: Vec<&String> = rows
            .iter()
            .filter(|row| list.iter().all(|(_, session)| row.session == *session))
            .map(|row| &row.id)
            .collect();
        let mut shown = Vec::new();
        let mut cursor: Option<String> = None;
        for page in 0.. {
            let limit = random.usize(1..=9).to_string();
            let mut query = [list, &[("limit", limit.as_str())]].concat();
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let (items, next) = board.lists.page(OUTBOX, &query).await;
            shown.extend(ids(&items));
            let Some(next) = next else { break };
            cursor = Some(next);
            let mut changed = vec![message(start + 100_000 + page, "pending", "s1", None)];
            for _ in 0..5 {
                let mut row = rows[random.usize(..rows.len())].clone();
                let state = STATES[random.usize(..4)];
                row.stored["state"] = json!({"S": state});
                row.stored["state_key"] = json!({"S": format!("{state}#{}", super::shard(&row.id))});
                changed.push(row);
            }
            changed.dedup_by(|a, b| a.id == b.id);
            for row in changed {
                board.put(&[row]).await;
            }
        }
        assert_eq!(shown.iter().collect::<Vec<_>>(), expected, "{list:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_holds_for_its_own_list_with_any_limit_and_goes_on_where_it_was_however_often() {
    let board = Board::start().await;
    let start = now_ms() - 10_000_000;
    board.put(&messages(start, 240)).await;
    let entries: Vec<Row> = (0..60).map(|place| entry(start + place, "warn", "s1", 1_000_000)).collect();
    board.put(&entries).await;
    let from = super::text(start);
    let lists: [(&str, &[(&str, &str)]); 10] = [
        (OUTBOX, &[]),
        (OUTBOX, &[("state", "dead")]),
        (OUTBOX, &[("state", "pending")]),
        (OUTBOX, &[("session_id", "s1")]),
        (OUTBOX, &[("session_id", "")]),
        (OUTBOX, &[("from", &from)]),
        (OUTBOX, &[("to", &from)]),
        (ACTIVITY, &[]),
        (ACTIVITY, &[("level", "warn")]),
        (ACTIVITY, &[("session_id", "s1")]),
    ];
    let mut cursors = Vec::new();
    for (path, query) in lists {
        let (items, cursor) = board.lists.page(path, query).await;
        if query == [("to", from.as_str())] {
            assert_eq!((items.len(), cursor), (0, None));
            continue;
        }
        assert_eq!(items.len(), 50, "50 is the default");
        let cursor = cursor.unwrap();
        let (all, _) = board.lists.pages(path, query, || 500).await;
        for limit in [1, 3, 10, 500, 3] {
            let limit_text = limit.to_string();
            let rest = [query, &[("cursor", cursor.as_str()), ("limit", &limit_text)]].concat();
            let (rest, _) = board.lists.page(path, &rest).await;
            assert_eq!(rest, all[50..all.len().min(50 + limit)], "{path} {query:?} {limit}");
        }
        cursors.push((path, query, cursor));
    }
    let mut refused = Vec::new();
    for (path, query, cursor) in &cursors {
        let others = lists.iter().filter(|other| *other != &(*path, *query));
        refused.extend(others.map(|(path, query)| (*path, *query, cursor.clone())));
        for damaged in [&cursor[1..], &cursor[..cursor.len() - 1], &format!("{cursor}A"), "", "x", "null", "%00"] {
            refused.push((*path, *query, damaged.to_owned()));
        }
        // The mark of the list is no secret, so anyone can make these.
        let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
        let mark = &bytes[bytes.len() - 4..];
        for position in [&b""[..], b"\xff\xff", &[b'x'; 1_025], &[b'2'; 5_000]] {
            refused.push((*path, *query, URL_SAFE_NO_PAD.encode([position, mark].concat())));
        }
        for position in [&b"\0"[..], b" ", b"!", b"2026", b"~", "\u{10ffff}\u{10ffff}".as_bytes(), &[b'z'; 1_024]] {
            let cursor = URL_SAFE_NO_PAD.encode([position, mark].concat());
            board.lists.page(path, &[query, &[("cursor", cursor.as_str())][..]].concat()).await;
        }
    }
    for (path, query, cursor) in refused {
        let reply = board.lists.get(path, &[query, &[("cursor", cursor.as_str())][..]].concat()).await;
        reply.assert_problem(400, "invalid_query");
        assert!(reply.body["detail"].as_str().unwrap().contains("`cursor`"), "{reply:?}");
    }
}
