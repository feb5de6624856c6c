//! A stop with as much under way as two processes have at first.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::count;
use crate::delivery::{accept, emit};
use crate::harness::{engine, eventually};
use crate::ops::{self, Answer, Ops};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_recorded_and_the_rest_goes_on_at_once_in_the_next_process() {
    let engine = engine().await;
    let (tell, told) = watch::channel(false);
    let ops = Ops::start(move |_, _| Answer::When(told.clone(), ops::bytes(200, "", ""))).await;
    let (one, two) = (emit(&engine, &ops.url(), "1s").await, emit(&engine, &ops.url(), "1s").await);
    let mut ids = Vec::new();
    for number in 0..80 {
        ids.push(accept(if number % 2 == 0 { &one } else { &two }, &format!("onb-{number}")).await);
    }
    eventually(5, "8 are with ops", async || (ops.most_at_once() == 8).then_some(())).await;
    let stopped_at = Instant::now();
    let stops = tokio::spawn(async move { tokio::join!(one.stop(), two.stop()) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    tell.send(true).unwrap();
    stops.await.unwrap();
    let next = emit(&engine, &ops.url(), "1s").await;
    let recorded = count(&next, "delivered").await;
    assert!(recorded >= 8, "{recorded} of the 8 in flight are recorded");
    eventually(5, "the rest", async || (count(&next, "delivered").await == 80).then_some(())).await;
    assert!(stopped_at.elapsed() < Duration::from_secs(10), "no lease was waited for: {:?}", stopped_at.elapsed());
    let counts = ops.counts();
    assert!(counts.len() == 80 && counts.values().all(|count| *count == 1), "each was sent once: {counts:?}");
    next.stop().await;
}
