//! What was delivered, in the order in which it was.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::json;
use store::Deadline;

use super::{Board, OUTBOX, Row, message, now_ms};
use crate::harness::post;

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// A message that was accepted at one time and delivered at another.
fn delivered(accepted_ms: i64, delivered_ms: i64, expires_in_s: Option<i64>) -> Row {
    let mut row = message(accepted_ms, "delivered", "", expires_in_s);
    for name in ["delivered_at", "due_at"] {
        row.stored[name] = json!({"N": delivered_ms.to_string()});
    }
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_delivered_comes_by_when_it_was_with_a_word_when_the_next_one_was() {
    let board = Board::start().await;
    let start = now_ms() - 1_000_000;
    let find = async |from: i64, to: i64, limit| {
        let (now, deadline) = (time(now_ms()), Deadline::for_page());
        let found = board.store.delivered(time(start + from), time(start + to), limit, now, deadline).await;
        let (found, next) = found.unwrap();
        let ids: Vec<String> = found.into_iter().map(|message| message.webhook_id).collect();
        (ids, next.map(|next| next.as_millisecond() - start))
    };
    assert_eq!(find(0, 1_000, 10).await, (vec![], None));
    // What was accepted first was delivered last.
    let rows: Vec<Row> = (0..700).map(|at| delivered(start - at, start + at, Some(1_000))).collect();
    let others = [message(start, "pending", "", None), message(start, "dead", "", None)];
    board.put(&rows).await;
    board.put(&others).await;
    let ids = |range: std::ops::Range<usize>| rows[range].iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    for (from, to, limit, range, next) in [
        (0, 700, 1_000, 0..700, None),
        (0, 700, 700, 0..700, None),
        (0, 700, 699, 0..699, Some(699)),
        (0, 1_000, 1, 0..1, Some(1)),
        (0, 1_000, 0, 0..0, Some(0)),
        (10, 20, 100, 10..20, None),
        (10, 20, 9, 10..19, Some(19)),
        (20, 10, 100, 0..0, None),
        (20, 20, 100, 0..0, None),
        (-9, 0, 100, 0..0, None),
        (700, 900, 100, 0..0, None),
    ] {
        assert_eq!(find(from, to, limit).await, (ids(range), next), "{from} {to} {limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_have_expired_what_is_kept_is_found() {
    let board = Board::start().await;
    let start = now_ms() - 1_000_000;
    // More than one call reads over, many of them in the first millisecond.
    let expired: Vec<Row> =
        (0..3_200).map(|place| delivered(start, start + (place - 2_600).max(0), Some(-1))).collect();
    let kept: Vec<Row> = (0..5).map(|place| delivered(start, start + 2_000 + place, Some(1_000))).collect();
    board.put(&expired).await;
    board.put(&kept).await;
    let (mut found, mut from, mut calls) = (Vec::new(), time(start), 0);
    loop {
        let deadline = Deadline::for_page();
        let (some, next) = board.store.delivered(from, time(start + 9_000), 1, time(now_ms()), deadline).await.unwrap();
        found.extend(some.into_iter().map(|message| message.webhook_id));
        let Some(next) = next else { break };
        assert!(next > from || !found.is_empty(), "it stands still at {next}");
        calls += 1;
        assert!(calls < 50, "it does not end");
        from = next;
    }
    assert_eq!(found, kept.iter().map(|row| row.id.clone()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_were_delivered_in_one_millisecond_are_replayed_each_once() {
    let board = Board::start().await;
    let at = now_ms() - 1_000_000;
    let rows: Vec<Row> = (0..1_300).map(|place| delivered(at - place, at, Some(1_000))).collect();
    board.put(&rows).await;
    let mut wanted = json!({"state": "delivered", "from": super::text(at), "to": super::text(at + 1)});
    let url = format!("http://{}{OUTBOX}/replay", board.lists.0);
    let (mut replayed, mut calls) = (0, 0);
    loop {
        let done = post(&url, &[("content-type", "application/json")], wanted.to_string()).await;
        assert_eq!(done.status, 202, "{done:?}");
        replayed += done.body["count"].as_u64().unwrap();
        calls += 1;
        assert!(calls < 20, "it does not end");
        if done.body["more"] == false {
            break;
        }
        wanted["from"] = done.body["next_from"].clone();
    }
    assert_eq!((replayed, calls >= 2), (1_300, true));
    let pending: BTreeSet<String> = board.ids(&[("state", "pending")]).await.into_iter().collect();
    assert_eq!(pending, rows.into_iter().map(|row| row.id).collect());
}
