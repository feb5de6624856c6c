//! The parts of an event that name something, each made by parsing only.

use std::fmt;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

const MAX_EVENT_CHARS: usize = 64;
const MAX_SESSION_CHARS: usize = 128;
/// Longer texts are refused unread. A name of 253 characters takes a third of it, even with every accent apart.
const MAX_DOMAIN_TEXT_BYTES: usize = 4_096;
/// What IDNA (UTS 46) reads as a dot.
const DOTS: [char; 4] = ['.', '\u{3002}', '\u{FF0E}', '\u{FF61}'];

/// What happened, such as `account.created`: 1–64 characters of `[a-z0-9_]` in dot-separated segments, none empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(String);

impl EventName {
    /// Takes a name as it stands.
    ///
    /// # Errors
    ///
    /// The rule, in words, when it does not hold.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let in_segment = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(in_segment);
        if text.len() <= MAX_EVENT_CHARS && text.split('.').all(is_segment) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 64 characters of a-z, 0-9 and _ in segments with a dot between them")
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One onboarding, kept exactly as it came: at most 128 characters, no control characters. It may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(String);

impl SessionId {
    /// Takes an id as it stands.
    ///
    /// # Errors
    ///
    /// The rule, in words, when it does not hold.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().nth(MAX_SESSION_CHARS).is_some() {
            Err("must be at most 128 characters")
        } else if text.chars().any(char::is_control) {
            Err("must have no control characters")
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no onboarding is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name in lowercase ASCII, without a dot at its end: at most 253 characters. It may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

impl Domain {
    /// Normalises a name: white space around it and one dot at its end are dropped, the rest becomes ASCII by IDNA
    /// (UTS 46, not transitional). Labels hold letters, digits and inner hyphens, and have 1–63 characters. A blank
    /// text is the empty name. A name that was normalised stays as it is.
    ///
    /// # Errors
    ///
    /// The rule, in words, when what is left is not a host name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let name = text.trim();
        if name.is_empty() {
            return Ok(Self::default());
        }
        if name.len() > MAX_DOMAIN_TEXT_BYTES {
            return Err("must be a host name of at most 253 characters");
        }
        let name = name.strip_suffix(DOTS).unwrap_or(name);
        // An empty name is refused here too: what was there was a dot alone.
        Uts46::new()
            .to_ascii(name.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map(|ascii| Self(ascii.into_owned()))
            .map_err(|_| "must be a host name of at most 253 characters: labels of letters, digits and inner hyphens")
    }

    /// The name, in ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no domain is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
