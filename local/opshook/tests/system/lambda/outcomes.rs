//! An invocation has failed where what came of an attempt could not be recorded, and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Site, TIME, all_recorded, sequence, sweep};
use crate::harness::eventually;
use crate::ops::{self, Ops};
use crate::proxy::{Call, Fault, Refusal};

/// Time for a single round of attempts.
const SHORT: Duration = Duration::from_secs(12);

/// Whether a call records what came of an attempt.
fn records_an_outcome(call: &Call) -> bool {
    call.body.contains("recorded_by")
}

fn statuses(message: &Value) -> Vec<&Value> {
    message["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["status"]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_fails_is_no_failed_invocation_and_its_wait_ends_with_a_sweep() {
    let ops = Ops::start(|session, before| match session {
        "stream" if before < 1 => ops::status(500, "no"),
        "gone" => ops::status(410, ""),
        "schedule" if before < 3 => ops::status(500, "no"),
        _ => ops::status(200, ""),
    })
    .await;
    let site = Site::start(&ops, "1s,1s,1s").await;
    let ids = site.accept_all(&["stream", "gone"]).await;
    let stream = site.stream(&ids).await;
    assert_eq!(site.lambda.invoke(stream.clone(), TIME).await.success(), all_recorded());
    let failed = site.message(&ids[0]).await;
    assert_eq!((&failed["state"], statuses(&failed)), (&json!("pending"), vec![&json!(500)]), "{failed}");
    assert_eq!(failed["attempts"][0]["answer"], "no");
    assert_eq!(site.item(&ids[0]).await.get("lease_until"), None);
    assert_eq!(site.message(&ids[1]).await["state"], "parked");
    // Its wait is not over: neither the stream nor the schedule sends it before.
    let scheduled = site.accept("schedule").await;
    assert_eq!(site.lambda.invoke(stream, TIME).await.success(), all_recorded());
    assert_eq!(site.lambda.invoke(sweep(), TIME).await.success(), Value::Null);
    assert_eq!((ops.of(&ids[0]).len(), ops.of(&scheduled).len()), (1, 1));
    for attempts in 2..=4 {
        eventually(10, "the next sweep attempts it", async || {
            assert_eq!(site.lambda.invoke(sweep(), TIME).await.success(), Value::Null);
            let message = site.message(&scheduled).await;
            assert_eq!(message["attempts_total"], ops.of(&scheduled).len(), "each attempt is recorded");
            (message["attempts_total"] == attempts).then_some(())
        })
        .await;
    }
    let message = site.message(&scheduled).await;
    assert_eq!(statuses(&message), [500, 500, 500, 200]);
    let times: Vec<_> = ops.of(&scheduled).iter().map(|seen| seen.at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(900)), "the waits hold: {times:?}");
    assert_eq!(site.message(&ids[0]).await["state"], "delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_comes_again_from_the_first_message_whose_outcome_could_not_be_recorded() {
    let ops = Ops::start(|session, _| ops::status(if session == "b" { 500 } else { 200 }, "")).await;
    let site = Site::start(&ops, "1s").await;
    let ids = site.accept_all(&["a", "b", "c", "d"]).await;
    let stream = site.stream(&ids).await;
    // A failure and a delivery: neither of them can be recorded.
    let lost = [ids[1].clone(), ids[2].clone()];
    site.storage.set_plan(move |call| {
        let hit = records_an_outcome(call) && lost.iter().any(|id| call.body.contains(id));
        if hit { Fault::Refuse(Refusal::Internal) } else { Fault::Pass }
    });
    let answer = site.lambda.invoke(stream, SHORT).await.success();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": sequence(1)}]}));
    site.storage.set_plan(|_| Fault::Pass);
    assert_eq!(ops.counts().len(), 4);
    for (id, attempts) in ids.iter().zip([1, 0, 0, 1]) {
        assert_eq!(site.message(id).await["attempts_total"], attempts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_has_failed_where_an_outcome_could_not_be_recorded_and_answers_in_time() {
    for fault in [Fault::Hang, Fault::CutRequest] {
        let ops = Ops::start(|session, _| ops::status(if session == "fails" { 500 } else { 200 }, "")).await;
        let mut site = Site::start(&ops, "1s").await;
        let ids = site.accept_all(&["fails", "delivered"]).await;
        site.storage.set_plan(move |call| if records_an_outcome(call) { fault } else { Fault::Pass });
        let text = site.lambda.invoke(sweep(), SHORT).await.failure("outcome_unrecorded");
        assert!(text.contains("2 message"), "{text}");
        site.lambda.line_with("outcome_unrecorded").await;
        site.storage.set_plan(|_| Fault::Pass);
        // The messages go on once their leases have run out.
        eventually(20, "delivered", async || {
            site.lambda.invoke(sweep(), SHORT).await.success();
            (site.message(&ids[1]).await["state"] == "delivered").then_some(())
        })
        .await;
        assert_eq!(ops.of(&ids[1]).len(), 2, "whoever is in doubt sends it again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_can_not_read_the_outbox_is_no_failed_invocation() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let mut site = Site::start(&ops, "1s").await;
    let id = site.accept("a").await;
    site.storage.set_plan(|_| Fault::Refuse(Refusal::Unavailable));
    assert_eq!(site.lambda.invoke(sweep(), SHORT).await.success(), Value::Null);
    site.lambda.line_with("can't be swept").await;
    assert_eq!(ops.seen().len(), 0);
    site.storage.set_plan(|_| Fault::Pass);
    site.lambda.invoke(sweep(), SHORT).await.success();
    assert_eq!(site.message(&id).await["state"], "delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_alone_find_that_ops_is_down_probe_it_and_deliver_all_once_it_is_back() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let script = move |_: &str, _| ops::status(if is_up.load(Ordering::Acquire) { 200 } else { 500 }, "");
    let ops = Ops::start(script).await;
    let site = Site::start(&ops, "1s").await;
    let mut ids = Vec::new();
    for number in 0..60 {
        ids.push(site.accept(&format!("onb-{number}")).await);
    }
    site.lambda.invoke(sweep(), TIME).await.success();
    let found = ops.seen().len();
    assert!((5..60).contains(&found), "{found} were sent before it was known to be down");
    for _ in 0..20 {
        site.lambda.invoke(sweep(), TIME).await.success();
        site.lambda.invoke(site.stream(&ids).await, TIME).await.success();
    }
    let probed = ops.seen().len() - found;
    assert!(probed <= 5, "{probed} probes while it was down");
    up.store(true, Ordering::Release);
    eventually(20, "delivered", async || {
        site.lambda.invoke(sweep(), TIME).await.success();
        (ops.counts().len() == ids.len()).then_some(())
    })
    .await;
    for id in &ids {
        assert_eq!(site.message(id).await["state"], "delivered");
    }
}
