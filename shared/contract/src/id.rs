//! Ids of deliveries and of what is made of them.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::{ContextV7, Uuid, Variant};

use crate::json::lower_hex;
use crate::time;

const MAX_WEBHOOK_ID_CHARS: usize = 256;
/// The largest time that a UUIDv7 holds, in milliseconds since 1970 (RFC 9562: 48 bits).
const MAX_UUID_MS: i64 = (1 << 48) - 1;

/// A message's id, the same on every attempt and replay: 1–256 visible ASCII characters without `.` (contract,
/// section 2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebhookId(String);

impl WebhookId {
    /// Takes an id as it stands; none when the rule does not hold.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        let good = (1..=MAX_WEBHOOK_ID_CHARS).contains(&text.len()) && text.bytes().all(allowed);
        good.then(|| Self(text.to_owned()))
    }

    /// A new id: `msg_` and a UUIDv7.
    pub fn new(now: Timestamp, source: &IdSource) -> Self {
        Self(format!("msg_{}", source.uuid(now).hyphenated()))
    }

    /// The id that belongs to an `Idempotency-Key`: `msg_` and its SHA-256 in 64 lowercase hexadecimal digits.
    pub fn from_idempotency_key(key: &str) -> Self {
        Self(format!("msg_{}", lower_hex(&Sha256::digest(key.as_bytes()))))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event record's id: a UUIDv7, in the order of arrival (contract, section 3). Its text sorts as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Uuid);

impl EventId {
    /// Takes a UUID of version 7 with its hyphens, in either case; none for all else.
    pub fn parse(text: &str) -> Option<Self> {
        // Uuid would take braces, `urn:uuid:` and digits without hyphens too.
        if text.len() != uuid::fmt::Hyphenated::LENGTH {
            return None;
        }
        let uuid = Uuid::try_parse(text).ok()?;
        (uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122).then_some(Self(uuid))
    }

    /// When it was made, in milliseconds since 1970.
    pub fn unix_ms(&self) -> i64 {
        // 48 bits are left, so the conversion never fails.
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(MAX_UUID_MS)
    }

    /// The least id of a millisecond, for bounds of ranges. A time before 1970 or after 48 bits becomes the nearest
    /// one.
    pub fn lowest_at(unix_ms: i64) -> Self {
        let ms = unix_ms.clamp(0, MAX_UUID_MS).unsigned_abs();
        Self(Uuid::from_u128((u128::from(ms) << 80) | (0x7 << 76) | (0b10 << 62)))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Makes ids, each greater than the one before, even when the clock goes back. One process has one.
pub struct IdSource(Mutex<Source>);

enum Source {
    /// Ids that nobody can guess.
    Random(ContextV7),
    /// Ids that are the same whenever the seed and the times are.
    Seeded { seed: u64, last_ms: u64, count: u64 },
}

impl IdSource {
    /// A source that has made no id yet.
    pub fn new() -> Self {
        Self(Mutex::new(Source::Random(ContextV7::new())))
    }

    /// A source for simulations that can be run again: its ids follow from `seed` and the times asked with.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(Source::Seeded { seed, last_ms: 0, count: 0 }))
    }

    /// An event record's id.
    pub fn event_id(&self, now: Timestamp) -> EventId {
        EventId(self.uuid(now))
    }

    /// An id for one claim on a message: a UUIDv7.
    pub fn claim_id(&self, now: Timestamp) -> String {
        self.uuid(now).hyphenated().to_string()
    }

    fn uuid(&self, now: Timestamp) -> Uuid {
        let ms = time::unix_ms(now).max(0).unsigned_abs();
        let nanoseconds = u32::try_from(ms % 1_000 * 1_000_000).unwrap_or(0);
        // A panic elsewhere can't leave the counter in between, so a poisoned lock is as good.
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *source {
            Source::Random(context) => Uuid::new_v7(uuid::Timestamp::from_unix(&*context, ms / 1_000, nanoseconds)),
            Source::Seeded { seed, last_ms, count } => {
                *last_ms = ms.max(*last_ms);
                *count += 1;
                seeded_uuid(*seed, *last_ms, *count)
            }
        }
    }
}

/// A UUIDv7 whose counter sorts those of a millisecond, and whose end is spread by a hash.
fn seeded_uuid(seed: u64, ms: u64, count: u64) -> Uuid {
    let hash = Sha256::digest([seed.to_be_bytes(), count.to_be_bytes()].concat());
    let mut bytes = [0; 10];
    // The version and the variant lie over the first three.
    bytes[3..6].copy_from_slice(&count.to_be_bytes()[5..]);
    bytes[6..].copy_from_slice(&hash[..4]);
    uuid::Builder::from_unix_timestamp_millis(ms, &bytes).into_uuid()
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSource")
    }
}
