use contract::event::{Domain, EventName, SessionId};
use contract::text::is_printable;
use contract::ticket::{TicketId, email, subject};
use proptest::prelude::*;

use crate::cases;
use crate::event::read;

fn ticket(event: &str, session_id: &str, domain: &str) -> TicketId {
    let parsed = (EventName::parse(event), SessionId::parse(session_id), Domain::parse(domain));
    TicketId::of(&parsed.0.unwrap(), &parsed.1.unwrap(), &parsed.2.unwrap())
}

#[test]
fn ticket_ids_are_pinned() {
    // Made with Python's hashlib over `json.dumps(parts, ensure_ascii=False, separators=(",", ":"))`. They are keys of
    // stored tickets: a change here opens every ticket a second time.
    for (parts, expected) in [
        (("account.created", "onb-7f3a", "example.com"), "tkt_d4f1a5df8ea5c7cd47d3c873d0250583"),
        (("account.created", "", "Bücher.example"), "tkt_3d61a60aa47c84c9f8b2791bac5e5b3d"),
        (("account.created", "é\"\\ ☃", ""), "tkt_255d75ff63b3e0743da2233334305a9a"),
    ] {
        assert_eq!(ticket(parts.0, parts.1, parts.2).as_str(), expected, "{parts:?}");
    }
}

#[test]
fn no_part_can_pass_for_its_neighbour() {
    let triples = [
        ("a", "b", "c"),
        ("a.b", "c", ""),
        ("a.b", "", "c"),
        ("a", "b.c", ""),
        ("a", "", "b.c"),
        ("a", "b|c", ""),
        ("a", "b", ""),
        ("a", "", "b"),
        ("a", "b\",\"c", ""),
        ("a", "\",\"", "b"),
        ("a", "[\"b\",\"c\"]", ""),
        ("a", "b\\", ""),
        ("a", "b\\\\", ""),
        ("a", "b,c", ""),
        ("a", "b#c", ""),
        ("a", " b", ""),
        ("a", "B", ""),
        ("a", "\u{e9}", ""),
        ("a", "e\u{301}", ""),
        ("a", "\\u00e9", ""),
    ];
    let ids: std::collections::BTreeSet<_> = triples.iter().map(|(e, s, d)| ticket(e, s, d)).collect();
    assert_eq!(ids.len(), triples.len());
}

#[test]
fn a_ticket_id_is_read_only_as_it_is_written() {
    let id = "tkt_d4f1a5df8ea5c7cd47d3c873d0250583";
    assert_eq!(TicketId::parse(id).unwrap().to_string(), id);
    for bad in [
        "",
        "tkt_",
        &id[4..],
        &id[..35],
        &format!("{id}0"),
        &id.to_uppercase(),
        &id.replace('d', "g"),
        &id.replace("d4", "é"),
    ] {
        assert_eq!(TicketId::parse(bad), None, "{bad}");
    }
}

#[test]
fn the_subject_names_event_domain_and_email() {
    for (fields, expected) in [
        (r#""domain":"d.example","data":{"email":"ana@d.example"}"#, "[a.b] d.example — ana@d.example"),
        (r#""domain":"d.example","session_id":"s""#, "[a.b] d.example"),
        (r#""session_id":"s","data":{"email":"ana@d.example"}"#, "[a.b] s — ana@d.example"),
        (r#""session_id":"s","data":{"email":""}"#, "[a.b] s"),
        (r#""session_id":"s","data":{"email":7}"#, "[a.b] s"),
        (r#""session_id":"s","data":{"email":{"email":"x"}}"#, "[a.b] s"),
        (r#""session_id":"s","data":{"email":"a\r\nBcc: b\u0000\u007f\u0085"}"#, "[a.b] s — aBcc: b"),
        (r#""session_id":"s","data":{"email":"\n"}"#, "[a.b] s"),
    ] {
        assert_eq!(subject(&read(&format!(r#"{{"event":"a.b",{fields}}}"#))), expected, "{fields}");
    }
}

#[test]
fn the_email_is_answered_as_it_came() {
    let of = |data: &str| email(&read(&format!(r#"{{"event":"a","session_id":"s","data":{data}}}"#)));
    assert_eq!(of(r#"{"email":" \u0061na@Example.com"}"#).as_deref(), Some(" ana@Example.com"));
    assert_eq!(
        [of("{}"), of(r#"{"email":""}"#), of(r#"{"email":null}"#), of(r#"{"Email":"x"}"#)],
        [None, None, None, None]
    );
}

#[test]
fn the_subject_has_at_most_200_characters() {
    let of = |email: &str| subject(&read(&format!(r#"{{"event":"a","session_id":"s","data":{{"email":"{email}"}}}}"#)));
    let room = 200 - "[a] s — ".chars().count();
    assert_eq!(of(&"é".repeat(room)), format!("[a] s — {}", "é".repeat(room)));
    assert_eq!(of(&"é".repeat(room + 1)), format!("[a] s — {}…", "é".repeat(room - 1)));
    assert_eq!(of(&"é".repeat(9_000)).chars().count(), 200);
}

#[test]
fn what_turns_text_around_or_hides_in_it_is_not_in_a_subject() {
    let body = "{\"event\":\"a\",\"session_id\":\"s\u{202e}1\u{2028}\",\"data\":{\"email\":\"\u{2066}a\u{200b}na@x\u{ad}.example\u{feff}\u{e0041}\"}}";
    assert_eq!(subject(&read(body)), "[a] s1 — ana@x.example");
    let unseen = "{\"event\":\"a\",\"session_id\":\"s\",\"data\":{\"email\":\"\u{200b}\u{2029}\"}}";
    assert_eq!(subject(&read(unseen)), "[a] s");
}

/// Text that an encoding may stumble over.
fn tricky() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[\",\\\\\\[\\]|#:/. a]{0,6}",
        "\\PC{0,8}",
        prop::sample::select(vec!["\"", "\",\"", "\\\"", "[]", "null", "\\u0061", "a", "😀", "a\",\"b", "\u{2028}"])
            .prop_map(str::to_owned),
    ]
}

fn triple() -> impl Strategy<Value = (String, String, String)> {
    ("[ab_]{1,2}(\\.[ab]){0,1}", tricky(), "([ab]{1,2}(\\.[ab]{1,2}){0,2}){0,1}")
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn two_triples_share_an_id_only_when_they_are_the_same(one in triple(), other in triple()) {
        let id = |of: &(String, String, String)| ticket(&of.0, &of.1, &of.2);
        prop_assert_eq!(one == other, id(&one) == id(&other));
        prop_assert_eq!(TicketId::parse(id(&one).as_str()), Some(id(&one)));
        // What is hashed can be read back to the three parts, so it can't stand for others.
        let key = serde_json::to_string(&[&one.0, &one.1, &one.2]).unwrap();
        let back: (String, String, String) = serde_json::from_str(&key).unwrap();
        prop_assert_eq!(back, one);
    }

    #[test]
    fn text_moved_from_one_part_to_the_next_makes_another_ticket(a in "[ab]{1,3}", text in "[ab.]{0,3}[ab]", rest in "[ab]{1,3}") {
        prop_assert_ne!(ticket(&a, &format!("{text}{rest}"), ""), ticket(&a, &text, &rest));
        prop_assert_ne!(ticket(&format!("{a}.x"), &text, ""), ticket(&a, &format!(".x{text}"), ""));
    }

    #[test]
    fn a_subject_is_one_short_line(session in tricky(), email in any::<String>()) {
        let body = serde_json::json!({"event": "a", "session_id": format!("s{session}"), "data": {"email": email}});
        let subject = subject(&read(&body.to_string()));
        prop_assert!(subject.chars().count() <= 200 && subject.chars().all(is_printable));
        let start: String = format!("[a] s{}", session).chars().filter(|c| is_printable(*c)).collect();
        prop_assert!(subject.starts_with(&start));
    }
}
