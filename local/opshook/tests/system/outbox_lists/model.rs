//! Random rows and random queries, against a plain filter.

use fastrand::Rng;
use serde_json::Value;

use super::{ACTIVITY, Board, LEVELS, OUTBOX, Row, SESSIONS, entry, message, now_ms, sorted, text};

const DAY_MS: i64 = 86_400_000;

/// 150 messages and 150 entries whose times go on by jumps, with many at one time.
fn rows(random: &mut Rng) -> (Vec<Row>, Vec<Row>) {
    let (mut messages, mut entries) = (Vec::new(), Vec::new());
    let mut ms = now_ms() - 300 * DAY_MS;
    for _ in 0..150 {
        let most = [0, 0, 1, 1_000, 4 * DAY_MS][random.usize(..5)];
        ms += random.i64(0..=most);
        let expires_in = [-100_000, 0, 100_000, 10_000_000][random.usize(..4)];
        let session = SESSIONS[random.usize(..SESSIONS.len())];
        let state = super::STATES[random.usize(..4)];
        messages.push(message(ms, state, session, (state == "delivered").then_some(expires_in)));
        entries.push(entry(ms, LEVELS[random.usize(..2)], session, expires_in));
    }
    (sorted(messages), sorted(entries))
}

/// Random queries of a list by its state or level, the session and the times.
async fn check(board: &Board, random: &mut Rng, (path, name): (&str, &str), rows: &[Row]) {
    for number in 0..60 {
        let mut query: Vec<(&str, String)> = Vec::new();
        let mut expected: Vec<&Row> = rows.iter().filter(|row| !row.expired).collect();
        if random.bool() {
            let value = rows[random.usize(..rows.len())].name;
            query.push((name, value.to_owned()));
            expected.retain(|row| row.name == value);
        }
        if random.bool() {
            let session = SESSIONS[random.usize(..SESSIONS.len())];
            query.push(("session_id", session.to_owned()));
            expected.retain(|row| row.session == session);
        }
        for bound in ["from", "to"] {
            if random.u8(..3) == 0 {
                // On, and just beside, the times of rows.
                let ms = rows[random.usize(..rows.len())].ms + random.i64(-1..=1);
                query.push((bound, text(ms)));
                expected.retain(|row| if bound == "from" { row.ms >= ms } else { row.ms < ms });
            }
        }
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let most = [9, 50, 500][random.usize(..3)];
        let (items, _) = board.lists.pages(path, &query, || random.usize(1..=most)).await;
        let expected: Vec<&Value> = expected.iter().map(|row| &row.shown).collect();
        assert_eq!(items.iter().collect::<Vec<_>>(), expected, "query {number} of {path}: {query:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_queries_over_random_rows_show_what_a_plain_filter_would() {
    let seed = std::env::var("OPSHOOK_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("OPSHOOK_TEST_SEED={seed}");
    let random = &mut Rng::with_seed(seed);
    let board = Board::start().await;
    let (messages, entries) = rows(random);
    board.put(&messages).await;
    board.put(&entries).await;
    check(&board, random, (OUTBOX, "state"), &messages).await;
    check(&board, random, (ACTIVITY, "level"), &entries).await;
    for row in messages {
        let one = board.lists.get(&format!("{OUTBOX}/{}", row.id), &[]).await;
        if row.expired {
            one.assert_problem(404, "not_found");
        } else {
            assert_eq!((one.status, &one.body["accepted_at"]), (200, &row.shown["accepted_at"]), "{one:?}");
            let latest = one.body["attempts"].as_array().unwrap().last().cloned().unwrap_or_default();
            assert_eq!(latest, row.shown["last_attempt"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_is_inclusive_and_to_is_exclusive_however_they_are_written() {
    let board = Board::start().await;
    let start = now_ms() - DAY_MS;
    let rows = [0, 1, 1, 2].map(|after| message(start + after, "dead", "s1", None));
    let rows = sorted(rows.to_vec());
    board.put(&rows).await;
    let finer = |ms: i64, digits: &str| text(ms).replace('Z', &format!("{digits}Z"));
    let offset = jiff::Timestamp::from_millisecond(start + 1).unwrap();
    let offset = offset.display_with_offset(jiff::tz::offset(2)).to_string();
    let cases = [
        ("from", text(start + 1), 0..3),
        ("to", text(start + 1), 3..4),
        ("from", finer(start, "000001"), 0..3),
        ("to", finer(start, "000001"), 3..4),
        ("from", finer(start + 1, "0"), 0..3),
        ("from", offset, 0..3),
        ("from", "0000-01-01T00:00:00+23:59".to_owned(), 0..4),
        ("to", "0000-01-01T00:00:00+23:59".to_owned(), 0..0),
        ("from", "9999-12-31T23:59:59.999999999-23:59".to_owned(), 0..0),
        ("to", "9999-12-31T23:59:59.999999999-23:59".to_owned(), 0..4),
    ];
    for list in [&[][..], &[("state", "dead")], &[("session_id", "s1")]] {
        for (name, value, expected) in &cases {
            let query = [list, &[(*name, value.as_str())]].concat();
            let expected: Vec<&String> = rows[expected.clone()].iter().map(|row| &row.id).collect();
            assert_eq!(board.ids(&query).await.iter().collect::<Vec<_>>(), expected, "{query:?}");
        }
        for (from, to, count) in [(1, 1, 0), (1, 2, 2), (2, 1, 0)] {
            let (from, to) = (text(start + from), text(start + to));
            let query = [list, &[("from", from.as_str()), ("to", &to)]].concat();
            assert_eq!(board.ids(&query).await.len(), count, "{query:?}");
        }
    }
}
