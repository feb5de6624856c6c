use contract::id::{EventId, IdSource, WebhookId};
use contract::time::{from_unix_ms, unix_ms};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::cases;

const NOW: i64 = 1_764_000_000_123;

#[test]
fn webhook_ids_are_visible_ascii_without_a_dot() {
    let longest = "x".repeat(256);
    for good in ["a", "msg_1", "!~", "a,b", "{\"x\"}", longest.as_str()] {
        assert_eq!(WebhookId::parse(good).unwrap().as_str(), good);
    }
    let too_long = "x".repeat(257);
    for bad in ["", ".", "a.b", " ", "a b", "a\t", "é", "\u{7f}", too_long.as_str()] {
        assert_eq!(WebhookId::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn a_key_always_names_the_same_message() {
    // Made with Python's hashlib.
    let id = WebhookId::from_idempotency_key("order-42");
    assert_eq!(id.as_str(), "msg_3bf8b157c4238eefe5ae4a66eca81c6b887d4dcedb58dd674271859f4dc2edfd");
    assert_eq!(WebhookId::parse(id.as_str()), Some(id.clone()));
    assert_ne!(WebhookId::from_idempotency_key("order-43"), id);
}

#[test]
fn a_new_message_is_named_by_a_uuid() {
    let source = IdSource::new();
    let id = WebhookId::new(from_unix_ms(NOW), &source);
    assert_eq!(WebhookId::parse(id.as_str()), Some(id.clone()));
    let uuid = EventId::parse(id.as_str().strip_prefix("msg_").unwrap()).unwrap();
    assert_eq!(uuid.unix_ms(), NOW);
    assert_ne!(WebhookId::new(from_unix_ms(NOW), &source), id);
    assert_eq!(EventId::parse(&source.claim_id(from_unix_ms(NOW))).unwrap().unix_ms(), NOW);
}

#[test]
fn only_a_uuid_of_version_7_is_an_event_id() {
    let good = "019ab3c4-d5e6-7f01-8a2b-3c4d5e6f7081";
    assert_eq!(EventId::parse(good).unwrap().to_string(), good);
    assert_eq!(EventId::parse(&good.to_uppercase()).unwrap().to_string(), good);
    for bad in [
        "",
        "019ab3c4d5e67f018a2b3c4d5e6f7081",
        "{019ab3c4-d5e6-7f01-8a2b-3c4d5e6f7081}",
        "019ab3c4-d5e6-4f01-8a2b-3c4d5e6f7081",
        "019ab3c4-d5e6-7f01-0a2b-3c4d5e6f7081",
        "019ab3c4-d5e6-7f01-ca2b-3c4d5e6f7081",
        "019ab3c4-d5e6-7f01-8a2b-3c4d5e6f708g",
        "urn:uuid:019ab3c4-d5e6-7f01-8a2b-3c4d5e6f7081",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "019ab3c4-d5e6-7f01-8a2b-3c4d5e6f70é",
    ] {
        assert_eq!(EventId::parse(bad), None, "{bad}");
    }
}

#[test]
fn the_least_id_has_nothing_but_its_time() {
    assert_eq!(EventId::lowest_at(0).to_string(), "00000000-0000-7000-8000-000000000000");
    assert_eq!(EventId::lowest_at(0x0123_4567_89ab).to_string(), "01234567-89ab-7000-8000-000000000000");
    assert_eq!(EventId::lowest_at(i64::MAX).to_string(), "ffffffff-ffff-7000-8000-000000000000");
}

#[test]
fn ids_rise_even_when_the_clock_goes_back() {
    let source = IdSource::new();
    let mut last = source.event_id(from_unix_ms(NOW));
    for step in 0..20_000_i64 {
        let id =
            source.event_id(from_unix_ms(NOW + [0, -1, 3, -5_000, 1, i64::MIN / 2][(step % 6) as usize] + step / 100));
        assert!(id > last && id.to_string() > last.to_string(), "{last} {id}");
        last = id;
    }
    for extreme in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
        let id = source.event_id(extreme);
        assert!(id > last && EventId::parse(&id.to_string()) == Some(id));
        last = id;
    }
    assert!(IdSource::default().event_id(Timestamp::MIN) >= EventId::lowest_at(0));
}

#[test]
fn ids_of_many_threads_are_all_different() {
    let source = IdSource::new();
    let make = || (0..1_000).map(|_| source.event_id(from_unix_ms(NOW))).collect::<Vec<_>>();
    let ids = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(ids.len(), 4_000);
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_range_holds_the_ids_of_its_milliseconds(ms in 0..(1_i64 << 47)) {
        let now = from_unix_ms(ms);
        let id = IdSource::new().event_id(now);
        let ms = unix_ms(now);
        prop_assert_eq!(id.unix_ms(), ms);
        prop_assert!(EventId::lowest_at(ms) <= id && id < EventId::lowest_at(ms + 1));
    }

    #[test]
    fn the_least_id_of_any_time_is_an_id(ms in any::<i64>()) {
        let id = EventId::lowest_at(ms);
        prop_assert_eq!(EventId::parse(&id.to_string()), Some(id));
        prop_assert_eq!(id.unix_ms(), ms.clamp(0, (1 << 48) - 1));
    }
}
