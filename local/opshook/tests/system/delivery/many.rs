//! Many messages at once.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{JSON, emit, once_it_is, send};
use crate::harness::{EMIT, Server, account_created, engine, eventually, post};
use crate::ops::{self, Answer, Ops};

const CONNECTIONS: usize = 16;

/// Posts `count` events, to the servers in turn. Answers with the messages' ids.
async fn post_all(servers: &[&Server], count: usize) -> Vec<String> {
    let urls: Vec<String> = servers.iter().map(|server| server.url(EMIT)).collect();
    let mut tasks = JoinSet::new();
    for first in 0..CONNECTIONS {
        let urls = urls.clone();
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for number in (first..count).step_by(CONNECTIONS) {
                let body = account_created(&format!("onb-{number}"), "example.com");
                let reply = post(&urls[number % urls.len()], &[JSON], body).await;
                assert_eq!(reply.status, 202, "{reply:?}");
                ids.push(reply.body["webhook_id"].as_str().unwrap().to_owned());
            }
            ids
        });
    }
    tasks.join_all().await.concat()
}

/// Waits until ops has had a request for each message; panics if one came twice.
async fn assert_once_each(ops: &Ops, ids: &[String]) {
    eventually(30, "all are sent", async || (ops.counts().len() == ids.len()).then_some(())).await;
    let once: HashMap<String, usize> = ids.iter().map(|id| (id.clone(), 1)).collect();
    let mut counts = ops.counts();
    counts.retain(|id, count| once.get(id) != Some(count));
    assert!(counts.is_empty(), "not once: {counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_outbox_deliver_each_message_once() {
    let engine = engine().await;
    let (tell, told) = watch::channel(false);
    let ops = Ops::start(move |_, _| Answer::When(told.clone(), ops::bytes(200, "", ""))).await;
    let (one, two) = (emit(&engine, &ops.url(), "1s").await, emit(&engine, &ops.url(), "1s").await);
    // What finds no place is there for both, and both want it at once when theirs are free again.
    let mut ids = post_all(&[&one, &two], 140).await;
    eventually(3, "8 are with ops", async || (ops.most_at_once() == 8).then_some(())).await;
    tell.send(true).unwrap();
    ids.extend(post_all(&[&one, &two], 60).await);
    assert_once_each(&ops, &ids).await;
    for id in &ids {
        let delivered = once_it_is(&two, id, "delivered").await;
        assert_eq!(delivered["attempts_total"], 1);
    }
    one.stop().await;
    two.stop().await;
    assert_once_each(&ops, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_outbox_make_each_attempt_of_the_schedule_once() {
    let engine = engine().await;
    // Answers about the message: the endpoint lives, and each has its own schedule.
    let ops = Ops::start(|_, before| ops::status(if before < 3 { 422 } else { 200 }, "")).await;
    let (one, two) = (emit(&engine, &ops.url(), "1s,1s,1s").await, emit(&engine, &ops.url(), "1s,1s,1s").await);
    let ids = post_all(&[&one, &two], 60).await;
    for id in &ids {
        let delivered = once_it_is(&one, id, "delivered").await;
        assert_eq!((&delivered["attempts_total"], ops.of(id).len()), (&4.into(), 4), "{delivered}");
    }
    one.stop().await;
    two.stop().await;
    assert_eq!(ops.seen().len(), 4 * ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_far_beyond_what_is_sent_at_once_is_all_delivered() {
    let engine = engine().await;
    let (tell, told) = watch::channel(false);
    let ops = Ops::start(move |_, _| Answer::When(told.clone(), ops::bytes(201, "", ""))).await;
    let emit = emit(&engine, &ops.url(), "1s").await;
    // More than are sent at once, so that the later ones find no place.
    let mut ids = post_all(&[&emit], 100).await;
    eventually(3, "4 are with ops", async || (ops.most_at_once() == 4).then_some(())).await;
    tell.send(true).unwrap();
    ids.extend(post_all(&[&emit], 400).await);
    assert_once_each(&ops, &ids).await;
    for id in &ids {
        once_it_is(&emit, id, "delivered").await;
    }
    assert!(ops.most_at_once() <= 32, "{}", ops.most_at_once());
    emit.stop().await;
    assert_once_each(&ops, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_ops_does_not_keep_the_portal_waiting() {
    let engine = engine().await;
    let ops = Ops::start(|_, _| Answer::Stall(Vec::new())).await;
    let emit = emit(&engine, &ops.url(), "1h").await;
    // More than are sent at once, so that later ones find no place.
    for number in 0..40 {
        let started = Instant::now();
        let reply = send(&emit, &format!("onb-{number}")).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        assert!(started.elapsed() < Duration::from_secs(1), "answered after {:?}", started.elapsed());
    }
    eventually(3, "4 are with ops", async || (ops.most_at_once() == 4).then_some(())).await;
    let started = Instant::now();
    emit.stop().await;
    assert!(started.elapsed() < Duration::from_secs(8), "stopped after {:?}", started.elapsed());
}
