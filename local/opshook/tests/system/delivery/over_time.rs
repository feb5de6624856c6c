//! The schedule, and what a stop and a start in its middle do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::signature::DEVELOPMENT_SECRET;
use serde_json::Value;
use tokio::sync::watch;

use super::{accept, after_attempts, emit, message, ms, once_it_is};
use crate::harness::{engine, eventually};
use crate::ops::{self, Answer, Ops};

/// How much later than planned an attempt may come while the machine is busy.
const LATE_MS: i64 = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_follow_the_schedule_and_after_the_last_one_the_message_is_dead() {
    let engine = engine().await;
    let ops = Ops::start(|_, before| ops::status(500, &format!("attempt {before}"))).await;
    let emit = emit(&engine, &ops.url(), "1s,2s,0s,2s").await;
    let id = accept(&emit, "onb-1").await;
    // The fourth wait has a fifth of jitter.
    let waits = [1_000..=1_000, 2_000..=2_000, 0..=0, 1_600..=2_400];
    let mut planned = Vec::new();
    for (place, wait) in waits.iter().enumerate() {
        if *wait.end() == 0 {
            planned.push(None);
            continue;
        }
        let message = after_attempts(&emit, &id, place as u64 + 1).await;
        let attempt = &message["attempts"][place];
        let next = ms(&message["next_attempt_at"]);
        let waited = next - ms(&attempt["at"]) - attempt["ms"].as_i64().unwrap();
        assert!((wait.start() - 1..=wait.end() + 900).contains(&waited), "wait {place}: {waited} ms in {message}");
        assert_eq!((message["state"].as_str(), &message["delivered_at"]), (Some("pending"), &Value::Null));
        planned.push(Some(next));
    }
    let dead = once_it_is(&emit, &id, "dead").await;
    assert_eq!((&dead["next_attempt_at"], &dead["delivered_at"]), (&Value::Null, &Value::Null));
    let attempts = dead["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &dead["attempts_total"]), (5, &5.into()));
    for (place, attempt) in attempts.iter().enumerate() {
        assert_eq!((&attempt["status"], &attempt["answer"]), (&500.into(), &format!("attempt {place}").into()));
    }
    for (plan, attempt) in planned.iter().zip(&attempts[1..]) {
        let Some(plan) = plan else { continue };
        assert!((0..LATE_MS).contains(&(ms(&attempt["at"]) - plan)), "planned for {plan}: {attempt}");
    }
    let seen = ops.of(&id);
    assert_eq!(seen.len(), 5);
    seen.iter().for_each(|seen| seen.assert_delivery(DEVELOPMENT_SECRET));
    assert!(seen.iter().all(|other| other.body == seen[0].body));
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_delivery_goes_on_where_it_was() {
    let engine = engine().await;
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let script = move |_: &str, _| ops::status(if is_down.load(Ordering::Relaxed) { 500 } else { 200 }, "");
    let ops = Ops::start(script).await;
    let schedule = "1s,3s,1s";
    let first = emit(&engine, &ops.url(), schedule).await;
    let mut ids = Vec::new();
    // Five that fail in a row would count as an endpoint that is down.
    for session in ["a", "b", "c", "d"] {
        ids.push(accept(&first, session).await);
    }
    for id in &ids {
        after_attempts(&first, id, 2).await;
    }
    let mut planned = Vec::new();
    for id in &ids {
        planned.push(message(&first, id).await);
    }
    first.stop().await;
    down.store(false, Ordering::Relaxed);
    let second = emit(&engine, &ops.url(), schedule).await;
    for (id, planned) in ids.iter().zip(&planned) {
        assert_eq!(message(&second, id).await, *planned);
    }
    for (id, planned) in ids.iter().zip(&planned) {
        let delivered = once_it_is(&second, id, "delivered").await;
        let attempts = delivered["attempts"].as_array().unwrap();
        assert_eq!((attempts.len(), &delivered["attempts_total"]), (3, &3.into()));
        assert_eq!(attempts[..2], *planned["attempts"].as_array().unwrap());
        let late = ms(&attempts[2]["at"]) - ms(&planned["next_attempt_at"]);
        assert!((0..LATE_MS).contains(&late), "{late} ms late");
        let seen = ops.of(id);
        assert!(seen.iter().all(|other| other.body == seen[0].body) && seen.len() == 3);
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_finishes_the_attempts_under_way_and_records_them() {
    let engine = engine().await;
    let (tell, told) = watch::channel(false);
    let script = move |session: &str, before| match (session, before) {
        ("held", 0) => Answer::When(told.clone(), ops::bytes(200, "", "")),
        ("silent", 0) => Answer::Stall(Vec::new()),
        _ => ops::status(200, ""),
    };
    let ops = Ops::start(script).await;
    let first = emit(&engine, &ops.url(), "1s").await;
    let (held, silent) = (accept(&first, "held").await, accept(&first, "silent").await);
    eventually(5, "both under way", async || (ops.seen().len() == 2).then_some(())).await;
    let mut stopping = tokio::spawn(first.stop());
    let ended = tokio::time::timeout(Duration::from_millis(500), &mut stopping).await;
    assert!(ended.is_err(), "it stopped with attempts under way");
    tell.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(8), stopping).await.unwrap().unwrap();
    let second = emit(&engine, &ops.url(), "1s").await;
    let delivered = message(&second, &held).await;
    assert_eq!((delivered["state"].as_str(), &delivered["attempts_total"]), (Some("delivered"), &1.into()));
    let failed = message(&second, &silent).await;
    assert!(failed["attempts"][0]["error"].is_string(), "not recorded: {failed}");
    let delivered = once_it_is(&second, &silent, "delivered").await;
    assert_eq!(delivered["attempts_total"], 2);
    assert_eq!((ops.of(&held).len(), ops.of(&silent).len()), (1, 2));
    second.stop().await;
}
