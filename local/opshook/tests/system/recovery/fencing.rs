//! Who may record what came of an attempt: a failure only whoever holds the lease, a 2xx anyone whose replay it still is.

use std::time::Duration;

use contract::event::{Event, UnknownFields};
use contract::id::{IdSource, WebhookId};
use contract::wire::{Attempt, MessageState};
use jiff::{SignedDuration, Timestamp};
use store::outbox::{Acceptance, Claim, Failure, Leased, NewMessage, Recording, Replay, Take, Then};
use store::{Deadline, Store};

use crate::harness::{account_created, engine, settings, store};

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(10))
}

fn attempt(status: u16) -> Attempt {
    Attempt { at: "2026-11-24T10:15:30.000Z".to_owned(), status: Some(status), error: None, ms: 1, answer: None }
}

/// A message whose first claim has run out and has been taken over: the two claims on it.
async fn taken_over(store: &Store) -> (WebhookId, Leased, Leased) {
    let long_ago = Timestamp::now() - SignedDuration::from_secs(60);
    let request = account_created("onb-1", "example.com");
    let event = Event::parse(request.as_bytes(), UnknownFields::Refuse).unwrap();
    let webhook_id = WebhookId::new(long_ago, &IdSource::new());
    let body = event.to_body(long_ago);
    let request = request.as_bytes();
    let message = NewMessage { webhook_id: &webhook_id, event: &event, body: &body, request, accepted_at: long_ago };
    let first = Claim::new("first".to_owned(), long_ago);
    let Acceptance::Accepted(Some(first)) = store.accept(&message, Some(&first), soon()).await.unwrap() else {
        panic!("it was not accepted")
    };
    let second = Claim::new("second".to_owned(), Timestamp::now());
    let second = store.claim(webhook_id.as_str(), &second, Take::Due, soon()).await.unwrap().unwrap();
    let third = Claim::new("third".to_owned(), Timestamp::now());
    for take in [Take::Due, Take::NotTriedSince(Timestamp::now()), Take::Waiting] {
        assert!(store.claim(webhook_id.as_str(), &third, take, soon()).await.unwrap().is_none(), "the lease holds");
    }
    (webhook_id, *first, second)
}

async fn fail(store: &Store, leased: &Leased, then: Then) -> Recording {
    let failure = Failure { attempt: attempt(500), then, at: Timestamp::now(), entries: Vec::new() };
    store.record_failure(leased, &failure, soon()).await.unwrap()
}

async fn deliver(store: &Store, leased: &Leased) -> Recording {
    store.record_delivery(leased, &attempt(200), Timestamp::now(), 30, soon()).await.unwrap()
}

async fn state(store: &Store, id: &WebhookId) -> (MessageState, u64) {
    let message = store.message(id, Timestamp::now(), soon()).await.unwrap().unwrap();
    (message.state, message.attempts_total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_a_claim_that_was_taken_over_is_not_recorded() {
    let engine = engine().await;
    let store = store(&settings(engine.addr(), &[])).await;
    let (id, first, second) = taken_over(&store).await;
    for then in [Then::Die, Then::Park, Then::AsBefore, Then::TryAt(Timestamp::now())] {
        assert_eq!(fail(&store, &first, then).await, Recording::Overtaken);
    }
    assert_eq!(state(&store, &id).await, (MessageState::Pending, 0));
    assert_eq!(fail(&store, &second, Then::Die).await, Recording::Done);
    assert_eq!(fail(&store, &second, Then::Die).await, Recording::Done, "the same write, whose answer was lost");
    assert_eq!(state(&store, &id).await, (MessageState::Dead, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_2xx_wins_over_pending_and_dead_whoever_holds_the_lease() {
    let engine = engine().await;
    let store = store(&settings(engine.addr(), &[])).await;
    let (id, first, second) = taken_over(&store).await;
    assert_eq!(deliver(&store, &first).await, Recording::Done);
    assert_eq!(deliver(&store, &first).await, Recording::Done, "the same write, whose answer was lost");
    assert_eq!(fail(&store, &second, Then::TryAt(Timestamp::now())).await, Recording::Overtaken);
    assert_eq!(state(&store, &id).await, (MessageState::Delivered, 1));

    let (id, first, second) = taken_over(&store).await;
    assert_eq!(fail(&store, &second, Then::Die).await, Recording::Done);
    assert_eq!(deliver(&store, &first).await, Recording::Done);
    assert_eq!(state(&store, &id).await, (MessageState::Delivered, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_before_a_replay_says_nothing_of_the_replay() {
    let engine = engine().await;
    let store = store(&settings(engine.addr(), &[])).await;
    let (id, first, second) = taken_over(&store).await;
    assert_eq!(fail(&store, &second, Then::Park).await, Recording::Done);
    let replayed = store.replay(&id, "replay", Timestamp::now(), soon()).await.unwrap();
    assert!(matches!(replayed, Replay::Done(message) if message.state == MessageState::Pending));
    assert_eq!(deliver(&store, &first).await, Recording::Overtaken);
    assert_eq!(fail(&store, &first, Then::Die).await, Recording::Overtaken);
    assert_eq!(state(&store, &id).await, (MessageState::Pending, 1));

    // The same where no attempt was recorded in between.
    let (id, first, _) = taken_over(&store).await;
    store.set_aside(id.as_str(), "a fault", "aside", Timestamp::now(), soon()).await.unwrap();
    let replayed = store.replay(&id, "replay", Timestamp::now(), soon()).await.unwrap();
    assert!(matches!(replayed, Replay::Done(_)));
    assert_eq!(deliver(&store, &first).await, Recording::Overtaken);
    assert_eq!(state(&store, &id).await, (MessageState::Pending, 0));
}
