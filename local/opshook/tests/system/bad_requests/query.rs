//! query-events: whoever has no token gets nothing, and what is asked wrongly is named (contract §4).

use super::{assert_all_under_api_wants_a_token, ops};
use crate::harness::{EVENTS, Reply, TICKETS, World, account_created};
use crate::raw::Raw;

async fn ask(world: &World, target: &str) -> Reply {
    println!("GET {target}");
    ops(Raw::get(target)).send(world.query.addr).await
}

#[tokio::test]
async fn nobody_without_a_token_learns_what_there_is() {
    let world = World::start().await;
    assert_eq!(world.deliver(&account_created("onb-1", "example.com")).await.status, 201);
    assert_all_under_api_wants_a_token(world.query.addr).await;
    for open in ["/health", "/ready", "/metrics"] {
        assert_eq!(Raw::get(open).send(world.query.addr).await.status, 200);
    }
    Raw::get("/apix").send(world.query.addr).await.assert_problem(404, "not_found");
    // What was refused changed nothing.
    assert_eq!(world.all(TICKETS).await[0]["status"], "open");
}

/// Checks a 400 that names the parameter.
async fn refuse_parameter(world: &World, target: &str, name: &str) {
    let reply = ask(world, target).await;
    reply.assert_problem(400, "invalid_query");
    assert!(reply.body["detail"].as_str().unwrap().contains(&format!("`{name}`")), "{reply:?}");
}

#[tokio::test]
async fn a_parameter_that_is_unknown_malformed_or_doubled_is_named() {
    let world = World::start().await;
    let both = [
        (
            "limit",
            &["", "0", "501", "-1", "%2B5", "+5", "5.0", "1e2", "abc", "0x10", "%00", "99999999999999999999"][..],
        ),
        ("domain", &["a%20b", "a..b", "-a", "under_score", "%00", "%ff", "http://x"]),
        (
            "from",
            &[
                "",
                "now",
                "2026-11-24",
                "2026-11-24T10:15:30",
                "2026-11-24T10:15:30+01:00",
                "1764000000",
                "2026-02-30T00:00:00Z",
            ],
        ),
        ("to", &["", "2026-11-24T25:00:00Z", "2026-11-24%2010:15:30Z", "%ff"]),
        ("cursor", &["", "x", "AAAA", "%00", "%ff", "null", "AAAAAAAAAAAAAAAAAAAAAAAAAAA", "../../etc", "a%2Bb%3D"]),
    ];
    let events_only = [
        ("session_id", &["%00", "a%0Ab", "%7f", "%c2%85", "%ff", "%ed%a0%80"][..]),
        ("event", &["", "Account", "a..b", "a%20b", "*"]),
        ("outcome", &["", "created", "Duplicate", "ticket_created,duplicate"]),
        ("payload_changed", &["", "1", "yes", "TRUE", "null"]),
        ("order", &["", "ASC", "up", "descending"]),
    ];
    let tickets_only = [("status", &["", "Open", "all", "open,closed", "%ff"][..])];
    for (list, more) in [(EVENTS, &events_only[..]), (TICKETS, &tickets_only[..])] {
        for (name, values) in both.iter().chain(more) {
            for value in *values {
                refuse_parameter(&world, &format!("{list}?{name}={value}"), name).await;
            }
            refuse_parameter(&world, &format!("{list}?{name}=1&limit=5&{name}=1"), name).await;
            // Without `=` the value is empty.
            if !["domain", "session_id"].contains(name) {
                refuse_parameter(&world, &format!("{list}?{name}"), name).await;
            }
        }
        for unknown in ["offset=1", "LIMIT=5", "limit%20=5", "x", "Session_id=a", "session-id=a"] {
            let name = unknown.split('=').next().unwrap().replace("%20", " ");
            refuse_parameter(&world, &format!("{list}?{unknown}"), &name).await;
        }
        refuse_parameter(&world, &format!("{list}?=5"), "").await;
        refuse_parameter(&world, &format!("{list}?limit=5&limit=5"), "limit").await;
        for fine in
            ["", "?", "?&&", "?limit=1", "?limit=500&domain=", "?%6cimit=%35", "?from=2026-11-24T10:15:30%2B01:00"]
        {
            assert_eq!(ask(&world, &format!("{list}{fine}")).await.text, r#"{"items":[],"next_cursor":null}"#);
        }
    }
    let long = "s".repeat(129);
    refuse_parameter(&world, &format!("{EVENTS}?session_id={long}"), "session_id").await;
    refuse_parameter(&world, &format!("{TICKETS}?session_id=a"), "session_id").await;
    refuse_parameter(&world, &format!("{EVENTS}?status=open"), "status").await;
    refuse_parameter(&world, &format!("{EVENTS}/01a20f9c-51b0-755e-a0fb-acc9e3d02a82?x=1"), "x").await;
    refuse_parameter(&world, &format!("{TICKETS}/tkt_{:032x}?limit=1", 1), "limit").await;
    let patch = Raw::json("PATCH", &format!("{TICKETS}/tkt_{:032x}?status=closed", 1), r#"{"status":"closed"}"#);
    ops(patch).send(world.query.addr).await.assert_problem(400, "invalid_query");
}

#[tokio::test]
async fn a_cursor_goes_on_with_its_own_list_and_filters_alone() {
    let world = World::start().await;
    for domain in ["a.example", "b.example", "c.example"] {
        assert_eq!(world.deliver(&account_created("onb-1", domain)).await.status, 201);
    }
    let mut cursors = Vec::new();
    let lists = [
        EVENTS.to_owned(),
        format!("{EVENTS}?session_id=onb-1"),
        format!("{EVENTS}?order=asc"),
        format!("{EVENTS}?event=account.created"),
        format!("{EVENTS}?outcome=ticket_created"),
        format!("{EVENTS}?from=2020-01-01T00:00:00Z"),
        TICKETS.to_owned(),
        format!("{TICKETS}?status=open"),
    ];
    let with = |list: &str, more: &str| format!("{list}{}{more}", if list.contains('?') { '&' } else { '?' });
    for list in &lists {
        let page = ask(&world, &with(list, "limit=1")).await;
        cursors.push(page.body["next_cursor"].as_str().unwrap().to_owned());
    }
    for (list, cursor) in lists.iter().zip(&cursors) {
        // Another limit is no other list.
        let page = ask(&world, &with(list, &format!("limit=2&cursor={cursor}"))).await;
        assert_eq!((page.status, page.body["items"].as_array().map(Vec::len)), (200, Some(2)), "{page:?}");
        for other in lists.iter().filter(|other| *other != list) {
            refuse_parameter(&world, &with(other, &format!("cursor={cursor}")), "cursor").await;
        }
        for spoiled in [&cursor[1..], &cursor[..cursor.len() - 1], &format!("{cursor}A")] {
            refuse_parameter(&world, &with(list, &format!("cursor={spoiled}")), "cursor").await;
        }
    }
}

#[tokio::test]
async fn an_id_that_is_none_of_ours_is_a_404() {
    let world = World::start().await;
    let (long, zeros) = ("0".repeat(5_000), format!("tkt_{}", "0".repeat(32)));
    let ids = [
        "x",
        "0",
        "..",
        "%00",
        "%ff",
        "%20",
        "a%2Fb",
        "01a20f9c-51b0-755e-a0fb-acc9e3d02a82",
        "01a20f9c-51b0-455e-a0fb-acc9e3d02a82",
        "01a20f9c51b0755ea0fbacc9e3d02a82",
        "{01a20f9c-51b0-755e-a0fb-acc9e3d02a82}",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "00000000-0000-7000-8000-000000000000",
        "first_day",
        "tkt_",
        "tkt_x",
        &zeros,
        &zeros[..35],
        &zeros.to_uppercase(),
        &long,
    ];
    for id in ids {
        for list in [EVENTS, TICKETS] {
            ask(&world, &format!("{list}/{id}")).await.assert_problem(404, "not_found");
        }
        let patch = Raw::json("PATCH", &format!("{TICKETS}/{id}"), r#"{"status":"closed"}"#);
        ops(patch).send(world.query.addr).await.assert_problem(404, "not_found");
    }
    assert_eq!(crate::dynamo::items(world.engine.addr(), "opshook_webhook_events").await, 0, "a PATCH made an item");
    for target in [format!("{EVENTS}/"), format!("{TICKETS}/"), format!("{EVENTS}/x/y"), "/api/v1/desk".to_owned()] {
        ask(&world, &target).await.assert_problem(404, "not_found");
    }
    let methods = [
        (EVENTS.to_owned(), "GET,HEAD", "POST"),
        (format!("{EVENTS}/x"), "GET,HEAD", "DELETE"),
        (TICKETS.to_owned(), "GET,HEAD", "PATCH"),
        (format!("{TICKETS}/x"), "GET,HEAD,PATCH", "PUT"),
    ];
    for (target, allow, wrong) in methods {
        let reply = ops(Raw::json(wrong, &target, "{}")).send(world.query.addr).await;
        reply.assert_problem(405, "method_not_allowed");
        assert_eq!(reply.headers["allow"], allow, "{target}");
    }
}

#[tokio::test]
async fn a_ticket_is_changed_by_its_status_alone_and_by_nothing_else() {
    let world = World::start().await;
    let ticket = world.deliver(&account_created("onb-1", "example.com")).await.body["ticket_id"].clone();
    let target = format!("{TICKETS}/{}", ticket.as_str().unwrap());
    let before = ask(&world, &target).await.text;
    let good = ops(Raw::json("PATCH", &target, r#"{"status":"closed"}"#));
    let large = format!(r#"{{"status":"closed"}}{}"#, " ".repeat(65_536));
    let malformed =
        ["", "{", "{'status':'closed'}", r#"{"status":"closed","status":"closed"}"#, "\u{feff}{}", "closed"];
    let deep = format!(r#"{{"status":{}}}"#, "[".repeat(64) + &"]".repeat(64));
    good.clone().body(large.clone()).send(world.query.addr).await.assert_problem(413, "payload_too_large");
    let chunked = good.clone().body(large).chunked(5_000);
    crate::raw::exchange(world.query.addr, &chunked).await.unwrap().assert_problem(413, "payload_too_large");
    for wrong in ["text/plain", "application/merge-patch+json", "application/json; charset=latin1"] {
        let reply = good.clone().with("content-type", wrong).send(world.query.addr).await;
        reply.assert_problem(415, "unsupported_media_type");
    }
    good.clone().without("content-type").send(world.query.addr).await.assert_problem(415, "unsupported_media_type");
    for body in malformed.into_iter().chain([deep.as_str()]) {
        println!("{body}");
        good.clone().body(body).send(world.query.addr).await.assert_problem(400, "malformed_json");
    }
    good.clone()
        .body(b"{\"status\":\"\xff\"}".to_vec())
        .send(world.query.addr)
        .await
        .assert_problem(400, "malformed_json");
    for (body, pointer) in [
        ("{}", "/status"),
        (r#"{"status":null}"#, "/status"),
        (r#"{"status":"Closed"}"#, "/status"),
        (r#"{"status":"closed "}"#, "/status"),
        (r#"{"status":""}"#, "/status"),
        (r#"{"status":1}"#, "/status"),
        (r#"{"status":["closed"]}"#, "/status"),
        ("[]", ""),
        ("null", ""),
        (r#""closed""#, ""),
    ] {
        println!("{body}");
        let reply = good.clone().body(body).send(world.query.addr).await;
        reply.assert_problem(422, "invalid_event");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{reply:?}");
    }
    let more = good.clone().body(r#"{"status":"closed","subject":"x"}"#).send(world.query.addr).await;
    more.assert_problem(422, "invalid_event");
    assert_eq!(ask(&world, &target).await.text, before);
    let closed = good.send(world.query.addr).await;
    assert_eq!((closed.status, closed.body["status"].as_str()), (200, Some("closed")), "{closed:?}");
}
