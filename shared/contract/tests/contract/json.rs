use contract::json::{JsonObject, MAX_LEVELS, TopLevel, top_level};
use proptest::prelude::*;

use crate::cases;

/// A JSON value, of which a text can be written in many ways.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Plain(&'static str),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// How a text is written.
#[derive(Clone, Copy)]
struct Style {
    space: &'static str,
    escaped: bool,
    reversed: bool,
}

const COMPACT: Style = Style { space: "", escaped: false, reversed: false };
const ODD: Style = Style { space: " \r\n\t", escaped: true, reversed: true };

fn quote(text: &str, style: Style) -> String {
    if !style.escaped {
        return serde_json::Value::from(text).to_string();
    }
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

fn write(json: &Json, style: Style) -> String {
    let s = style.space;
    match json {
        Json::Plain(text) => (*text).to_owned(),
        Json::Text(text) => quote(text, style),
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| write(item, style)).collect();
            format!("[{s}{}{s}]", items.join(&format!("{s},{s}")))
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{}{s}:{s}{}", quote(key, style), write(value, style)))
                .collect();
            if style.reversed {
                members.reverse();
            }
            format!("{{{s}{}{s}}}", members.join(&format!("{s},{s}")))
        }
    }
}

/// Objects without a key that stands twice, their members in some order.
fn members(value: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
    prop::collection::btree_map(any::<String>(), value, 0..5)
        .prop_map(|members| members.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
        .prop_map(Json::Object)
        .boxed()
}

fn any_object() -> BoxedStrategy<Json> {
    let plain = ["null", "true", "false", "0", "-0", "1", "1.0", "1e999", "12345678901234567890123456789012345678901"];
    let leaf =
        prop_oneof![prop::sample::select(plain.to_vec()).prop_map(Json::Plain), any::<String>().prop_map(Json::Text)];
    let value = leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array), members(inner.boxed())]
    });
    members(value.boxed())
}

fn sorted(json: &Json) -> Json {
    match json {
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Json::Object(members)
        }
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

fn hash(text: &str) -> String {
    JsonObject::parse(text).unwrap().canonical_sha256()
}

#[test]
fn the_canonical_hash_is_pinned() {
    // Made with Python's hashlib over the canonical forms `{}` and the second one below.
    assert_eq!(hash("{}"), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    let canonical = r#"{"a":[1.0,true,null,"é\"\\\n"],"b":{"x":1e999,"y":2},"é":"z"}"#;
    let other =
        r#" { "\u00e9":"\u007a", "b":{"y":2 ,"x":1e999},"\u0061":[1.0 ,true,null,"\u00e9\u0022\u005c\u000a"]} "#;
    let pinned = "c902263394acac19bc5611b9ccc57d2585baad2df24a52f72ef9d30424b4a25d";
    assert_eq!((hash(canonical).as_str(), hash(other).as_str()), (pinned, pinned));
}

#[test]
fn numbers_differ_when_they_are_written_differently() {
    let spellings = ["1", "1.0", "1e0", "1E0", "-0", "0", "\"1\"", "true", "[1]", "{\"v\":1}"];
    let hashes: std::collections::BTreeSet<_> =
        spellings.iter().map(|value| hash(&format!("{{\"v\":{value}}}"))).collect();
    assert_eq!(hashes.len(), spellings.len());
}

#[test]
fn numbers_beyond_any_float_stay_as_they_were_written() {
    let text = format!(r#"{{"big":1e999,"long":{},"exact":0.1000}}"#, "7".repeat(60));
    let object = JsonObject::parse(&text).unwrap();
    assert_eq!(object.as_str(), text);
    assert_eq!(serde_json::to_string(&object).unwrap(), text);
    assert_eq!(serde_json::from_str::<JsonObject>(&text).unwrap(), object);
}

#[test]
fn sixty_four_levels_are_taken_and_sixty_five_are_not() {
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let arrays = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(MAX_LEVELS, 64);
    for (levels, taken) in [(1, true), (64, true), (65, false), (127, false), (30_000, false)] {
        assert_eq!(top_level(nested(levels).as_bytes()).is_ok(), taken, "{levels} objects");
        assert_eq!(top_level(arrays(levels).as_bytes()).is_ok(), taken, "{levels} arrays");
        assert_eq!(JsonObject::parse(&nested(levels)).is_ok(), taken, "{levels} levels of data");
    }
    // Not nesting: brackets in a string, and brackets that close again.
    let strings = format!(r#"{{"a":"{}\"{}"}}"#, "[".repeat(500), "{".repeat(500));
    assert!(top_level(strings.as_bytes()).is_ok());
    assert!(top_level(format!("[{}[]]", "[],".repeat(500)).as_bytes()).is_ok());
    // The deepest that is taken can be hashed too.
    assert_eq!(hash(&nested(64)).len(), 64);
}

#[test]
fn what_is_not_strict_json_in_utf8_is_malformed() {
    let bodies: [&[u8]; 26] = [
        b"",
        b" ",
        b"nul",
        b"{",
        b"{}}",
        b"{} {}",
        b"{},",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        b"\xff\xfe{\0}\0",
        b"{\"a\":1,}",
        b"[1,]",
        b"{'a':1}",
        b"{a:1}",
        b"{\"a\":01}",
        b"{\"a\":1.}",
        b"{\"a\":+1}",
        b"{\"a\":.5}",
        b"{\"a\":NaN}",
        b"{\"a\":\"\n\"}",
        b"{\"a\":\"\\x41\"}",
        b"{\"a\":\"\\u00g0\"}",
        b"{\"a\":\"\\u+123\"}",
        b"{\"a\":1}//",
        b"{\"a\":\"b}",
        b"{}\0",
    ];
    for body in bodies {
        assert!(top_level(body).is_err(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn half_a_surrogate_pair_is_malformed_wherever_it_stands() {
    for half in [r"\ud83d", r"\uDE00", r"\ude00\ud83d", r"\ud83d\n", r"\ud83dx", r"\ud83d\ud83d\ude00", r"\ud83d\u0041"]
    {
        for text in [format!(r#"{{"a":"{half}"}}"#), format!(r#"{{"{half}":1}}"#), format!(r#"{{"a":[["{half}"]]}}"#)] {
            assert!(top_level(text.as_bytes()).unwrap_err().to_string().contains("surrogate"), "{text}");
            assert!(JsonObject::parse(&text).is_err(), "{text}");
        }
    }
    // A pair, and a backslash before a `u` that is none.
    for whole in [r"\ud83d\ude00", r"\\ud83d", r"\\\\ud83d", r"\ud7ff\ue000"] {
        assert!(JsonObject::parse(&format!(r#"{{"a":"{whole}"}}"#)).is_ok(), "{whole}");
    }
}

#[test]
fn a_key_that_stands_twice_is_malformed() {
    for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#] {
        assert!(top_level(text.as_bytes()).is_err(), "{text}");
    }
    for text in [r#"{"a":1,"a":1}"#, r#"{"x":{"a":1,"\u0061":2}}"#, r#"{"x":[1,[{"a":1,"b":2,"a":3}]]}"#] {
        assert!(JsonObject::parse(text).unwrap_err().to_string().contains("twice"), "{text}");
    }
    // Twice, but in two objects; and keys that only look alike.
    assert!(JsonObject::parse(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"A":1,"a ":2}"#).is_ok());
}

#[test]
fn json_that_is_not_an_object_is_told_apart_from_what_is_not_json() {
    for body in ["null", "1", "1e999", "\"{}\"", "[]", "[{\"a\":1}]", "true"] {
        assert!(matches!(top_level(body.as_bytes()), Ok(TopLevel::Other)), "{body}");
        assert!(JsonObject::parse(body).is_err(), "{body}");
    }
    let Ok(TopLevel::Object(members)) = top_level(b" {\"\\u0061\" : [1, 2] } ") else { panic!("an object") };
    assert_eq!(members.get("a").unwrap().get(), "[1, 2]");
}

#[test]
fn neither_errors_nor_debug_repeat_what_came() {
    for text in
        [r#"{"secret":"secret" secret}"#, r#"{"secret":1,"secret":2}"#, r#"["secret"]"#, r#"{"secret":"\ud800"}"#]
    {
        let error = JsonObject::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    let object = JsonObject::parse(r#"{"email":"ana@example.com"}"#).unwrap();
    assert_eq!(format!("{object:?}"), "[json object, 27 bytes]");
}

#[test]
fn a_string_member_is_unescaped_and_others_are_none() {
    let object = JsonObject::parse(r#"{"a":"\u00e9\n","b":1,"c":null,"d":"","e":{"a":"x"}}"#).unwrap();
    assert_eq!(object.string("a").as_deref(), Some("é\n"));
    assert_eq!(object.string("d").as_deref(), Some(""));
    assert_eq!(
        [object.string("b"), object.string("c"), object.string("e"), object.string("z")],
        [None, None, None, None]
    );
    assert_eq!(JsonObject::empty().as_str(), "{}");
    assert_eq!(JsonObject::parse(" {\"a\" : 1}\n").unwrap().as_str(), "{\"a\" : 1}");
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_canonical_hash_knows_neither_order_nor_space_nor_spelling(json in any_object()) {
        let compact = hash(&write(&json, COMPACT));
        prop_assert_eq!(&compact, &hash(&write(&json, ODD)));
        prop_assert_eq!(&compact, &hash(&write(&json, Style { reversed: true, ..COMPACT })));
        prop_assert_eq!(&compact, &hash(&write(&sorted(&json), COMPACT)));
    }

    #[test]
    fn different_values_have_different_canonical_hashes(one in any_object(), other in any_object()) {
        let same = sorted(&one) == sorted(&other);
        prop_assert_eq!(same, hash(&write(&one, COMPACT)) == hash(&write(&other, ODD)));
    }

    #[test]
    fn a_change_anywhere_changes_the_canonical_hash(json in any_object(), key in any::<String>()) {
        let wrapped = |value: Json| write(&Json::Object(vec![("json".to_owned(), json.clone()), ("v".to_owned(), value)]), ODD);
        let deep = |key: &str| Json::Array(vec![Json::Object(vec![(key.to_owned(), Json::Plain("1"))])]);
        prop_assert_ne!(hash(&wrapped(deep(&key))), hash(&wrapped(deep(&format!("{key}x")))));
    }

    #[test]
    fn our_strictness_takes_only_what_serde_json_takes(body in "[\\[\\]{}\",:\\\\u0-9a-fdD8\\-+.eE \n]{0,40}") {
        if top_level(body.as_bytes()).is_ok() {
            prop_assert!(serde_json::from_str::<Box<serde_json::value::RawValue>>(&body).is_ok());
        }
    }
}
