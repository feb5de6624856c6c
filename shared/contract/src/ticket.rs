//! The ticket: the work item that an event opens, once for ever (contract, section 3).

use std::fmt;

use sha2::{Digest, Sha256};

use crate::event::{Domain, Event, EventName, SessionId};
use crate::json::lower_hex;
use crate::text::is_printable;

const MAX_SUBJECT_CHARS: usize = 200;
const PREFIX: &str = "tkt_";
/// 128 bits: no two of all the triples there will ever be share them.
const HASH_BYTES: usize = 16;

/// A ticket's id, which is its key too: `tkt_` and 32 lowercase hexadecimal digits.
///
/// It is made from what makes a ticket one: event, session and domain. Every delivery of that triple gets the same id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketId(String);

impl TicketId {
    /// The id of a triple: the first 16 bytes of SHA-256 over its JSON array.
    ///
    /// JSON, and not a separator between the parts: what separates could stand in a part.
    pub fn of(event: &EventName, session_id: &SessionId, domain: &Domain) -> Self {
        let key = serde_json::json!([event.as_str(), session_id.as_str(), domain.as_str()]).to_string();
        let hash = Sha256::digest(key.as_bytes());
        Self(format!("{PREFIX}{}", lower_hex(&hash[..HASH_BYTES])))
    }

    /// Takes an id as it stands; none when it can't be one.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let good =
            digits.len() == 2 * HASH_BYTES && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(text.to_owned()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A ticket's subject: `[{event}] {domain} — {email}`, or without the dash where `data` has no email. Where there is no
/// domain, the session stands in its place. Control and format characters are removed. A longer one is cut to 200 characters, of
/// which the last is `…`.
pub fn subject(event: &Event) -> String {
    let about = if event.domain.is_empty() { event.session_id.as_str() } else { event.domain.as_str() };
    let mut subject = format!("[{}] {about}", event.event);
    let email: String = email(event).into_iter().flat_map(|email| printable(&email)).collect();
    if !email.is_empty() {
        subject.push_str(" — ");
        subject.push_str(&email);
    }
    let subject = printable(&subject);
    match subject.get(MAX_SUBJECT_CHARS) {
        None => subject.into_iter().collect(),
        Some(_) => subject.into_iter().take(MAX_SUBJECT_CHARS - 1).chain(['…']).collect(),
    }
}

/// The email in an event's `data`, as it came: `data.email` where that is a non-empty string.
pub fn email(event: &Event) -> Option<String> {
    event.data.string("email").filter(|email| !email.is_empty())
}

fn printable(text: &str) -> Vec<char> {
    text.chars().filter(|character| is_printable(*character)).collect()
}
