//! The event: something that happened in an onboarding (contract, section 1).

mod parts;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

pub use self::parts::{Domain, EventName, SessionId};
use crate::json::{self, JsonObject, Malformed, Members, Shape, TopLevel};
use crate::time;

/// How many faults of one body are told at most.
const MAX_FAULTS: usize = 20;
/// How much of an unknown field's name a pointer shows, in characters.
const MAX_NAME_CHARS: usize = 128;

/// An event, of which every part holds the contract's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub event: EventName,
    /// The onboarding in which it happened. Empty only where `domain` is not.
    pub session_id: SessionId,
    /// The domain that it is about. Empty only where `session_id` is not.
    pub domain: Domain,
    /// When it happened, in RFC 3339 as it came; none where the sender did not say.
    pub timestamp: Option<String>,
    /// All else that the sender says of it, as it came.
    pub data: JsonObject,
}

/// What becomes of top-level fields that the contract does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// Each is a fault: a typo would lose information (emit-retry).
    Refuse,
    /// They decide nothing, and the stored body keeps them (receive).
    Ignore,
}

/// A fault in one field of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where it is, as an RFC 6901 pointer such as `/session_id`; empty for the body as a whole. A name of more than
    /// 128 characters is cut, and ends in `…`.
    pub pointer: String,
    /// The rule that does not hold, without the value.
    pub detail: String,
}

impl FieldError {
    /// A fault at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Why a body is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It can't be read; a 400.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It can be read and is not an event; a 422. Every fault at once, 20 at most.
    #[error("the body is not an event: {} faults", .0.len())]
    Invalid(Vec<FieldError>),
}

impl Event {
    /// Reads an event. The caller has measured the body ([`json::MAX_BODY_BYTES`]).
    ///
    /// # Errors
    ///
    /// [`EventError::Malformed`] for what is not strict JSON and for a key that stands twice at the top level or
    /// anywhere in `data`; otherwise [`EventError::Invalid`] with all that is wrong.
    ///
    /// ```
    /// use contract::event::{Event, EventError, UnknownFields};
    ///
    /// let body = r#"{"event":"account.created","domain":"Bücher.example.","data":{"email":"ana@example.com"}}"#;
    /// let event = Event::parse(body.as_bytes(), UnknownFields::Refuse)?;
    /// assert_eq!(event.domain.as_str(), "xn--bcher-kva.example");
    /// assert!(event.session_id.is_empty());
    ///
    /// let Err(EventError::Invalid(faults)) = Event::parse(br#"{"event":"Account"}"#, UnknownFields::Refuse) else {
    ///     unreachable!("neither a name in lowercase nor a session or domain");
    /// };
    /// assert_eq!(faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(), ["/event", ""]);
    /// # Ok::<(), EventError>(())
    /// ```
    pub fn parse(body: &[u8], unknown: UnknownFields) -> Result<Self, EventError> {
        let TopLevel::Object(members) = json::top_level(body)? else {
            return Err(EventError::Invalid(vec![FieldError::new("", "must be a JSON object")]));
        };
        if let Some(data) = members.get("data") {
            json::refuse_repeated_keys(data.get())?;
        }
        let mut fields = Fields { members, faults: Vec::new() };
        let event = fields.event();
        let session_id = fields.text("session_id", SessionId::parse);
        let domain = fields.text("domain", Domain::parse);
        let timestamp = fields.text("timestamp", timestamp);
        let data = fields.data();
        if session_id.is_blank(SessionId::is_empty) && domain.is_blank(Domain::is_empty) {
            fields
                .faults
                .push(FieldError::new("", "must name a session or a domain: `session_id` and `domain` are both empty"));
        }
        if unknown == UnknownFields::Refuse {
            fields.refuse_the_rest();
        }
        let mut faults = fields.faults;
        match (event, data) {
            (Some(event), Some(data)) if faults.is_empty() => Ok(Self {
                event,
                session_id: session_id.good().unwrap_or_default(),
                domain: domain.good().unwrap_or_default(),
                timestamp: timestamp.good(),
                data,
            }),
            _ => {
                faults.truncate(MAX_FAULTS);
                Err(EventError::Invalid(faults))
            }
        }
    }

    /// The body that is sent: compact JSON of the five fields in the contract's order, `data` as it came.
    ///
    /// An absent timestamp becomes `accepted_at`, with milliseconds and `Z`. The same event and time make the same
    /// bytes; read back, they make the same event.
    pub fn to_body(&self, accepted_at: Timestamp) -> String {
        let timestamp = self.timestamp.clone().unwrap_or_else(|| time::format_ms(accepted_at));
        format!(
            r#"{{"event":{},"session_id":{},"domain":{},"timestamp":{},"data":{}}}"#,
            json::quoted(self.event.as_str()),
            json::quoted(self.session_id.as_str()),
            json::quoted(self.domain.as_str()),
            json::quoted(&timestamp),
            self.data.as_str(),
        )
    }
}

/// The fields not yet read, and the faults of those that are.
struct Fields<'a> {
    members: Members<'a>,
    faults: Vec<FieldError>,
}

impl Fields<'_> {
    /// A field that is a string, null or absent.
    fn text<T>(&mut self, name: &str, parse: fn(&str) -> Result<T, &'static str>) -> Field<T> {
        let detail = match self.members.remove(name).map(RawValue::get) {
            None | Some("null") => return Field::Absent,
            Some(raw) => match json::shape(raw) {
                Ok(Shape::Text(text)) => match parse(&text) {
                    Ok(value) => return Field::Good(value),
                    Err(detail) => detail,
                },
                _ => "must be a string",
            },
        };
        self.faults.push(FieldError::new(format!("/{name}"), detail));
        Field::Faulty
    }

    /// `event`, for which `type` is another name.
    fn event(&mut self) -> Option<EventName> {
        match (self.text("event", EventName::parse), self.text("type", EventName::parse)) {
            (Field::Good(event), Field::Good(alias)) if event != alias => {
                self.faults.push(FieldError::new("/type", "is another name for `event`, and differs from it"));
                None
            }
            (Field::Good(event), Field::Absent | Field::Good(_)) | (Field::Absent, Field::Good(event)) => Some(event),
            (Field::Absent, Field::Absent) => {
                self.faults.push(FieldError::new("/event", "is required"));
                None
            }
            (Field::Faulty, _) | (_, Field::Faulty) => None,
        }
    }

    /// `data`, in which no key stands twice.
    fn data(&mut self) -> Option<JsonObject> {
        let data = match self.members.remove("data").map(RawValue::get) {
            None | Some("null") => Some(JsonObject::empty()),
            Some(raw) => JsonObject::of_checked(raw),
        };
        if data.is_none() {
            self.faults.push(FieldError::new("/data", "must be an object"));
        }
        data
    }

    fn refuse_the_rest(&mut self) {
        let names = self.members.keys().take(MAX_FAULTS);
        self.faults.extend(
            names.map(|name| FieldError::new(format!("/{}", pointer_token(name)), "is not a field of an event")),
        );
    }
}

/// What came of reading an optional field.
enum Field<T> {
    /// Not there, or null.
    Absent,
    /// There and wrong; its fault is noted.
    Faulty,
    Good(T),
}

impl<T> Field<T> {
    fn good(self) -> Option<T> {
        match self {
            Self::Good(value) => Some(value),
            Self::Absent | Self::Faulty => None,
        }
    }

    /// Whether it says nothing; of a faulty field that can't be said.
    fn is_blank(&self, is_empty: fn(&T) -> bool) -> bool {
        match self {
            Self::Absent => true,
            Self::Faulty => false,
            Self::Good(value) => is_empty(value),
        }
    }
}

/// A field's name as one token of an RFC 6901 pointer.
fn pointer_token(name: &str) -> String {
    let cut = match name.char_indices().nth(MAX_NAME_CHARS) {
        None => name.to_owned(),
        Some(_) => name.chars().take(MAX_NAME_CHARS - 1).chain(['…']).collect(),
    };
    cut.replace('~', "~0").replace('/', "~1")
}

fn timestamp(text: &str) -> Result<String, &'static str> {
    if time::is_rfc3339(text) {
        Ok(text.to_owned())
    } else {
        Err("must be a time in RFC 3339 with an offset, such as 2026-11-24T10:15:30Z")
    }
}
