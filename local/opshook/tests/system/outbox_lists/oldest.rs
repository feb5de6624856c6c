//! What a drain and a bulk replay go through: the store's own lists, oldest first.

use contract::wire::MessageState;
use jiff::Timestamp;
use store::Deadline;

use super::{Board, Row, message, now_ms, sorted};

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn oldest_first(rows: Vec<Row>) -> Vec<Row> {
    let mut rows = sorted(rows);
    rows.reverse();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_messages_come_in_the_order_of_their_acceptance_each_once() {
    let board = Board::start().await;
    let mut random = fastrand::Rng::with_seed(8);
    let start = now_ms() - 1_000_000;
    // Few times, so that many have the same.
    let rows: Vec<Row> =
        (0..300).map(|place| message(start + random.i64(0..20), super::STATES[place % 2], "s1", None)).collect();
    board.put(&rows).await;
    let rows = oldest_first(rows.into_iter().filter(|row| row.name == "pending").collect());
    let expected: Vec<(&String, &String)> = rows.iter().map(|row| (&row.id, &row.key)).collect();
    for most in [1, 7, 40, 500] {
        let mut found = Vec::new();
        loop {
            let limit = random.usize(1..=most);
            let after = found.last().map(|last: &store::outbox::MessageRef| last.accepted_key.clone());
            let some = board.store.oldest_pending(after.as_deref(), limit, time(now_ms()), Deadline::for_page()).await;
            let some = some.unwrap();
            assert!(some.len() <= limit);
            let is_last = some.len() < limit;
            found.extend(some);
            assert!(found.len() <= rows.len(), "it goes in circles");
            if is_last {
                break;
            }
        }
        let found: Vec<(&String, &String)> = found.iter().map(|it| (&it.webhook_id, &it.accepted_key)).collect();
        assert_eq!(found, expected);
    }
    let none = board.store.oldest_pending(None, 0, time(now_ms()), Deadline::for_page()).await.unwrap();
    assert_eq!(none, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_state_comes_oldest_first_with_a_word_whether_there_is_more() {
    let board = Board::start().await;
    let start = now_ms() - 1_000_000;
    let in_state = async |state, from: Option<i64>, to: Option<i64>, limit| {
        let (now, deadline) = (time(now_ms()), Deadline::for_page());
        let found = board.store.in_state(state, from.map(time), to.map(time), limit, now, deadline).await;
        let (found, next) = found.unwrap();
        (found.into_iter().map(|message| message.webhook_id).collect::<Vec<_>>(), next)
    };
    assert_eq!(in_state(MessageState::Dead, None, None, 1_000).await, (vec![], None));
    // All in one shard, and more than are read at one go.
    let rows = (0..1_001).map(|place| {
        loop {
            let row = message(start + place, "dead", "", None);
            if super::shard(&row.id) == 2 {
                break row;
            }
        }
    });
    let rows = oldest_first(rows.collect());
    let ids = |range: std::ops::Range<usize>| rows[range].iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    board.put(&rows[1..]).await;
    assert_eq!(in_state(MessageState::Dead, None, None, 1_000).await, (ids(1..1_001), None));
    board.put(&rows[..1]).await;
    for (from, to, limit, range, more) in [
        (None, None, 1_000, 0..1_000, true),
        (None, None, 1_001, 0..1_001, false),
        (None, None, 1, 0..1, true),
        (None, None, 0, 0..0, true),
        (Some(10), None, 1_000, 10..1_001, false),
        (Some(10), Some(20), 1_000, 10..20, false),
        (Some(10), Some(20), 10, 10..20, false),
        (Some(10), Some(20), 9, 10..19, true),
        (Some(20), Some(10), 1_000, 0..0, false),
        (None, Some(0), 1_000, 0..0, false),
    ] {
        let found = in_state(MessageState::Dead, from.map(|ms| start + ms), to.map(|ms| start + ms), limit).await;
        // Where there is more, it says when the next one was accepted.
        let next = more.then(|| rows[range.end].key.split('#').next().unwrap().to_owned());
        assert_eq!(found, (ids(range), next), "{from:?} {to:?} {limit}");
    }
    assert_eq!(in_state(MessageState::Parked, None, None, 1_000).await, (vec![], None));
    // What has expired is no more.
    let expired: Vec<Row> = (0..400).map(|ms| message(start + ms, "delivered", "", Some(-1))).collect();
    let kept = oldest_first((200..220).map(|ms| message(start + ms, "delivered", "", Some(1_000))).collect());
    board.put(&expired).await;
    board.put(&kept).await;
    let ids: Vec<String> = kept.iter().map(|row| row.id.clone()).collect();
    assert_eq!(in_state(MessageState::Delivered, None, None, 20).await, (ids.clone(), None));
    let next = kept[19].key.split('#').next().map(str::to_owned);
    assert_eq!(in_state(MessageState::Delivered, Some(start + 100), None, 19).await, (ids[..19].to_vec(), next));
}
