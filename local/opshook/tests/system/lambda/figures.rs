//! Each sweep tells the outbox's figures in one line, of which CloudWatch makes metrics.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Site, TIME, sweep};
use crate::harness::eventually;
use crate::ops::{self, Ops};
use crate::proxy::{Fault, Refusal};

/// Sweeps, and answers what it tells.
async fn told(site: &mut Site) -> Value {
    site.lambda.invoke(sweep(), TIME).await.success();
    let line = site.lambda.line_with("CloudWatchMetrics").await;
    serde_json::from_str(&line).expect("the line is JSON and nothing else")
}

fn counts(line: &Value) -> [u64; 3] {
    ["PendingMessages", "DeadMessages", "ParkedMessages"].map(|name| line[name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_tells_what_is_pending_dead_and_parked_and_how_old_the_oldest_is() {
    let ops = Ops::start(|session, _| match session {
        "gone" => ops::status(410, ""),
        "refused" => ops::status(400, ""),
        _ => ops::status(200, ""),
    })
    .await;
    let mut site = Site::start(&ops, "2s").await;
    let line = told(&mut site).await;
    assert_eq!((counts(&line), &line["OldestPendingSeconds"]), ([0, 0, 0], &json!(0)));
    // As the fake of Lambda calls the function.
    assert_eq!(line["FunctionName"], "opshook");
    site.accept_all(&["fine", "gone", "gone", "refused"]).await;
    told(&mut site).await;
    // One waits for its second attempt.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let line = told(&mut site).await;
    assert_eq!(counts(&line), [1, 0, 2]);
    assert!((1..60).contains(&line["OldestPendingSeconds"].as_u64().unwrap()), "{line}");
    let line = eventually(10, "it is dead, and told", async || {
        let line = told(&mut site).await;
        (counts(&line) == [0, 1, 2]).then_some(line)
    })
    .await;
    assert_eq!(line["OldestPendingSeconds"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_a_hundred_are_counted() {
    let ops = Ops::start(|_, _| ops::status(410, "")).await;
    let mut site = Site::start(&ops, "1s").await;
    for number in 0..130 {
        site.accept(&format!("onb-{number}")).await;
    }
    let line = eventually(20, "all are parked", async || {
        let line = told(&mut site).await;
        (line["PendingMessages"] == 0).then_some(line)
    })
    .await;
    assert_eq!(counts(&line), [0, 0, 100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_outbox_can_not_be_looked_at_no_figure_is_told() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let mut site = Site::start(&ops, "1s").await;
    site.storage.set_plan(|call| {
        if call.body.contains("state_key") { Fault::Refuse(Refusal::Unavailable) } else { Fault::Pass }
    });
    site.lambda.invoke(sweep(), TIME).await.success();
    site.lambda.line_with("no metrics are told").await;
    let log = site.lambda.log().await;
    assert!(!log.contains("CloudWatchMetrics"), "{log}");
}
