use contract::event::{Domain, EventName, SessionId};
use proptest::prelude::*;

use crate::cases;

#[test]
fn event_names_are_lowercase_segments() {
    let longest = "a".repeat(64);
    for good in ["a", "0", "_", "account.created", "a.b.c.d", "domain_validated.v2", longest.as_str()] {
        assert_eq!(EventName::parse(good).unwrap().as_str(), good);
    }
    let too_long = "a".repeat(65);
    for bad in ["", ".", "a.", ".a", "a..b", "A", "a-b", "a b", " a", "a\n", "é", "a\0", "a/b", too_long.as_str()] {
        assert!(EventName::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn session_ids_are_kept_as_they_came() {
    let longest = "é".repeat(128);
    for good in ["", " ", "onb-7f3a", " Onb ", "a/b#c|d", "☃", "\u{2028}", longest.as_str()] {
        let id = SessionId::parse(good).unwrap();
        assert_eq!((id.as_str(), id.is_empty()), (good, good.is_empty()));
    }
    let too_long = "é".repeat(129);
    for bad in ["a\n", "\0", "\u{7f}", "\u{80}", "a\u{9f}", "\t", too_long.as_str()] {
        assert!(SessionId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn domains_become_lowercase_ascii() {
    for (text, expected) in [
        ("Bücher.example", "xn--bcher-kva.example"),
        ("BU\u{308}CHER.example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        (" Example.COM. ", "example.com"),
        ("example。com。", "example.com"),
        ("faß.de", "xn--fa-hia.de"),
        ("localhost", "localhost"),
        ("a--b.example", "a--b.example"),
        ("r3---sn.example", "r3---sn.example"),
        ("1and1.com", "1and1.com"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("", ""),
        (" \t\n", ""),
    ] {
        assert_eq!(Domain::parse(text).map(|domain| domain.to_string()).as_deref(), Ok(expected), "{text:?}");
    }
}

#[test]
fn what_is_not_a_host_name_is_refused() {
    let label = "a".repeat(64);
    for bad in [
        ".",
        "..",
        "a..b",
        ".a",
        "a..",
        "-a.com",
        "a-.com",
        "a_b.com",
        "a b.com",
        "a/b",
        "http://a.com",
        "a.com:80",
        "a@b.com",
        "*.a.com",
        "[::1]",
        "a\0b.com",
        "xn--a",
        "xn--",
        "xn--bcher-kva8445foa.\u{fffd}",
        "a. .b",
        "a\u{202e}b.com",
        "a%41.com",
        label.as_str(),
    ] {
        assert!(Domain::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_domain_has_at_most_253_characters() {
    let name = |last: usize| format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(last));
    assert_eq!(Domain::parse(&name(61)).unwrap().as_str().len(), 253);
    assert_eq!(Domain::parse(&format!("{}.", name(61))).unwrap().as_str().len(), 253);
    assert!(Domain::parse(&name(62)).is_err());
    assert!(Domain::parse(&"ü.".repeat(30_000)).is_err());
    assert!(Domain::parse(&"ü".repeat(60)).is_err() || Domain::parse(&"ü".repeat(60)).unwrap().as_str().len() <= 63);
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn normalising_twice_is_normalising_once(text in prop_oneof![
        any::<String>(), "\\PC{1,20}", "[\\p{L}\\p{M}0-9.。-]{1,20}", "xn--[a-z0-9-]{1,15}", "[ A-Za-zßİſΣς.-]{1,12}",
    ]) {
        if let Ok(domain) = Domain::parse(&text) {
            let name = domain.as_str();
            prop_assert!(name.len() <= 253 && !name.ends_with('.'));
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
            prop_assert_eq!(Domain::parse(name), Ok(domain.clone()));
        }
    }
}
