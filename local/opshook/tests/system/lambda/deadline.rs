//! An invocation answers before its deadline, and takes nothing that it can't finish.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Site, TIME, all_recorded, sweep};
use crate::ops::{self, Answer, Ops};
use crate::proxy::Fault;

/// Every message is as it was, or has the attempt that ops saw; nobody holds a lease.
async fn assert_all_recorded(site: &Site, ops: &Ops, ids: &[String]) {
    for id in ids {
        let item = site.item(id).await;
        assert_eq!(item.get("lease_until"), None, "it is left leased: {item}");
        assert_eq!(item["attempts_total"]["N"], ops.of(id).len().to_string(), "{item}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_stalled_ops_and_many_due_the_answer_comes_before_the_deadline_and_nothing_is_left_leased() {
    // Each attempt takes 5 s: there is time for one round.
    let time = Duration::from_secs(12);
    for trigger in ["stream", "schedule"] {
        let ops = Ops::start(|_, _| Answer::Stall(Vec::new())).await;
        let site = Site::start(&ops, "1s").await;
        let mut ids = Vec::new();
        for number in 0..80 {
            ids.push(site.accept(&format!("onb-{number}")).await);
        }
        let (event, expected) = match trigger {
            "stream" => (site.stream(&ids).await, all_recorded()),
            _ => (sweep(), Value::Null),
        };
        let (answer, took) = site.lambda.invoke_as(trigger, event, time).await;
        assert_eq!(answer.success(), expected);
        let sent = ops.seen().len();
        assert!((1..80).contains(&sent), "{sent} were sent");
        assert_all_recorded(&site, &ops, &ids).await;
        eprintln!("{trigger}: {sent} sent in {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_less_time_than_an_attempt_may_take_nothing_is_begun() {
    let ops = Ops::start(|_, _| ops::status(200, "")).await;
    let site = Site::start(&ops, "1s").await;
    let ids = [site.accept("onb-1").await];
    let stream = site.stream(&ids).await;
    for seconds in [1, 4, 9] {
        let time = Duration::from_secs(seconds);
        assert_eq!(site.lambda.invoke(stream.clone(), time).await.success(), all_recorded());
        assert_eq!(site.lambda.invoke(sweep(), time).await.success(), Value::Null);
    }
    assert_eq!(ops.seen().len(), 0);
    assert_all_recorded(&site, &ops, &ids).await;
    assert_eq!(site.lambda.invoke(stream, TIME).await.success(), all_recorded());
    assert_eq!(site.message(&ids[0]).await["state"], json!("delivered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_slow_storage_and_a_stalled_ops_nothing_is_taken_that_can_not_be_finished() {
    let ops = Ops::start(|_, _| Answer::Stall(Vec::new())).await;
    let site = Site::start(&ops, "1m").await;
    let mut ids = Vec::new();
    for number in 0..6 {
        ids.push(site.accept(&format!("onb-{number}")).await);
    }
    let stream = site.stream(&ids).await;
    // Just fast enough for a call not to be tried again.
    site.storage.set_plan(|_| Fault::Delay(Duration::from_millis(1_000)));
    for seconds in [9, 10, 11, 12] {
        let time = Duration::from_secs(seconds);
        assert_eq!(site.lambda.invoke(stream.clone(), time).await.success(), all_recorded());
        assert_all_recorded(&site, &ops, &ids).await;
        assert_eq!(site.lambda.invoke(sweep(), time).await.success(), Value::Null);
        assert_all_recorded(&site, &ops, &ids).await;
        eprintln!("{seconds} s: {} sent", ops.seen().len());
    }
    assert!(!ops.seen().is_empty());
}
