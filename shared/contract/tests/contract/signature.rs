use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::id::WebhookId;
use contract::signature::{DEVELOPMENT_SECRET, Secret, Secrets, SignatureError, SignatureHeaders};
use proptest::prelude::*;

use crate::cases;

const NOW: i64 = 1_700_000_000;
const SPEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn secrets(text: &str) -> Secrets {
    Secrets::parse(text).unwrap()
}

fn id(text: &str) -> WebhookId {
    WebhookId::parse(text).unwrap()
}

fn headers<'a>(id: &'a str, timestamp: &'a str, signature: &'a str) -> SignatureHeaders<'a> {
    SignatureHeaders {
        id: vec![id.as_bytes()],
        timestamp: vec![timestamp.as_bytes()],
        signature: vec![signature.as_bytes()],
    }
}

/// Signs `{}` of the id `x` with a timestamp that need not be a number, as anyone with the secret can.
fn sign_as_sent(timestamp: &str) -> String {
    let key = STANDARD.decode(&SPEC[6..]).unwrap();
    let mut mac = <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(&key).unwrap();
    hmac::Mac::update(&mut mac, format!("x.{timestamp}.{{}}").as_bytes());
    format!("v1,{}", STANDARD.encode(hmac::Mac::finalize(mac).into_bytes()))
}

#[test]
fn signatures_are_pinned() {
    // Made with Python's hmac.
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    let signed = secrets(SPEC).sign(&id("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"), 1_649_367_553, body);
    assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    let signed = secrets(DEVELOPMENT_SECRET).sign(&id("msg_1"), NOW, b"\xff\x00{}");
    assert_eq!(signed, "v1,W7XRks3aZCYPImPEw75pzUR6H9bjpe/iJ8dQA573MMY=");
    let longest = format!("whsec_{}", STANDARD.encode((0..64).collect::<Vec<u8>>()));
    assert_eq!(secrets(&longest).sign(&id("a"), 1, b"b"), "v1,V3bUhyuwhsKkTOOQLMRSlEZgInxzZUkyCrmAmXs/vCA=");
}

#[test]
fn a_secret_is_rotated_with_no_event_refused() {
    let new = Secret::generate([7; 32]).expose();
    let (old_only, both, new_only) = (secrets(SPEC), secrets(&format!("{new}, {SPEC}")), secrets(&new));
    let accepts = |receiver: &Secrets, sender: &Secrets| {
        let signature = sender.sign(&id("x"), NOW, b"{}");
        receiver.verify(&headers("x", &NOW.to_string(), &signature), b"{}", NOW)
    };
    for (receiver, sender) in
        [(&both, &old_only), (&both, &both), (&old_only, &both), (&new_only, &both), (&both, &new_only)]
    {
        assert_eq!(accepts(receiver, sender), Ok(id("x")));
    }
    assert_eq!(accepts(&new_only, &old_only), Err(SignatureError::Mismatch));
    let signature = both.sign(&id("x"), NOW, b"{}");
    let (first, second) = signature.split_once(' ').unwrap();
    assert_eq!(
        (first, second),
        (new_only.sign(&id("x"), NOW, b"{}").as_str(), old_only.sign(&id("x"), NOW, b"{}").as_str())
    );
}

#[test]
fn unknown_schemes_and_malformed_entries_are_skipped() {
    let right = secrets(SPEC).sign(&id("x"), NOW, b"{}");
    let verify = |signature: &str| secrets(SPEC).verify(&headers("x", &NOW.to_string(), signature), b"{}", NOW);
    for around in ["v1a,AAAA {}", "v2,{} {}", "v1, {}", "v1 {}", "{} v1,%%%", "  {}  ", "v1,AAAA {} v1,AAAA", "é {}"] {
        assert!(verify(&around.replace("{}", &right)).is_ok(), "{around}");
    }
    let bare = right.strip_prefix("v1,").unwrap();
    for wrong in [
        bare,
        &format!("v1a,{bare}"),
        &format!("V1,{bare}"),
        &format!("v1;{bare}"),
        &format!("v1,{right}"),
        right.trim_end_matches('='),
        &right.replace("v1,", "v1, "),
        &format!("{right},{right}"),
        "v1,",
        " ",
        ",",
    ] {
        assert_eq!(verify(wrong), Err(SignatureError::Mismatch), "{wrong}");
    }
}

#[test]
fn every_header_must_stand_there_once() {
    let timestamp = NOW.to_string();
    let signature = secrets(SPEC).sign(&id("x"), NOW, b"{}");
    let good = headers("x", &timestamp, &signature);
    let verify = |headers: &SignatureHeaders<'_>| secrets(SPEC).verify(headers, b"{}", NOW);
    assert_eq!(verify(&good), Ok(id("x")));
    type Of<'h, 'v> = fn(&'h mut SignatureHeaders<'v>) -> &'h mut Vec<&'v [u8]>;
    fn of<'h, 'v>() -> [(&'static str, Of<'h, 'v>); 3] {
        [
            ("webhook-id", |h| &mut h.id),
            ("webhook-timestamp", |h| &mut h.timestamp),
            ("webhook-signature", |h| &mut h.signature),
        ]
    }
    for index in 0..3 {
        let changed = |change: fn(&mut Vec<&[u8]>)| {
            let mut headers = good.clone();
            change(of()[index].1(&mut headers));
            verify(&headers).unwrap_err()
        };
        let name = of()[index].0;
        assert_eq!(changed(|values| values.clear()), SignatureError::Missing(name));
        assert_eq!(changed(|values| values[0] = b""), SignatureError::Missing(name));
        assert_eq!(changed(|values| values.push(values[0])), SignatureError::Mismatch, "{name} twice");
        assert_eq!(changed(|values| values.push(b"")), SignatureError::Mismatch, "{name} and an empty one");
    }
    assert_eq!(verify(&SignatureHeaders::default()).unwrap_err().code(), "signature_missing");
}

#[test]
fn a_header_that_stands_twice_is_answered_as_api_gateway_would_have_it() {
    let timestamp = NOW.to_string();
    for (one, other) in [("x", "x"), ("x", "y"), ("", ""), ("a.b", "c"), ("x", "a b")] {
        let joined = format!("{one},{other}");
        let twice =
            SignatureHeaders { id: vec![one.as_bytes(), other.as_bytes()], ..headers("", &timestamp, "v1,AA==") };
        let once = headers(&joined, &timestamp, "v1,AA==");
        assert_eq!(secrets(SPEC).verify(&twice, b"{}", NOW), secrets(SPEC).verify(&once, b"{}", NOW), "{joined}");
    }
}

#[test]
fn two_ids_are_refused_even_when_they_were_signed_as_one() {
    let (timestamp, signature) = (NOW.to_string(), secrets(SPEC).sign(&id("x,y"), NOW, b"{}"));
    let once = headers("x,y", &timestamp, &signature);
    assert_eq!(secrets(SPEC).verify(&once, b"{}", NOW), Ok(id("x,y")));
    let twice = SignatureHeaders { id: vec![b"x", b"y"], ..once };
    assert_eq!(secrets(SPEC).verify(&twice, b"{}", NOW), Err(SignatureError::Mismatch));
}

#[test]
fn an_id_that_breaks_its_rule_counts_as_missing() {
    let timestamp = NOW.to_string();
    let too_long = "x".repeat(257);
    for bad in ["a.b", " ", "a b", "é", "\u{7f}", "a\n", too_long.as_str()] {
        let error = secrets(SPEC).verify(&headers(bad, &timestamp, "v1,AA=="), b"{}", NOW).unwrap_err();
        assert_eq!(error.code(), "signature_missing", "{bad:?}");
        assert!(error.to_string().contains("visible ASCII"));
    }
    let bytes = SignatureHeaders { id: vec![b"\xff"], ..headers("", &timestamp, "v1,AA==") };
    assert_eq!(secrets(SPEC).verify(&bytes, b"{}", NOW).unwrap_err().code(), "signature_missing");
}

#[test]
fn five_minutes_either_way_are_tolerated() {
    let check = |sent: i64, now: i64| {
        let signature = secrets(SPEC).sign(&id("x"), sent, b"{}");
        secrets(SPEC).verify(&headers("x", &sent.to_string(), &signature), b"{}", now)
    };
    for skew in [-300, -1, 0, 1, 300] {
        assert_eq!(check(NOW + skew, NOW), Ok(id("x")), "{skew}");
    }
    for skew in [-301, 301, -NOW, i64::MAX - NOW] {
        assert_eq!(check(NOW + skew, NOW), Err(SignatureError::Timestamp { skew_seconds: Some(skew) }));
    }
    for (sent, now) in [(i64::MAX, i64::MIN), (0, i64::MIN), (0, i64::MAX), (-1, 0), (i64::MIN, i64::MAX)] {
        assert_eq!(check(sent, now).unwrap_err().code(), "timestamp_out_of_tolerance", "{sent} at {now}");
    }
    assert!(check(NOW - 400, NOW).unwrap_err().to_string().contains("400 s behind"));
}

#[test]
fn a_timestamp_is_decimal_digits_only() {
    let check = |sent: &str| secrets(SPEC).verify(&headers("x", sent, &sign_as_sent(sent)), b"{}", NOW);
    let (now, long, zeros) = (NOW.to_string(), "9".repeat(4_000), format!("{}{NOW}", "0".repeat(4_000)));
    assert_eq!(check(&now), Ok(id("x")));
    assert_eq!(check(&zeros), Ok(id("x")));
    for bad in [
        "-1",
        "abc",
        "1.5",
        "0x10",
        " ",
        &format!("+{now}"),
        &format!("{now} "),
        &format!(" {now}"),
        &format!("{now}.0"),
        "1e9",
        "١٧٠٠٠٠٠٠٠٠",
        "9223372036854775808",
        long.as_str(),
    ] {
        assert_eq!(check(bad), Err(SignatureError::Timestamp { skew_seconds: None }), "{bad}");
    }
    // Nobody without a secret learns that.
    assert_eq!(secrets(SPEC).verify(&headers("x", "abc", "v1,AA=="), b"{}", NOW), Err(SignatureError::Mismatch));
}

#[test]
fn secrets_are_read_strictly_and_never_shown() {
    let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![9; bytes]));
    for good in [of(24), of(64), format!(" {},\n,{}\t{} ", of(24), of(32), of(64))] {
        assert!(Secrets::parse(&good).is_ok(), "{good}");
    }
    let unprefixed = STANDARD.encode([9; 32]);
    for bad in [
        String::new(),
        " , ".to_owned(),
        of(23),
        of(65),
        of(0),
        unprefixed,
        of(25).replace('=', ""),
        of(32) + "!",
        format!("{} whsec_CAFE", of(32)),
        format!("{};{}", of(24), of(24)),
        of(32).replace("whsec_", "WHSEC_"),
    ] {
        let error = Secrets::parse(&bad).unwrap_err();
        assert!(!error.contains("CQkJ") && !error.contains("CAFE"), "{error}");
    }
    assert!(Secrets::parse(&format!("{} whsec_CAFE", of(32))).unwrap_err().contains("secret 2"));
    let secret = Secret::generate([9; 32]);
    assert_eq!(secret.expose(), of(32));
    assert_eq!(format!("{secret:?} {:?}", secrets(&of(32))), "[redacted] [redacted]");
    assert_eq!(Secrets::from(secret).sign(&id("x"), 1, b""), secrets(&of(32)).sign(&id("x"), 1, b""));
}

#[test]
fn the_development_secret_is_found_anywhere_in_the_list() {
    let other = Secret::generate([1; 32]).expose();
    assert!(secrets(DEVELOPMENT_SECRET).contains_development_secret());
    assert!(secrets(&format!("{other} {other},{DEVELOPMENT_SECRET}")).contains_development_secret());
    assert!(!secrets(&other).contains_development_secret());
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn what_is_signed_is_verified_and_what_is_changed_is_not(
        keys in prop::collection::vec(any::<[u8; 32]>(), 1..3),
        name in "[!-\\-/-~]{1,40}",
        skew in -300_i64..=300,
        body in prop::collection::vec(any::<u8>(), 1..80),
        bit in any::<prop::sample::Index>(),
    ) {
        let listed: Vec<_> = keys.iter().map(|key| Secret::generate(*key).expose()).collect();
        let secrets = secrets(&listed.join(" "));
        let (sent, timestamp) = (NOW + skew, (NOW + skew).to_string());
        let signature = secrets.sign(&id(&name), sent, &body);
        let good = headers(&name, &timestamp, &signature);
        prop_assert_eq!(secrets.verify(&good, &body, NOW), Ok(id(&name)));

        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        prop_assert!(secrets.verify(&good, &flipped(&body), NOW).is_err());
        let other = flipped(name.as_bytes());
        let changed = SignatureHeaders { id: vec![&other], ..good.clone() };
prop_assert!(secrets.verify(&changed, &body, NOW).is_err());
        let other = flipped(timestamp.as_bytes());
        let changed = SignatureHeaders { timestamp: vec![&other], ..good.clone() };
prop_assert!(secrets.verify(&changed, &body, NOW).is_err());
        // Of a list of two, one is still right.
        if keys.len() == 1 {
            let other = flipped(signature.as_bytes());
            let changed = SignatureHeaders { signature: vec![&other], ..good.clone() };
prop_assert!(secrets.verify(&changed, &body, NOW).is_err());
        }
        let key = flipped(&keys[0]).try_into().unwrap();
        prop_assert!(keys.len() > 1 || Secrets::from(Secret::generate(key)).verify(&good, &body, NOW).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(
        id in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3),
        timestamp in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3),
        signature in prop::collection::vec("(v1,)?[A-Za-z0-9+/= ]{0,60}", 0..3),
        now in any::<i64>(),
        setting in any::<String>(),
    ) {
        let headers = SignatureHeaders {
            id: id.iter().map(Vec::as_slice).collect(),
            timestamp: timestamp.iter().map(Vec::as_slice).collect(),
            signature: signature.iter().map(String::as_bytes).collect(),
        };
        let answer = secrets(SPEC).verify(&headers, b"", now);
        prop_assert!(answer.is_err());
        let _ = Secrets::parse(&setting);
    }
}
