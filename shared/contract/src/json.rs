//! Strict reading of JSON, in which nothing that came is lost.
//!
//! `serde_json` checks the grammar. What it lets pass and the contract does not is checked here: nesting without end,
//! surrogates without their pair, and keys that stand twice (contract, section 1). Numbers are never converted, so
//! `1e999` and 60 digits stay as they were written.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The largest body of a request or webhook, in bytes (contract, section 1). Hosts answer a larger one with 413;
/// nothing in this crate measures it.
pub const MAX_BODY_BYTES: usize = 65_536;

/// How deep objects and arrays may be nested. The outermost one is level 1.
pub const MAX_LEVELS: usize = 64;

/// Why a text is not JSON that we take; a 400. The words give a position, never content of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// The members of an object by their unescaped keys, each value as it was written.
pub type Members<'a> = BTreeMap<String, &'a RawValue>;

/// What a body is at its outermost level.
#[derive(Clone, Debug)]
pub enum TopLevel<'a> {
    /// An object. No key stands twice in it; in the values below, keys may.
    Object(Members<'a>),
    /// JSON, but not an object.
    Other,
}

/// Reads the outermost level of a body.
///
/// # Errors
///
/// [`Malformed`] for what is not JSON in UTF-8 (a byte order mark and text after the value included), for more than
/// [`MAX_LEVELS`] levels, for a surrogate without its pair, and for a top-level key that stands twice.
pub fn top_level(body: &[u8]) -> Result<TopLevel<'_>, Malformed> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Malformed(format!("the body is not UTF-8 at byte {}", error.valid_up_to())))?;
    match shape(grammatical(text)?)? {
        Shape::Object(members) => Ok(TopLevel::Object(members)),
        _ => Ok(TopLevel::Other),
    }
}

/// The JSON text of an object, as it came but for white space around it.
///
/// It holds JSON of at most [`MAX_LEVELS`] levels, in which no key stands twice in one object. In JSON it is itself,
/// not a string. `Debug` shows its size only, for it holds personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonObject(String);

impl JsonObject {
    /// Takes a text that is an object.
    ///
    /// # Errors
    ///
    /// [`Malformed`] as in [`top_level`], and for a text that is not an object or has a key twice at any depth.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let text = grammatical(text)?;
        if !text.starts_with('{') {
            return Err(Malformed("the JSON is not an object".to_owned()));
        }
        refuse_repeated_keys(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The object `{}`.
    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    /// Takes a member's value, of which grammar and keys have been checked; none when it is not an object.
    pub(crate) fn of_checked(text: &str) -> Option<Self> {
        text.starts_with('{').then(|| Self(text.to_owned()))
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the canonical form, 64 lowercase hexadecimal digits.
    ///
    /// The canonical form has its keys sorted by their bytes at every level, every string escaped in one way, no white
    /// space, and numbers as they were written: `1` and `1.0` differ. It says whether a duplicate's `data` differs from
    /// the first one's (contract, section 3).
    pub fn canonical_sha256(&self) -> String {
        let mut canonical = String::with_capacity(self.0.len());
        write_canonical(&self.0, &mut canonical);
        lower_hex(&Sha256::digest(canonical.as_bytes()))
    }

    /// A member of the outermost level that is a string, unescaped; none when it is absent or not a string.
    pub fn string(&self, key: &str) -> Option<String> {
        let Ok(Shape::Object(members)) = shape(&self.0) else { return None };
        match shape(members.get(key)?.get()) {
            Ok(Shape::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[json object, {} bytes]", self.0.len())
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(D::Error::custom)
    }
}

/// One level of a text that is known to be grammatical.
pub(crate) enum Shape<'a> {
    Object(Members<'a>),
    Array(Vec<&'a RawValue>),
    Text(String),
    /// A number, `true`, `false` or `null`.
    Plain,
}

/// Opens one level; fails when a key stands twice in it.
pub(crate) fn shape(text: &str) -> Result<Shape<'_>, Malformed> {
    match text.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<Level<'_>>(text).map_err(|error| not_json(&error))?.0 {
            Some(members) => Ok(Shape::Object(members)),
            None => Err(Malformed("a key stands twice in one object".to_owned())),
        },
        Some(b'[') => serde_json::from_str(text).map(Shape::Array).map_err(|error| not_json(&error)),
        Some(b'"') => serde_json::from_str(text).map(Shape::Text).map_err(|error| not_json(&error)),
        _ => Ok(Shape::Plain),
    }
}

/// Refuses a key that stands twice in one object at any depth. The depth is bounded, for the text is grammatical.
pub(crate) fn refuse_repeated_keys(text: &str) -> Result<(), Malformed> {
    match shape(text)? {
        Shape::Object(members) => members.values().try_for_each(|value| refuse_repeated_keys(value.get())),
        Shape::Array(values) => values.iter().try_for_each(|value| refuse_repeated_keys(value.get())),
        Shape::Text(_) | Shape::Plain => Ok(()),
    }
}

/// A string in JSON, in the one way that we write it.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Bytes as lowercase hexadecimal digits.
pub(crate) fn lower_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_canonical(text: &str, out: &mut String) {
    match shape(text) {
        Ok(Shape::Object(members)) => {
            out.push('{');
            for (position, (key, value)) in members.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(key));
                out.push(':');
                write_canonical(value.get(), out);
            }
            out.push('}');
        }
        Ok(Shape::Array(values)) => {
            out.push('[');
            for (position, value) in values.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_canonical(value.get(), out);
            }
            out.push(']');
        }
        Ok(Shape::Text(string)) => out.push_str(&quoted(&string)),
        // A checked text has no faulty level; were there one, it would stand as it was written.
        Ok(Shape::Plain) | Err(_) => out.push_str(text),
    }
}

/// The text of the one JSON value in `text`, whose nesting and escapes are within the rules.
fn grammatical(text: &str) -> Result<&str, Malformed> {
    // First, so that no parser ever meets nesting without end.
    scan(text.as_bytes())?;
    serde_json::from_str::<&RawValue>(text).map(RawValue::get).map_err(|error| not_json(&error))
}

/// The parser's own words may quote the text, so only its position is used.
fn not_json(error: &serde_json::Error) -> Malformed {
    let what = if error.is_eof() { "the JSON ends too early" } else { "not JSON" };
    Malformed(format!("{what}, at line {} column {}", error.line(), error.column()))
}

/// Counts levels and checks surrogates. The text need not be JSON: what this lets pass, the grammar still refuses.
fn scan(bytes: &[u8]) -> Result<(), Malformed> {
    let (mut at, mut levels) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = after_string(bytes, at + 1)?;
                continue;
            }
            b'{' | b'[' if levels == MAX_LEVELS => {
                return Err(Malformed(format!("more than {MAX_LEVELS} levels, at byte {at}")));
            }
            b'{' | b'[' => levels += 1,
            b'}' | b']' => levels = levels.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The position after the string whose content starts at `at`.
fn after_string(bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' => at = after_escape(bytes, at)?,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The position after the escape at `at`. Surrogates are taken in pairs only: alone, they are no character.
fn after_escape(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    let unpaired = || Malformed(format!("a \\u escape of half a surrogate pair, at byte {at}"));
    match utf16_unit(bytes, at) {
        None => Ok(at + 2),
        Some(0xD800..=0xDBFF) => match utf16_unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(unpaired()),
        },
        Some(0xDC00..=0xDFFF) => Err(unpaired()),
        Some(_) => Ok(at + 6),
    }
}

/// The unit that the six bytes `\uXXXX` at `at` stand for, where they are that.
fn utf16_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// An object's members; none when a key stands twice.
struct Level<'a>(Option<Members<'a>>);

impl<'de> Deserialize<'de> for Level<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LevelVisitor)
    }
}

struct LevelVisitor;

impl<'de> Visitor<'de> for LevelVisitor {
    type Value = Level<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut repeated) = (Members::new(), false);
        while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
            repeated |= members.insert(key, value).is_some();
        }
        Ok(Level((!repeated).then_some(members)))
    }
}
