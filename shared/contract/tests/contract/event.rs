use contract::event::{Event, EventError, FieldError, UnknownFields};
use contract::time::parse_rfc3339;
use proptest::prelude::*;

use crate::cases;

const GOOD: &str = r#"{
  "event": "account.created", "session_id": "onb-7f3a", "domain": "example.com", "timestamp": "2026-11-24T10:15:30Z",
  "data": {"email": "ana@example.com",  "mail_aliases": ["postmaster", "abuse"], "n": 1e999}
}"#;

pub(crate) fn read(body: &str) -> Event {
    Event::parse(body.as_bytes(), UnknownFields::Refuse).unwrap()
}

fn faults(body: &str) -> Vec<FieldError> {
    match Event::parse(body.as_bytes(), UnknownFields::Refuse) {
        Err(EventError::Invalid(faults)) => faults,
        other => panic!("not a 422: {other:?}"),
    }
}

fn pointers(body: &str) -> Vec<String> {
    faults(body).into_iter().map(|fault| fault.pointer).collect()
}

fn is_malformed(body: &[u8]) -> bool {
    matches!(Event::parse(body, UnknownFields::Refuse), Err(EventError::Malformed(_)))
}

#[test]
fn the_contracts_example_is_an_event() {
    let event = read(GOOD);
    assert_eq!(event.event.as_str(), "account.created");
    assert_eq!(event.session_id.as_str(), "onb-7f3a");
    assert_eq!(event.domain.as_str(), "example.com");
    assert_eq!(event.timestamp.as_deref(), Some("2026-11-24T10:15:30Z"));
    let data = r#"{"email": "ana@example.com",  "mail_aliases": ["postmaster", "abuse"], "n": 1e999}"#;
    assert_eq!(event.data.as_str(), data);
    assert!(!format!("{event:?}").contains("ana@"));
}

#[test]
fn absent_and_null_are_the_same() {
    let absent = read(r#"{"event":"a","session_id":"s"}"#);
    let null = r#"{"event":"a","type":null,"session_id":"s","domain":null,"timestamp":null,"data":null}"#;
    assert_eq!(absent, read(null));
    assert_eq!((absent.domain.as_str(), absent.timestamp.as_deref(), absent.data.as_str()), ("", None, "{}"));
    assert_eq!(read(r#"{"event":"a","domain":"d"}"#).session_id.as_str(), "");
}

#[test]
fn type_is_another_name_for_event() {
    let expected = read(r#"{"event":"a.b","session_id":"s"}"#);
    for named in [r#""type":"a.b""#, r#""type":"a.b","event":"a.b""#, r#""event":null,"type":"a.b""#] {
        assert_eq!(read(&format!(r#"{{{named},"session_id":"s"}}"#)), expected, "{named}");
    }
    assert_eq!(pointers(r#"{"event":"a","type":"b","session_id":"s"}"#), ["/type"]);
    assert_eq!(pointers(r#"{"event":"a","type":1,"session_id":"s"}"#), ["/type"]);
    assert_eq!(pointers(r#"{"event":"a","type":"A","session_id":"s"}"#), ["/type"]);
    assert_eq!(pointers(r#"{"type":"A","session_id":"s"}"#), ["/type"]);
    assert_eq!(pointers(r#"{"session_id":"s"}"#), ["/event"]);
    assert_eq!(pointers(r#"{"event":null,"type":null,"session_id":"s"}"#), ["/event"]);
}

#[test]
fn all_faults_are_told_at_once() {
    let body = r#"{"event":1,"type":[],"session_id":{},"domain":false,"timestamp":0,"data":[],"evnt":"x"}"#;
    let expected = ["/event", "/type", "/session_id", "/domain", "/timestamp", "/data", "/evnt"];
    assert_eq!(pointers(body), expected);
    let body = r#"{"event":"A","session_id":"\n","domain":"-","timestamp":"today","data":"{}"}"#;
    assert_eq!(pointers(body), ["/event", "/session_id", "/domain", "/timestamp", "/data"]);
}

#[test]
fn an_event_names_a_session_or_a_domain() {
    for rest in ["", r#","session_id":"","domain":"""#, r#","session_id":null,"domain":"  ""#] {
        assert_eq!(pointers(&format!(r#"{{"event":"a"{rest}}}"#)), [""], "{rest}");
    }
    // What is wrong with one of them is said instead.
    assert_eq!(pointers(r#"{"event":"a","session_id":7}"#), ["/session_id"]);
    assert_eq!(pointers(r#"{"event":"a","domain":"."}"#), ["/domain"]);
}

#[test]
fn unknown_fields_are_refused_or_ignored() {
    let body = r#"{"event":"a","session_id":"s","Data":{},"a/b~c":1,"":2}"#;
    assert_eq!(pointers(body), ["/", "/Data", "/a~1b~0c"]);
    assert_eq!(
        Event::parse(body.as_bytes(), UnknownFields::Ignore).unwrap(),
        read(r#"{"event":"a","session_id":"s"}"#)
    );
    let long = format!(r#"{{"event":"a","session_id":"s","{}":1}}"#, "é".repeat(5_000));
    assert_eq!(pointers(&long), [format!("/{}…", "é".repeat(127))]);
    let fits = format!(r#"{{"event":"a","session_id":"s","{}":1}}"#, "é".repeat(128));
    assert_eq!(pointers(&fits), [format!("/{}", "é".repeat(128))]);
}

#[test]
fn twenty_faults_are_told_at_most() {
    let many: String = (0..500).map(|n| format!(r#","x{n}":1"#)).collect();
    let found = pointers(&format!(r#"{{"event":"","session_id":1{many}}}"#));
    assert_eq!(found.len(), 20);
    assert_eq!(found[..2], ["/event", "/session_id"]);
}

#[test]
fn a_fault_never_repeats_a_value() {
    let body = r#"{"event":"SECRET","session_id":"SECRET\n","domain":"SECRET_","timestamp":"SECRET","data":"SECRET"}"#;
    for fault in faults(body) {
        assert!(!fault.detail.contains("SECRET"), "{fault:?}");
    }
}

#[test]
fn what_is_not_an_object_is_invalid_and_what_is_not_json_is_malformed() {
    for body in ["null", "[]", "1", "\"event\"", "[{\"event\":\"a\"}]"] {
        assert_eq!(pointers(body), [""], "{body}");
    }
    for body in [r#"{"event":"a","#, r#"{"event":"a","event":"a","session_id":"s"}"#, r#"{"x":1,"x":1}"#, ""] {
        assert!(is_malformed(body.as_bytes()), "{body}");
    }
    // A 400 comes before any 422.
    assert!(is_malformed(br#"{"event":7,"data":{"a":[{"b":1,"b":2}]}}"#));
    assert!(is_malformed(br#"{"event":7,"x":"\ud800"}"#));
}

#[test]
fn data_may_be_as_deep_as_the_body() {
    let deep = |levels: usize| {
        let data = format!("{}{}", r#"{"a":"#.repeat(levels - 1), "{}");
        format!(r#"{{"event":"a","session_id":"s","data":{data}{}}}"#, "}".repeat(levels - 1))
    };
    assert_eq!(read(&deep(63)).data.as_str().len(), 62 * 6 + 2);
    assert!(is_malformed(deep(64).as_bytes()));
}

#[test]
fn the_body_that_is_sent_is_the_event() {
    let accepted = parse_rfc3339("2026-11-24T10:15:31.5Z").unwrap();
    let event = read(r#"{"domain":"EXAMPLE.com.","session_id":"\u00e9\"x","data": {"a" : 1.0} ,"type":"a"}"#);
    let body = event.to_body(accepted);
    let expected = r#"{"event":"a","session_id":"é\"x","domain":"example.com","timestamp":"2026-11-24T10:15:31.500Z","data":{"a" : 1.0}}"#;
    assert_eq!(body, expected);
    assert_eq!(read(GOOD).to_body(accepted).matches("2026-11-24T10:15:30Z").count(), 1);
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_sent_body_is_read_back_as_the_same_event(
        name in "[a-z0-9_]{1,20}(\\.[a-z0-9_]{1,20}){0,2}",
        session in "\\PC{1,60}",
        domain in prop::option::of("[a-z]{1,10}\\.[a-z]{2,5}"),
        timestamp in prop::option::of(Just("2026-11-24t10:15:30.123456789012+05:30")),
        text in any::<String>(),
    ) {
        let body = serde_json::json!({
            "event": name, "session_id": session, "domain": domain, "timestamp": timestamp, "data": {"text": text, "z": 1},
        });
        let event = read(&body.to_string());
        let sent = event.to_body(parse_rfc3339("2026-01-01T00:00:00Z").unwrap());
        let back = read(&sent);
        prop_assert_eq!(back.to_body(parse_rfc3339("2000-01-01T00:00:00Z").unwrap()), sent);
        prop_assert_eq!(back.data.string("text"), Some(text));
        let unsent = Event { timestamp: event.timestamp.clone(), ..back };
        prop_assert_eq!(unsent, event);
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::parse(&body, UnknownFields::Refuse);
    }

    #[test]
    fn no_near_miss_makes_it_panic(at in 0..GOOD.len(), byte in any::<u8>(), cut in 0..GOOD.len()) {
        let mut body = GOOD.as_bytes().to_vec();
        body[at] = byte;
        let _ = Event::parse(&body, UnknownFields::Refuse);
        prop_assert!(is_malformed(&GOOD.as_bytes()[..cut]));
    }

    #[test]
    fn no_value_in_any_field_makes_it_panic(
        field in prop::sample::select(vec!["event", "type", "session_id", "domain", "timestamp", "data", "other"]),
        value in any::<String>(),
    ) {
        let mut body = serde_json::json!({"event": "a", "session_id": "s"});
        body[field] = value.into();
        let _ = Event::parse(body.to_string().as_bytes(), UnknownFields::Refuse);
    }
}
