//! What each answer of ops means.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::TcpSocket;

use contract::signature::DEVELOPMENT_SECRET;

use super::{accept, emit, message, ms, once_it_is};
use crate::harness::{Server, engine};
use crate::ops::{self, Answer, Ops, Seen};

/// How much later than planned an attempt may come while the machine is busy.
const LATE_MS: i64 = 2_500;
const WORLDS_AT_ONCE: usize = 8;
const SUCCESSES: [u16; 6] = [200, 201, 202, 204, 206, 299];

/// A failure, and what is made of it.
struct Failure {
    name: &'static str,
    answer: fn() -> Answer,
    /// None where it counts as no answer.
    status: Option<u16>,
    kept: Option<&'static str>,
    takes_ms: u64,
    wait_ms: i64,
}

const fn failure(name: &'static str, answer: fn() -> Answer, status: u16, kept: Option<&'static str>) -> Failure {
    Failure { name, answer, status: Some(status), kept, takes_ms: 0, wait_ms: 1_000 }
}

const fn no_answer(name: &'static str, answer: fn() -> Answer, takes_ms: u64) -> Failure {
    Failure { name, answer, status: None, kept: None, takes_ms, wait_ms: 1_000 }
}

const fn after(wait_ms: i64, failure: Failure) -> Failure {
    Failure { wait_ms, ..failure }
}

fn raw(text: &str) -> Answer {
    Answer::Bytes(text.as_bytes().to_vec())
}

fn stall(text: &str) -> Answer {
    Answer::Stall(text.as_bytes().to_vec())
}

fn redirect(status: u16) -> Answer {
    ops::with(status, "location: /elsewhere\r\n", "go there")
}

/// Retry-After as a date, which has whole seconds.
fn busy_until_in(seconds: i64) -> Answer {
    let date = Timestamp::now() + SignedDuration::from_secs(seconds);
    busy_until("%a, %d %b %Y %H:%M:%S GMT", date)
}

fn busy_until(form: &str, date: Timestamp) -> Answer {
    let text = jiff::fmt::strtime::format(form, date).unwrap();
    ops::with(503, &format!("retry-after: {text}\r\n"), "")
}

fn in_3_s() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(3)
}

const HALF: &str = "HTTP/1.1 500 Status\r\ncontent-length: 100\r\n\r\nhalf";

const FAILURES: &[Failure] = &[
    failure("400", || ops::status(400, "no"), 400, Some("no")),
    failure(
        "401",
        || ops::status(401, "{\"code\":\"signature_mismatch\"}"),
        401,
        Some("{\"code\":\"signature_mismatch\"}"),
    ),
    failure("403", || ops::status(403, ""), 403, None),
    failure("404", || ops::status(404, "not here"), 404, Some("not here")),
    failure("422", || ops::status(422, "ünïcode"), 422, Some("ünïcode")),
    failure("500", || ops::status(500, "broken"), 500, Some("broken")),
    failure("504", || ops::status(504, ""), 504, None),
    failure("300", || redirect(300), 300, Some("go there")),
    failure("301", || redirect(301), 301, Some("go there")),
    failure("302", || redirect(302), 302, Some("go there")),
    failure("303", || redirect(303), 303, Some("go there")),
    failure("304", || raw("HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n"), 304, None),
    failure("307", || redirect(307), 307, Some("go there")),
    failure("308", || redirect(308), 308, Some("go there")),
    failure("cut in its body", || raw(HALF), 500, Some("half")),
    no_answer("closed without a byte", || raw(""), 0),
    no_answer("cut in its status", || raw("HTTP/1.1 20"), 0),
    no_answer("cut in its head", || raw("HTTP/1.1 200 OK\r\ncontent-le"), 0),
    no_answer("not HTTP", || raw("SSH-2.0-OpenSSH_9.2\r\n"), 0),
    no_answer("silent", || stall(""), 5_000),
    no_answer("stalled in its head", || stall("HTTP/1.1 200 OK\r\n"), 5_000),
    Failure { takes_ms: 5_000, ..failure("stalled in its body", || stall(HALF), 500, Some("half")) },
    failure("503", || ops::status(503, ""), 503, None),
    failure("429", || ops::status(429, ""), 429, None),
    after(2_000, failure("503 for 2 s", || ops::with(503, "retry-after: 2\r\n", ""), 503, None)),
    after(2_000, failure("429 for 2 s", || ops::with(429, "retry-after: 2\r\n", "slow"), 429, Some("slow"))),
    after(2_000, failure("503 until a date", || busy_until_in(3), 503, None)),
    after(
        2_000,
        failure("503 until a date of RFC 850", || busy_until("%A, %d-%b-%y %H:%M:%S GMT", in_3_s()), 503, None),
    ),
    after(2_000, failure("503 until a date of asctime", || busy_until("%a %b %e %H:%M:%S %Y", in_3_s()), 503, None)),
    after(
        2_000,
        failure("503 until a wrong weekday", || busy_until("Foo, %d %b %Y %H:%M:%S GMT", in_3_s()), 503, None),
    ),
    failure("503 for less than the schedule", || ops::with(503, "retry-after: 0\r\n", ""), 503, None),
    failure("503 until yesterday", || busy_until_in(-86_400), 503, None),
    failure("503 until some time", || ops::with(503, "retry-after: soon\r\n", ""), 503, None),
    failure("500 with Retry-After", || ops::with(500, "retry-after: 4\r\n", ""), 500, None),
];

fn script(session: &str, before: usize) -> Answer {
    if let Some(status) = SUCCESSES.iter().find(|status| session == format!("success {status}")) {
        return ops::status(*status, if *status == 204 { "" } else { "{\"outcome\":\"ticket_created\"}" });
    }
    match session {
        "gone" => ops::status(410, "moved away"),
        "gone, and stalled in its body" => stall("HTTP/1.1 410 Gone\r\ncontent-length: 100\r\n\r\nmoved"),
        "a success stalled in its body" => stall("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        "a success cut in its body" => raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        "a long answer" if before == 0 => ops::status(500, &format!("x{}", "é".repeat(3_000))),
        "not Unicode" if before == 0 => {
            let mut bytes = b"HTTP/1.1 500 Status\r\nconnection: close\r\n\r\n".to_vec();
            bytes.extend([0xff; 5_000]);
            Answer::Bytes(bytes)
        }
        _ => match FAILURES.iter().find(|failure| failure.name == session) {
            Some(failure) if before == 0 => (failure.answer)(),
            _ => ops::status(204, ""),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_2xx_delivers_and_a_410_parks() {
    let engine = engine().await;
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), "1s,1s").await;
    let gone = accept(&emit, "gone").await;
    let gone_slowly = accept(&emit, "gone, and stalled in its body").await;
    for status in SUCCESSES {
        let delivered = once_it_is(&emit, &accept(&emit, &format!("success {status}")).await, "delivered").await;
        assert_delivered_by(&delivered, &[(Some(status), None)]);
    }
    for broken in ["a success cut in its body", "a success stalled in its body"] {
        let delivered = once_it_is(&emit, &accept(&emit, broken).await, "delivered").await;
        assert_delivered_by(&delivered, &[(Some(200), None)]);
    }
    assert_the_first_kib_is_kept(&emit).await;
    let parked = message(&emit, &gone).await;
    assert_eq!((parked["state"].as_str(), &parked["attempts_total"]), (Some("parked"), &1.into()), "{parked}");
    assert_eq!((&parked["next_attempt_at"], &parked["delivered_at"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&parked["attempts"][0]["status"], &parked["attempts"][0]["answer"]),
        (&410.into(), &"moved away".into())
    );
    let parked = once_it_is(&emit, &gone_slowly, "parked").await;
    assert_eq!((&parked["attempts"][0]["status"], &parked["attempts"][0]["answer"]), (&410.into(), &"moved".into()));
    for parked in [&gone, &gone_slowly] {
        assert_eq!(ops.of(parked).len(), 1, "a parked message was sent again");
    }
    emit.stop().await;
}

/// Heads that curl reads, or of which at least the status can be read.
fn odd_heads() -> Vec<(&'static str, Vec<u8>)> {
    let of = |headers: &str| {
        format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\nconnection: close\r\n\r\n{{}}").into_bytes()
    };
    let many = |count: usize, line: &str| of(&format!("{line}\r\n").repeat(count));
    vec![
        ("a folded header", of("Via: 1.1 a,\r\n 1.1 b\r\n")),
        ("headers folded by a space and a tab", of("X-Cache: a,\r\n \tb\r\n\tc\r\n")),
        ("a fold in the first header", of("X-Odd:\r\n a\r\n")),
        ("101 links", many(101, "Link: </style.css>; rel=preload")),
        ("300 cookies", many(300, "Set-Cookie: session=0123456789abcdef; Path=/; HttpOnly")),
        ("2,000 headers", many(2_000, "X-Many: x")),
        ("a header of 200,000 bytes", of(&format!("X-Long: {}\r\n", "x".repeat(200_000)))),
        ("a head of 3 MB", many(30_000, &format!("X-Long: {}", "x".repeat(90)))),
        ("a name with a bracket", of("X(1): a\r\n")),
        ("a name with a space behind it", of("X-Odd : a\r\n")),
        ("a name that is no ASCII", of("Größe: 1\r\n")),
        ("a line without a colon", of("nonsense\r\n")),
        ("a line that is only a colon", of(": x\r\n")),
        ("a control character", of("X-Odd: a\u{1}b\r\n")),
        ("a zero byte", of("X-Odd: a\0b\r\n")),
        ("a fold before any header", of(" X-Odd: a\r\n")),
        ("two lengths", of("Content-Length: 5\r\n")),
        ("a length that is none", of("Content-Length: x\r\n")),
        ("no reason", b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("a reason that is no ASCII", "HTTP/1.1 200 Größe\r\ncontent-length: 0\r\n\r\n".as_bytes().to_vec()),
        ("a reason with a control character", b"HTTP/1.1 200 O\x01K\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("line feeds alone", b"HTTP/1.1 200 OK\ncontent-length: 0\n\n".to_vec()),
        ("chunks of HTTP/1.0", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        (
            "an interim answer, and an odd one",
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX(1): a\r\nContent-Length: x\r\n\r\n".to_vec(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_in_the_head_of_a_success_undoes_it() {
    let engine = engine().await;
    let answers = odd_heads();
    let ops = Ops::start(move |session, _| {
        Answer::Bytes(answers.iter().find(|(name, _)| *name == session).map(|(_, bytes)| bytes.clone()).unwrap())
    })
    .await;
    let emit = emit(&engine, &ops.url(), "1s,1s").await;
    for (name, _) in odd_heads() {
        let delivered = once_it_is(&emit, &accept(&emit, name).await, "delivered").await;
        assert_eq!(delivered["attempts_total"], 1, "{name}: {delivered}");
        assert_eq!(delivered["attempts"][0]["status"], 200, "{name}: {delivered}");
    }
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_odd_head_the_status_counts_whatever_it_is_and_what_can_be_read() {
    let engine = engine().await;
    let ops = Ops::start(|session, before| match (session, before) {
        ("gone", _) => raw("HTTP/1.1 410 Gone\r\nContent-Length: x\r\n\r\n"),
        ("busy", 0) => raw("HTTP/1.1 503 Busy\r\nVia: a,\r\n b\r\nX(1): a\r\nRetry-After: 2\r\n\r\n"),
        ("broken", 0) => raw("HTTP/1.1 500 Broken\r\nContent-Length: x\r\n\r\n"),
        _ => ops::status(204, ""),
    })
    .await;
    let emit = emit(&engine, &ops.url(), "1s,1s").await;
    let (gone, busy, broken) =
        (accept(&emit, "gone").await, accept(&emit, "busy").await, accept(&emit, "broken").await);
    let parked = once_it_is(&emit, &gone, "parked").await;
    assert_eq!(parked["attempts"][0]["status"], 410, "{parked}");
    let busy = once_it_is(&emit, &busy, "delivered").await;
    assert_delivered_by(&busy, &[(Some(503), None), (Some(204), None)]);
    assert!(ms(&busy["attempts"][1]["at"]) - ms(&busy["attempts"][0]["at"]) >= 1_990, "Retry-After was read: {busy}");
    assert_delivered_by(&once_it_is(&emit, &broken, "delivered").await, &[(Some(500), None), (Some(204), None)]);
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_neither_delivers_nor_parks_is_tried_again() {
    // Each on an outbox of its own: several that fail in a row count as an endpoint that is down. Slow ones first.
    let mut slow_first: Vec<&Failure> = FAILURES.iter().collect();
    slow_first.sort_by_key(|failure| std::cmp::Reverse(failure.takes_ms));
    let each = slow_first.into_iter().map(|failure| async move {
        let engine = engine().await;
        let ops = Ops::start(script).await;
        let emit = emit(&engine, &ops.url(), "1s,1s").await;
        let id = accept(&emit, failure.name).await;
        let delivered = once_it_is(&emit, &id, "delivered").await;
        assert_delivered_by(&delivered, &[(failure.status, failure.kept), (Some(204), None)]);
        assert_tried_again(failure, &delivered, &ops.of(&id));
        emit.stop().await;
    });
    stream::iter(each).buffer_unordered(WORLDS_AT_ONCE).collect::<Vec<()>>().await;
}

/// Panics unless the message is delivered after exactly these attempts: status, and what is kept of the answer.
#[track_caller]
fn assert_delivered_by(message: &Value, expected: &[(Option<u16>, Option<&str>)]) {
    let attempts = message["attempts"].as_array().unwrap();
    let found: Vec<_> = attempts.iter().map(|a| (a["status"].as_u64(), a["answer"].as_str())).collect();
    let wanted: Vec<_> = expected.iter().map(|(status, kept)| (status.map(u64::from), *kept)).collect();
    assert_eq!(found, wanted, "{message}");
    assert_eq!(message["attempts_total"], expected.len());
    assert_eq!(message["next_attempt_at"], Value::Null);
    for attempt in attempts {
        let error = attempt["error"].as_str();
        assert_eq!(error.is_some(), attempt["status"].is_null(), "{attempt}");
        assert!(error.is_none_or(|text| !text.is_empty() && !text.contains("http://")), "{attempt}");
    }
    let (last, delivered_at) = (attempts.last().unwrap(), ms(&message["delivered_at"]));
    let ended = ms(&last["at"]) + last["ms"].as_i64().unwrap();
    assert!((-1..2_500).contains(&(delivered_at - ended)), "{message}");
    assert!(ms(&message["accepted_at"]) <= ms(&attempts[0]["at"]));
}

#[track_caller]
fn assert_tried_again(failure: &Failure, message: &Value, seen: &[Seen]) {
    let name = failure.name;
    let [first, second] = seen else { panic!("{name}: {} requests", seen.len()) };
    for seen in [first, second] {
        seen.assert_delivery(DEVELOPMENT_SECRET);
        assert_eq!((seen.id(), &seen.body), (message["webhook_id"].as_str().unwrap(), &first.body), "{name}");
    }
    assert!(second.seconds() > first.seconds(), "{name}: the same timestamp on two attempts");
    assert_ne!(first.header("webhook-signature"), second.header("webhook-signature"), "{name}");
    let took = message["attempts"][0]["ms"].as_u64().unwrap();
    assert!((failure.takes_ms..failure.takes_ms + 2_500).contains(&took), "{name} took {took} ms");
    let planned = i64::try_from(failure.takes_ms).unwrap() + failure.wait_ms;
    let at = |place: usize| ms(&message["attempts"][place]["at"]);
    let gap = at(1) - at(0);
    assert!((planned - 10..planned + LATE_MS).contains(&gap), "{name}: after {gap} ms instead of {planned}");
}

async fn assert_the_first_kib_is_kept(emit: &Server) {
    let long = accept(emit, "a long answer").await;
    let not_unicode = accept(emit, "not Unicode").await;
    let long = once_it_is(emit, &long, "delivered").await;
    let kept = long["attempts"][0]["answer"].as_str().unwrap();
    assert!((1_020..=1_024).contains(&kept.len()), "{} bytes", kept.len());
    assert!(kept.starts_with("xéé") && kept.chars().skip(1).all(|c| c == 'é'), "{kept}");
    let not_unicode = once_it_is(emit, &not_unicode, "delivered").await;
    let kept = not_unicode["attempts"][0]["answer"].as_str().unwrap();
    assert!((1_000..=1_024).contains(&kept.len()), "{} bytes", kept.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ops_could_not_be_reached_for_is_delivered_when_it_is_back() {
    let engine = engine().await;
    // Bound and not listening: connections are refused, and nobody else gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let emit = emit(&engine, &url, "1s,1s,1s,1s,1s").await;
    let mut ids = Vec::new();
    for session in ["a", "b", "c"] {
        ids.push(accept(&emit, session).await);
    }
    let failed = super::after_attempts(&emit, &ids[0], 1).await;
    let attempt = &failed["attempts"][0];
    assert_eq!((failed["state"].as_str(), &attempt["status"]), (Some("pending"), &Value::Null));
    assert!(attempt["error"].as_str().unwrap().starts_with("can't connect"), "{attempt}");
    assert_eq!(attempt["answer"], Value::Null);
    let ops = Ops::start_on(socket.listen(64).unwrap(), |_, _| ops::status(204, ""));
    for id in &ids {
        let delivered = once_it_is(&emit, id, "delivered").await;
        assert!(delivered["attempts_total"].as_u64().unwrap() >= 2, "{delivered}");
        assert_eq!(ops.of(id).len(), 1);
    }
    tokio::time::timeout(Duration::from_secs(5), emit.stop()).await.unwrap();
}
