//! Fields that are not an event's (contract §1), each pointed at, and what looks odd and is an event.

use contract::wire::EventRecord;
use serde_json::json;

use super::{assert_it_still_works, assert_nothing_is_stored, refuse};
use crate::dynamo::items;
use crate::harness::{EVENTS, World};
use crate::raw::Raw;

/// The item that notes the first day with a record.
const DAY_MARK: u64 = 1;

/// Sends a body that is JSON and no event, and checks what is pointed at.
async fn refuse_fields(world: &World, body: &str, pointers: &[&str]) {
    let reply = refuse(world, &Raw::delivery(body), 422, "invalid_event").await;
    let errors = reply.body["errors"].as_array().unwrap();
    let pointed: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointed, pointers, "{reply:?}");
    for error in errors {
        assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
        assert!(!error["detail"].as_str().unwrap().is_empty());
    }
}

/// An event with one field's value, as JSON, in it.
fn event_with(field: &str, value: &str) -> String {
    let mut fields = vec![("event", r#""account.created""#), ("session_id", r#""s""#), ("domain", r#""example.com""#)];
    fields.retain(|(name, _)| *name != field && !(*name == "event" && field == "type"));
    fields.push((field, value));
    let members: Vec<String> = fields.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!("{{{}}}", members.join(","))
}

fn quoted(text: &str) -> String {
    json!(text).to_string()
}

#[tokio::test]
async fn json_that_is_no_object_or_names_nothing_is_a_422() {
    let world = World::start().await;
    for body in ["[]", "[{}]", "\"account.created\"", "1", "1e999", "true", "null", " [ 1 ] "] {
        refuse_fields(&world, body, &[""]).await;
    }
    refuse_fields(&world, "{}", &["/event", ""]).await;
    refuse_fields(&world, r#"{"event":null,"type":null,"session_id":"s"}"#, &["/event"]).await;
    refuse_fields(&world, r#"{"Event":"account.created","session_id":"s"}"#, &["/event"]).await;
    for nameless in [
        r#"{"event":"account.created"}"#,
        r#"{"event":"account.created","session_id":"","domain":""}"#,
        r#"{"event":"account.created","session_id":null,"domain":null}"#,
        r#"{"event":"account.created","domain":"  \t\n "}"#,
    ] {
        refuse_fields(&world, nameless, &[""]).await;
    }
    assert_nothing_is_stored(&world).await;
}

#[tokio::test]
async fn each_field_of_a_wrong_type_or_form_is_pointed_at() {
    let world = World::start().await;
    for field in ["event", "type", "session_id", "domain", "timestamp"] {
        for wrong in ["1", "-0.5e3", "true", "false", "[]", "{}", r#"["x"]"#, r#"{"x":1}"#] {
            refuse_fields(&world, &event_with(field, wrong), &[&format!("/{field}")]).await;
        }
    }
    for wrong in ["1", "true", "false", "[]", r#""x""#, r#""{}""#, r#"[{"a":1}]"#] {
        refuse_fields(&world, &event_with("data", wrong), &["/data"]).await;
    }
    let long = format!("a.{}", "b".repeat(63));
    let names =
        ["", ".", "a.", ".a", "a..b", "Account.created", "account created", "account-created", "ünï", "a\0", &long];
    for name in names {
        refuse_fields(&world, &event_with("event", &quoted(name)), &["/event"]).await;
        refuse_fields(&world, &event_with("type", &quoted(name)), &["/type"]).await;
    }
    let differ = r#"{"event":"account.created","type":"dns.applied","session_id":"s"}"#;
    refuse_fields(&world, differ, &["/type"]).await;

    let mut sessions: Vec<String> =
        ['\0', '\t', '\n', '\r', '\u{1b}', '\u{1f}', '\u{7f}', '\u{80}', '\u{85}', '\u{9f}']
            .map(|control| format!("onb{control}1"))
            .into();
    sessions.extend(["s".repeat(129), "ü".repeat(129), "𝔖".repeat(129), "s".repeat(20_000)]);
    for session in sessions {
        refuse_fields(&world, &event_with("session_id", &quoted(&session)), &["/session_id"]).await;
    }
    assert_nothing_is_stored(&world).await;
    assert_it_still_works(&world).await;
}

#[tokio::test]
async fn a_domain_that_is_no_host_name_is_pointed_at() {
    let world = World::start().await;
    let of_254 = format!("{}{}", "a.".repeat(125), "abcd");
    let (label_64, punycode_64) = (format!("{}.example", "a".repeat(64)), format!("{}.example", "ü".repeat(60)));
    let huge = "a.".repeat(30_000);
    assert_eq!(of_254.len(), 254);
    let hostile = [
        "a b",
        "exa mple.com",
        "exam\tple.com",
        "exam\nple.com",
        "under_score.example",
        "_dmarc.example.com",
        "example.com/",
        "example.com/path",
        "http://example.com",
        "example.com:80",
        "user@example.com",
        "example.com?x",
        "example.com#x",
        "exa%6dple.com",
        "exam\\ple.com",
        "[::1]",
        "::1",
        "*.example.com",
        "a..b",
        ".example.com",
        "example.com..",
        ".",
        "..",
        "。",
        "-a.example",
        "a-.example",
        "a.-b.example",
        "exam\0ple.com",
        "example.com\0",
        "\u{7f}.example",
        "exam\u{85}ple.com",
        "\u{200d}.example",
        "a\u{200d}b.example",
        "a\u{200b}\u{200d}.example",
        "👩\u{200d}💻.example",
        "\u{202e}example.com",
        "\u{fffd}.example",
        "\u{e000}.example",
        "\u{301}a.example",
        "אa.example",
        "xn--.example",
        "xn--a.example",
        "xn--zzzzzzzzzzzz99999999.example",
        "xn--\u{fc}.example",
        "xn--a-.example",
        "xn--example-.com",
        "a\u{ff0f}b.example",
        "a\u{2025}b",
        "<script>",
        "'; drop table--",
        &label_64,
        &punycode_64,
        &of_254,
        &huge,
    ];
    for domain in hostile {
        refuse_fields(&world, &event_with("domain", &quoted(domain)), &["/domain"]).await;
    }
    assert_nothing_is_stored(&world).await;
}

#[tokio::test]
async fn a_time_that_is_not_rfc_3339_is_pointed_at() {
    let world = World::start().await;
    let faults = [
        "",
        " ",
        "now",
        "1764000000",
        "2026-11-24",
        "10:15:30Z",
        "2026-11-24T10:15:30",
        "2026-11-24 10:15:30Z",
        "2026-11-24_10:15:30Z",
        "2026-11-24T10:15Z",
        "2026-11-24T10:15:30.Z",
        "2026-11-24T10:15:30,5Z",
        "2026-11-24T10:15:30+24:00",
        "2026-11-24T10:15:30+2400",
        "2026-11-24T10:15:30+02",
        "2026-11-24T10:15:30+0200",
        "2026-11-24T10:15:30+02:60",
        "2026-11-24T10:15:30 Z",
        "2026-11-24T10:15:30ZZ",
        "2026-11-24T10:15:30Z[UTC]",
        " 2026-11-24T10:15:30Z",
        "2026-11-24T10:15:30Z\n",
        "2026-11-24T24:00:00Z",
        "2026-11-24T25:00:00Z",
        "2026-11-24T10:60:00Z",
        "2026-11-24T10:15:61Z",
        "2026-11-24T10:15:60Z",
        "2016-12-31T23:59:61Z",
        "2016-12-31T22:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2026-02-29T10:15:30Z",
        "2026-02-30T10:15:30Z",
        "1900-02-29T10:15:30Z",
        "2026-04-31T10:15:30Z",
        "2026-00-24T10:15:30Z",
        "2026-13-24T10:15:30Z",
        "2026-11-00T10:15:30Z",
        "2026-11-32T10:15:30Z",
        "26-11-24T10:15:30Z",
        "12026-11-24T10:15:30Z",
        "+2026-11-24T10:15:30Z",
        "-2026-11-24T10:15:30Z",
        "2026-1-24T10:15:30Z",
        "20261124T101530Z",
        "2026-W48-2T10:15:30Z",
        "２０２６-11-24T10:15:30Z",
        "2026\u{2010}11-24T10:15:30Z",
    ];
    for fault in faults {
        refuse_fields(&world, &event_with("timestamp", &quoted(fault)), &["/timestamp"]).await;
    }
    assert_nothing_is_stored(&world).await;
}

#[tokio::test]
async fn several_faults_are_told_at_once() {
    let world = World::start().await;
    let body = r#"{"event":"A","session_id":1,"domain":"a b","timestamp":"soon","data":[]}"#;
    refuse_fields(&world, body, &["/event", "/session_id", "/domain", "/timestamp", "/data"]).await;
    let body = r#"{"event":"A","type":2,"session_id":"a\u0000","unknown":1}"#;
    refuse_fields(&world, body, &["/event", "/type", "/session_id"]).await;
    assert_nothing_is_stored(&world).await;
}

#[tokio::test]
async fn what_looks_odd_and_is_an_event_is_taken_and_kept_as_it_came() {
    let world = World::start().await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let of_253 = format!("{}{}", "a.".repeat(125), "abc");
    let longest_label = format!("{}.example", "a".repeat(63));
    let mut events = vec![
        r#"{"type":"account.created","session_id":"by-type"}"#.to_owned(),
        r#"{"event":"account.created","type":"account.created","session_id":"by-both"}"#.to_owned(),
        r#"{"event":null,"type":"a","session_id":"one-null"}"#.to_owned(),
        r#"{"event":"account.created","session_id":"more","source":"portal","x":{"a":1,"a":2},"\u0000":[]}"#.to_owned(),
        r#"{"event":"account.created","session_id":null,"domain":"null-session.example","timestamp":null,"data":null}"#
            .to_owned(),
        format!(r#"{{"event":"{}","session_id":"long-name"}}"#, "a".repeat(64)),
        r#" {"event" : "0._.9", "session_id" : "spaced" } "#.to_owned(),
        "{\"event\":\"account.created\",\"session_id\":\"\\ud83d\\ude00 \\u00fc\\n\"}".replace("\\n", ""),
        event_with("data", r#"{"n":1e999,"m":-0,"big":123456789012345678901234567890.00,"s":"\ud83d\ude00\u0000"}"#)
            .replace("example.com", "numbers.example"),
        event_with("data", &format!(r#"{{"deep":{}}}"#, nested(62))),
        event_with("data", r#"{"":{"":{"":""}},"a":{"b":1},"c":{"b":1}}"#),
    ];
    for session in
        ["s".repeat(128), "ü".repeat(128), "𝔖".repeat(128), " spaces kept ".to_owned(), "a/b?c#d%".to_owned()]
    {
        events.push(event_with("session_id", &quoted(&session)));
    }
    for domain in ["Bücher.example", " example.com. ", "EXAMPLE.COM", "localhost", "1.2.3.4", &of_253, &longest_label]
    {
        events.push(event_with("domain", &quoted(domain)));
    }
    for time in [
        "2026-11-24t10:15:30z",
        "2026-11-24T10:15:30.123456789012345678901234567890Z",
        "2026-11-24T10:15:30-00:00",
        "2026-11-24T10:15:30+23:59",
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.5Z",
        "2017-01-01T00:59:60+01:00",
        "2024-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999Z",
    ] {
        events.push(event_with("timestamp", &quoted(time)));
    }
    for body in &events {
        let reply = Raw::delivery(body.as_str()).send(world.receive.addr).await;
        assert!(matches!(reply.status, 200 | 201), "{body}: {reply:?}");
        let record = world.ops(&format!("{EVENTS}/{}", reply.body["event_id"].as_str().unwrap())).await;
        assert_eq!(record.status, 200, "{body}: {record:?}");
        // Not as `Value`, which has no room for 1e999.
        let record: EventRecord = serde_json::from_str(&record.text).unwrap();
        assert_eq!(record.body.as_deref(), Some(body.as_str()));
        assert!(body.contains(record.data.as_str()) || record.data.as_str() == "{}", "{record:?}");
    }
    assert_eq!(items(world.engine.addr(), "opshook_webhook_events").await, events.len() as u64 + DAY_MARK);
    let of = async |domain: &str| world.all(&format!("{EVENTS}?domain={domain}")).await;
    assert_eq!(of("xn--bcher-kva.example").await.len(), 1);
    let null = of("null-session.example").await;
    assert_eq!(
        (&null[0]["session_id"], &null[0]["data"], &null[0]["timestamp"]),
        (&json!(""), &json!({}), &json!(null))
    );
    let all = of("example.com").await;
    assert!(all.iter().any(|record| record["timestamp"] == "2016-12-31T23:59:60Z"));
    assert!(all.iter().any(|record| record["timestamp"] == "2026-11-24t10:15:30z"));
}
