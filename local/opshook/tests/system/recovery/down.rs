//! The endpoint is down, or refuses us, and is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{activity, codes, count, switched};
use crate::delivery::{accept, after_attempts, emit, message, once_it_is};
use crate::harness::{engine, eventually};
use crate::ops::{self, Ops};

const SCHEDULE: &str = "1s,3s,9s,1m,5m";
/// What is in flight together may arrive in any order.
const IN_FLIGHT: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_ops_is_down_one_message_at_a_time_probes_and_then_all_go_oldest_first() {
    let engine = engine().await;
    let (ops, status) = switched(503).await;
    let emit = emit(&engine, &ops.url(), SCHEDULE).await;
    let mut ids = Vec::new();
    for number in 0..200 {
        ids.push(accept(&emit, &format!("onb-{number}")).await);
    }
    eventually(5, "down", async || (codes(&emit).await == ["endpoint_down"]).then_some(())).await;
    // What was under way is done; what comes now are probes, after 1, 2 and 4 s.
    sleep(Duration::from_millis(300)).await;
    let before = ops.seen().len();
    assert!(before <= 5 + IN_FLIGHT, "{before} requests until it counted as down");
    sleep(Duration::from_millis(6_500)).await;
    let probes = ops.seen().len() - before;
    assert!((2..=4).contains(&probes), "{probes} probes");
    assert_eq!(count(&emit, "pending").await, ids.len(), "nothing died, nothing was lost");
    status.store(200, Ordering::Relaxed);
    let before = ops.seen().len();
    eventually(20, "all delivered", async || (count(&emit, "delivered").await == ids.len()).then_some(())).await;
    let arrived: Vec<usize> =
        ops.seen()[before..].iter().map(|seen| ids.iter().position(|id| id == seen.id()).unwrap()).collect();
    assert_eq!(arrived.len(), ids.len(), "each was sent once more");
    // The first one is a probe. Those that were tried before are retries, and go beside the others.
    let untried: Vec<usize> = arrived.into_iter().skip(1).filter(|number| ops.of(&ids[*number]).len() == 1).collect();
    assert!(untried.len() > 100, "{} waited", untried.len());
    let mut sorted = untried.clone();
    sorted.sort_unstable();
    for (place, number) in untried.iter().enumerate() {
        let wanted = sorted.iter().position(|other| other == number).unwrap();
        assert!(place.abs_diff(wanted) <= IN_FLIGHT + 1, "message {number} came as number {place} of those");
    }
    assert!(ops.most_at_once() <= IN_FLIGHT);
    assert_eq!(codes(&emit).await, ["endpoint_up", "endpoint_down"]);
    let entries = activity(&emit, "&level=warn").await;
    assert_eq!((entries.len(), &entries[0]["level"]), (1, &json!("warn")));
    assert!(entries[0]["message"].as_str().unwrap().contains("status 503"), "{entries:?}");
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_messages_that_are_refused_are_told_with_the_settings_and_how_far_the_clocks_differ() {
    let engine = engine().await;
    let refuses = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&refuses);
    let script = move |_: &str, _| {
        let ahead = Timestamp::now() + SignedDuration::from_hours(1);
        let date = jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S GMT", ahead).unwrap();
        if still.load(Ordering::Relaxed) {
            ops::with(401, &format!("date: {date}\r\n"), "{\"code\":\"signature_mismatch\"}")
        } else {
            ops::status(200, "")
        }
    };
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), SCHEDULE).await;
    let first = accept(&emit, "onb-1").await;
    after_attempts(&emit, &first, 2).await;
    assert!(codes(&emit).await.is_empty(), "one message proves nothing");
    let second = accept(&emit, "onb-2").await;
    eventually(5, "told", async || (codes(&emit).await == ["endpoint_refuses"]).then_some(())).await;
    let more = accept(&emit, "onb-3").await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(ops.of(&more).len(), 0, "the third one waits");
    let entry = activity(&emit, "").await.remove(0);
    let told = entry["message"].as_str().unwrap();
    for part in ["status 401", "OPS_WEBHOOK_SECRET", "WEBHOOK_SECRET", "s ahead of ours", "set the clock"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let seconds: i64 = told.split("clock is ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((3_597..=3_603).contains(&seconds), "{told}");
    assert_eq!(
        (&entry["level"], &entry["webhook_id"], &entry["session_id"]),
        (&json!("warn"), &Value::Null, &Value::Null)
    );
    refuses.store(false, Ordering::Relaxed);
    for id in [&first, &second, &more] {
        once_it_is(&emit, id, "delivered").await;
    }
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_messages_in_a_row_or_one_that_fails_again_and_again_mean_nothing() {
    let engine = engine().await;
    let script = |session: &str, _| ops::status(if session.starts_with("bad") { 500 } else { 200 }, "");
    let ops = Ops::start(script).await;
    let slow = emit(&engine, &ops.url(), "1m").await;
    for round in 0..3 {
        for number in 0..4 {
            let id = accept(&slow, &format!("bad-{round}-{number}")).await;
            after_attempts(&slow, &id, 1).await;
        }
        let good = accept(&slow, &format!("good-{round}")).await;
        once_it_is(&slow, &good, "delivered").await;
    }
    slow.stop().await;
    let quick = emit(&engine, &ops.url(), "0s,0s,0s,0s,0s,0s,0s,0s").await;
    let stubborn = accept(&quick, "bad again").await;
    once_it_is(&quick, &stubborn, "dead").await;
    assert_eq!(codes(&quick).await, ["message_dead", "third_retry_failed"]);
    quick.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_fails_stands_in_the_attempts_and_uses_up_no_schedule() {
    let engine = engine().await;
    let (ops, status) = switched(403).await;
    // One attempt of the schedule is left, an hour later, when the endpoint goes down.
    let emit = emit(&engine, &ops.url(), "0s,1h").await;
    let ids = [accept(&emit, "onb-1").await, accept(&emit, "onb-2").await];
    let waiting = eventually(30, "probes", async || {
        let (first, second) = (message(&emit, &ids[0]).await, message(&emit, &ids[1]).await);
        let probed = [&first, &second].iter().all(|message| message["attempts_total"].as_u64() >= Some(3));
        probed.then_some([first, second])
    })
    .await;
    for message in &waiting {
        assert_eq!(message["state"], "pending", "nothing is given up while the endpoint is down: {message}");
        assert!(message["attempts"].as_array().unwrap().iter().all(|attempt| attempt["status"] == 403));
    }
    status.store(200, Ordering::Relaxed);
    for id in &ids {
        once_it_is(&emit, id, "delivered").await;
    }
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_stalls_since_before_holds_up_no_drain() {
    let engine = engine().await;
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let script = move |session: &str, before: usize| match session {
        "stalls" if before == 0 => ops::Answer::Stall(Vec::new()),
        _ if is_down.load(Ordering::Relaxed) => ops::status(500, ""),
        _ => ops::status(200, ""),
    };
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), SCHEDULE).await;
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(accept(&emit, &format!("onb-{number}")).await);
    }
    eventually(5, "down", async || (codes(&emit).await == ["endpoint_down"]).then_some(())).await;
    down.store(false, Ordering::Relaxed);
    for id in &ids {
        once_it_is(&emit, id, "delivered").await;
    }
    // While this one stalls, the endpoint goes down by the others and is back. The scenarios show that they don't wait for it.
    let stalls = accept(&emit, "stalls").await;
    eventually(5, "it stalls", async || (ops.of(&stalls).len() == 1).then_some(())).await;
    down.store(true, Ordering::Relaxed);
    let mut more = Vec::new();
    for number in 10..30 {
        more.push(accept(&emit, &format!("onb-{number}")).await);
    }
    eventually(5, "down again", async || {
        (codes(&emit).await.iter().filter(|code| *code == "endpoint_down").count() == 2).then_some(())
    })
    .await;
    down.store(false, Ordering::Relaxed);
    for id in &more {
        once_it_is(&emit, id, "delivered").await;
    }
    once_it_is(&emit, &stalls, "delivered").await;
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backlog_drains_4_8_16_then_32_at_a_time() {
    const TAKES: Duration = Duration::from_millis(400);
    let engine = engine().await;
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let script = move |_: &str, _| match is_down.load(Ordering::Relaxed) {
        true => ops::status(503, ""),
        false => ops::Answer::Slow(TAKES, ops::bytes(200, "", "")),
    };
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), SCHEDULE).await;
    for number in 0..80 {
        accept(&emit, &format!("onb-{number}")).await;
    }
    eventually(5, "down", async || (codes(&emit).await == ["endpoint_down"]).then_some(())).await;
    sleep(Duration::from_millis(300)).await;
    down.store(false, Ordering::Relaxed);
    let before = ops.seen().len();
    eventually(20, "all delivered", async || (count(&emit, "delivered").await == 80).then_some(())).await;
    let arrived: Vec<i64> = ops.seen()[before..].iter().map(|seen| seen.time.as_millisecond()).collect();
    // A message is with ops for at least this long after it came; the first one is the probe.
    let stays = i64::try_from(TAKES.as_millis()).unwrap() - 100;
    let together = |place: usize| arrived[1..=place].iter().filter(|at| *at + stays > arrived[place]).count();
    let most = |places: std::ops::Range<usize>| places.map(together).max().unwrap();
    let steps = [most(1..5), most(5..13), most(13..29), most(29..arrived.len())];
    assert!(steps[0] <= 4 && steps[1] <= 8 && steps[2] <= 16 && steps[3] <= 32, "{steps:?}");
    assert!(steps[3] > 16, "it never was faster: {steps:?}");
    emit.stop().await;
}

/// Of the oldest pending message `always` is answered, of the others what they deserve.
async fn drains_in_spite_of(always: u16) {
    let engine = engine().await;
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let script = move |session: &str, _| match session {
        _ if is_down.load(Ordering::Relaxed) => ops::status(503, ""),
        "poison" => ops::status(always, ""),
        _ => ops::status(200, ""),
    };
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), SCHEDULE).await;
    let poison = accept(&emit, "poison").await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(accept(&emit, &format!("onb-{number}")).await);
    }
    eventually(5, "down", async || (codes(&emit).await == ["endpoint_down"]).then_some(())).await;
    down.store(false, Ordering::Relaxed);
    for id in &ids {
        once_it_is(&emit, id, "delivered").await;
    }
    let last = accept(&emit, "after that").await;
    once_it_is(&emit, &last, "delivered").await;
    assert_eq!(message(&emit, &poison).await["state"], "pending");
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_message_holds_up_nothing_and_keeps_nothing_down() {
    tokio::join!(drains_in_spite_of(422), drains_in_spite_of(500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_poison_messages_are_not_told_as_an_outage_again_and_again() {
    let engine = engine().await;
    let script = |session: &str, _| ops::status(if session.starts_with("500") { 500 } else { 200 }, "");
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), SCHEDULE).await;
    for number in 0..6 {
        accept(&emit, &format!("500-{number}")).await;
    }
    let downs = async || codes(&emit).await.iter().filter(|code| *code == "endpoint_down").count();
    eventually(10, "down", async || (downs().await > 0).then_some(())).await;
    let good = accept(&emit, "good").await;
    once_it_is(&emit, &good, "delivered").await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(downs().await, 1, "they have failed while another got through");
    let good = accept(&emit, "good").await;
    once_it_is(&emit, &good, "delivered").await;
    emit.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_failed_retry_a_death_and_a_parking_are_told() {
    let engine = engine().await;
    let script =
        |session: &str, _| ops::status(if session == "gone" { 410 } else { 422 }, "ana@example.com is no good");
    let ops = Ops::start(script).await;
    let emit = emit(&engine, &ops.url(), "0s,0s,0s,1s").await;
    let dies = accept(&emit, "dies").await;
    once_it_is(&emit, &dies, "dead").await;
    let gone = accept(&emit, "gone").await;
    once_it_is(&emit, &gone, "parked").await;
    assert_eq!(codes(&emit).await, ["message_parked", "message_dead", "third_retry_failed"]);
    let of_one = activity(&emit, "&session_id=dies").await;
    assert_eq!(of_one.len(), 2);
    for entry in &of_one {
        assert_eq!(
            (&entry["webhook_id"], &entry["session_id"], &entry["level"]),
            (&json!(dies), &json!("dies"), &json!("warn"))
        );
        let told = entry["message"].as_str().unwrap();
        assert!(told.contains("status 422") && !told.contains("ana@"), "{told}");
    }
    assert_eq!(message(&emit, &dies).await["attempts_total"], 5);
    emit.stop().await;
}
