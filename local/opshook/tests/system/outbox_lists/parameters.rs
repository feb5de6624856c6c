//! What is asked wrongly is a 400 that names it.

use super::{ACTIVITY, Board, OUTBOX};
use crate::raw::Raw;

async fn refuse(board: &Board, target: &str, name: &str) {
    println!("GET {target}");
    let reply = Raw::get(target).send(board.lists.0).await;
    reply.assert_problem(400, "invalid_query");
    assert!(reply.body["detail"].as_str().unwrap().contains(&format!("`{name}`")), "{reply:?}");
}

#[tokio::test]
async fn a_parameter_that_is_unknown_malformed_or_doubled_is_named() {
    let board = Board::start().await;
    let long = "s".repeat(129);
    let both = [
        ("limit", &["", "0", "501", "-1", "+5", "5.0", "1e2", "abc", "%00", "99999999999999999999"][..]),
        ("session_id", &["%00", "a%0Ab", "%7f", "%c2%85", "%ff", "%ed%a0%80", &long]),
        (
            "from",
            &["", "now", "2026-11-24", "2026-11-24T10:15:30", "2026-11-24T10:15:30+01:00", "2026-02-30T00:00:00Z"],
        ),
        ("to", &["", "2026-11-24T25:00:00Z", "%ff", "1764000000"]),
        ("cursor", &["", "x", "AAAA", "%00", "%ff", "null", "AAAAAAAAAAAAAAAAAAAAAAAAAAA", "../../etc", "a%2Bb%3D"]),
    ];
    let states = ["", "Dead", "all", "dead,parked", "disabled", "activity", "%ff"];
    let levels = ["", "Warn", "error", "info,warn", "%00"];
    for (list, own, values, foreign) in
        [(OUTBOX, "state", &states[..], "level=warn"), (ACTIVITY, "level", &levels, "state=dead")]
    {
        for (name, values) in both.iter().copied().chain([(own, values)]) {
            for value in values {
                refuse(&board, &format!("{list}?{name}={value}"), name).await;
            }
            refuse(&board, &format!("{list}?{name}=1&limit=5&{name}=1"), name).await;
        }
        for unknown in [foreign, "order=asc", "domain=a.example", "offset=1", "LIMIT=5", "limit%20=5", "x", "event=a"] {
            let name = unknown.split('=').next().unwrap().replace("%20", " ");
            refuse(&board, &format!("{list}?{unknown}"), &name).await;
        }
        for fine in
            ["", "?", "?&&", "?limit=1", "?limit=500&session_id=", "?session_id", "?from=2026-11-24T10:15:30%2B01:00"]
        {
            let reply = Raw::get(&format!("{list}{fine}")).send(board.lists.0).await;
            assert_eq!(reply.text, r#"{"items":[],"next_cursor":null}"#, "{fine}");
        }
        let reply = Raw::json("PUT", list, "{}").send(board.lists.0).await;
        reply.assert_problem(405, "method_not_allowed");
        Raw::get(&format!("{list}/")).send(board.lists.0).await.assert_problem(404, "not_found");
    }
}
