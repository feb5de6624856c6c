//! Rows that are damaged, of another format, or no messages at all.

use serde_json::{Value, json};

use super::{ACTIVITY, Board, OUTBOX, Row, entry, ids, message, now_ms, sorted};
use crate::paged::names;

const SUMMARY: &str =
    "webhook_id state event session_id domain accepted_at next_attempt_at delivered_at attempts_total last_attempt";

/// What is done to a dead message's row, and what is shown of it otherwise then.
fn damages() -> Vec<(Value, Value)> {
    let gone = Value::Null;
    let kept = json!({"at": "x", "status": 500, "error": null, "ms": 1, "answer": null});
    let partly = json!([{"at": 1}, 7, kept, null, {"at": "y", "status": 99_999, "ms": -1}]);
    vec![
        (json!({"version": {"N": "99"}, "new": {"M": {"x": {"L": []}}}}), json!({})),
        (json!({"version": gone, "body": gone, "step": gone, "request_sha256": gone}), json!({})),
        // The state is the one by which lists find the row.
        (json!({"state": gone}), json!({})),
        (json!({"state": {"N": "1"}}), json!({})),
        (json!({"state": {"S": "lost"}}), json!({})),
        (json!({"event": {"N": "1"}, "domain": {"BOOL": true}}), json!({"event": "", "domain": ""})),
        (json!({"session_id": {"L": []}}), json!({"session_id": ""})),
        (json!({"accepted_at": gone, "attempts_total": gone}), json!({"accepted_at": "", "attempts_total": 0})),
        (
            json!({"accepted_at": {"S": "now"}, "attempts_total": {"N": "1.5"}}),
            json!({"accepted_at": "", "attempts_total": 0}),
        ),
        (json!({"attempts_total": {"N": "-1"}, "delivered_at": {"S": ""}}), json!({"attempts_total": 0})),
        (json!({"next_attempt_at": {"N": "99999999999999999999999999999"}}), json!({})),
        (json!({"expires_at": {"S": "0"}}), json!({})),
        (json!({"attempts": {"S": "[{"}}), json!({"last_attempt": null})),
        (json!({"attempts": {"L": [{"S": "x"}]}}), json!({"last_attempt": null})),
        (json!({"attempts": gone}), json!({"last_attempt": null})),
        (json!({"attempts": {"S": partly.to_string()}}), json!({"last_attempt": kept})),
        // It is in the wrong place of the list, but it is there.
        (json!({"accepted_key": {"S": "!"}}), json!({})),
        (json!({"accepted_key": {"S": "ÿ".repeat(512)}}), json!({})),
    ]
}

/// A good row after each damaged one.
fn rows() -> Vec<Row> {
    let start = now_ms() - 1_000_000;
    let mut rows = Vec::new();
    for ((damage, otherwise), place) in damages().into_iter().zip(0..) {
        let mut row = message(start + 2 * place, "dead", "s1", None);
        for (name, value) in damage.as_object().unwrap() {
            if value.is_null() {
                row.stored.as_object_mut().unwrap().remove(name);
            } else {
                row.stored[name] = value.clone();
            }
        }
        row.key = row.stored["accepted_key"]["S"].as_str().unwrap().to_owned();
        for (name, value) in otherwise.as_object().unwrap() {
            row.shown[name] = value.clone();
        }
        rows.extend([row, message(start + 2 * place + 1, "dead", "s1", None)]);
    }
    sorted(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_of_a_damaged_row_is_shown_and_no_page_breaks() {
    let board = Board::start().await;
    let rows = rows();
    board.put(&rows).await;
    let expected: Vec<&Value> = rows.iter().map(|row| &row.shown).collect();
    let lists = [&[][..], &[("state", "dead")], &[("session_id", "s1")], &[("session_id", "s1"), ("state", "dead")]];
    for list in lists {
        for limit in [1, 7, 500] {
            let (items, _) = board.lists.pages(OUTBOX, list, || limit).await;
            assert_eq!(items.iter().collect::<Vec<_>>(), expected, "{list:?} by {limit}");
            assert!(items.iter().all(|item| names(item) == SUMMARY.split(' ').collect()));
        }
    }
    for state in ["pending", "parked", "delivered"] {
        assert_eq!(board.ids(&[("state", state), ("session_id", "s1")]).await, [""; 0]);
    }
    for row in &rows {
        let one = board.lists.get(&format!("{OUTBOX}/{}", row.id), &[]).await;
        assert_eq!(one.status, 200, "{one:?}");
        for name in ["webhook_id", "state", "event", "session_id", "accepted_at", "attempts_total"] {
            assert_eq!(one.body[name], row.shown[name], "{name}: {}", row.stored);
        }
    }
    // Where nothing says the state, someone has to look.
    let mut bare = message(now_ms(), "dead", "s1", None);
    bare.stored = json!({"pk": {"S": bare.id}});
    board.put(&[bare.clone()]).await;
    let one = board.lists.get(&format!("{OUTBOX}/{}", bare.id), &[]).await;
    let expected = json!({"webhook_id": bare.id, "state": "parked", "event": "", "session_id": "", "domain": "",
        "accepted_at": "", "next_attempt_at": null, "delivered_at": null, "attempts": [], "attempts_total": 0});
    assert_eq!((one.status, one.body), (200, expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_entry_is_shown_too_and_counts_as_one_to_look_at() {
    let board = Board::start().await;
    let mut damaged = entry(now_ms() - 1_000, "info", "s1", 1_000);
    for (name, value) in [("state", json!({"N": "1"})), ("code", json!({"L": []})), ("at", json!({"S": "x"}))] {
        damaged.stored[name] = value;
    }
    let mut other = entry(now_ms() - 2_000, "info", "", 1_000);
    other
        .stored
        .as_object_mut()
        .unwrap()
        .retain(|name, _| ["pk", "state_key", "accepted_key"].contains(&name.as_str()));
    board.put(&[damaged.clone(), other]).await;
    let empty = json!({"at": "", "level": "warn", "code": "", "message": "", "webhook_id": null, "session_id": null});
    let mut shown = empty.clone();
    for name in ["message", "webhook_id", "session_id"] {
        shown[name] = damaged.shown[name].clone();
    }
    assert_eq!(board.lists.page(ACTIVITY, &[("level", "warn")]).await, (vec![shown.clone(), empty.clone()], None));
    assert_eq!(board.lists.page(ACTIVITY, &[("session_id", "s1")]).await, (vec![shown], None));
    assert_eq!(board.lists.page(ACTIVITY, &[("session_id", "")]).await, (vec![empty], None));
    assert_eq!(board.lists.page(ACTIVITY, &[("level", "info")]).await, (Vec::new(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_no_messages_are_none() {
    let board = Board::start().await;
    let entry = entry(now_ms(), "warn", "s1", 1_000);
    let message = message(now_ms(), "dead", "s1", None);
    let mut others = Vec::new();
    for id in ["breaker#endpoint", "breaker", "first_day", "x"] {
        let mut row = message.clone();
        row.stored["pk"] = json!({"S": id});
        row.id = id.replace('#', "%23");
        others.push(row);
    }
    board.put(&others).await;
    board.put(&[entry.clone(), message.clone()]).await;
    for row in others.iter().chain([&entry]) {
        let reply = board.lists.get(&format!("{OUTBOX}/{}", row.id), &[]).await;
        reply.assert_problem(404, "not_found");
    }
    for list in [&[][..], &[("state", "dead")], &[("session_id", "s1")]] {
        let (items, _) = board.lists.page(OUTBOX, list).await;
        assert_eq!(ids(&items), std::slice::from_ref(&message.id), "{list:?}");
    }
    for list in [&[][..], &[("level", "warn")], &[("session_id", "s1")]] {
        assert_eq!(board.lists.page(ACTIVITY, list).await, (vec![entry.shown.clone()], None), "{list:?}");
    }
}
