//! Signs a message and sends it, once.

use std::error::Error;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER, USER_AGENT};
use axum::http::{Method, Request, Response, StatusCode, Uri};
use contract::id::WebhookId;
use contract::signature::{ID_HEADER, SIGNATURE_HEADER, Secrets, TIMESTAMP_HEADER};
use contract::time;
use contract::wire::Attempt;
use http_body_util::{BodyExt, Full};
use http_client::{Client, Incoming, RootCertStore, native_roots, status_of};
use jiff::{SignedDuration, Timestamp};
use service::settings::SettingsError;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::config::Endpoint;
use crate::endpoint::{self, Verdict};
use crate::schedule::Answer;

/// An attempt may take this long, its answer included (contract §5).
pub const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Of an answer to a failure this much is kept.
const KEPT_ANSWER_BYTES: usize = 1_024;
/// The rest of an answer to a success is read for this long, for then the connection can be used again.
const SUCCESS_REST_LIMIT: Duration = Duration::from_millis(100);

/// Sends messages to one endpoint. Redirects are not followed, and no proxy is used.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    uri: Uri,
    secrets: Secrets,
}

/// What came of sending a message once.
#[derive(Debug)]
pub struct Sent {
    /// For the message's own history.
    pub attempt: Attempt,
    /// What the schedule makes of it.
    pub answer: Answer,
    /// What it says about the endpoint.
    pub verdict: Verdict,
    /// The `Retry-After` of the answer, whatever its status.
    pub retry_after: Option<Duration>,
    /// How far the endpoint's clock is ahead of ours, by the answer's `Date`: exact to a second or two.
    pub clock_ahead: Option<SignedDuration>,
}

impl Sender {
    /// A sender to `endpoint`.
    ///
    /// # Errors
    /// Where an https endpoint can't be checked, for this host has no certificate authorities.
    pub fn new(endpoint: &Endpoint) -> Result<Self, SettingsError> {
        let fault = |fault: &str| SettingsError::of("OPS_WEBHOOK_URL", fault);
        let roots = match endpoint.url.scheme() {
            "https" => native_roots(),
            _ => RootCertStore::empty(),
        };
        if endpoint.url.scheme() == "https" && roots.is_empty() {
            return Err(fault("is https, and this host has no certificate authorities: install them"));
        }
        let client = Client::tolerant(roots).map_err(|_| fault("is https, and TLS can't be used in this build"))?;
        Self::by(endpoint, client)
    }

    /// A sender to `endpoint` by a given client.
    ///
    /// # Errors
    /// Where no request can have the endpoint's URL as its target.
    pub fn by(endpoint: &Endpoint, client: Client) -> Result<Self, SettingsError> {
        let fault = "has a length or characters that no request can have in its target";
        let uri = endpoint.url.as_str().parse().map_err(|_| SettingsError::of("OPS_WEBHOOK_URL", fault))?;
        Ok(Self { client, uri, secrets: endpoint.secrets.clone() })
    }

    /// A name of the endpoint that is the same in every process and tells nothing of its URL.
    pub fn endpoint_key(&self) -> String {
        let hash = Sha256::digest(self.uri.to_string().as_bytes());
        hash.iter().take(16).fold(String::new(), |key, byte| format!("{key}{byte:02x}"))
    }

    /// Sends a message once, signed as of `now`.
    pub async fn send(&self, id: &WebhookId, body: &str, now: Timestamp) -> Sent {
        let started = Instant::now();
        let deadline = started + TIME_LIMIT;
        let head = match timeout_at(deadline, self.head(id, body, now)).await {
            Ok(head) => head,
            Err(_) => Err((Verdict::TooMuch, format!("no answer within {} s", TIME_LIMIT.as_secs()))),
        };
        let mut attempt = Attempt { at: time::format_ms(now), status: None, error: None, ms: 0, answer: None };
        let mut sent = match head {
            // The status is what counts: it is there, however its body goes on.
            Ok(Head { status, headers, body }) => {
                let retry_after = retry_after(&headers, now);
                let clock_ahead = clock_ahead(&headers, now, started.elapsed());
                let answer = answer_of(status, retry_after);
                attempt.status = Some(status.as_u16());
                let delivered = answer == Answer::Delivered;
                let limit = if delivered { deadline.min(Instant::now() + SUCCESS_REST_LIMIT) } else { deadline };
                let text = beginning(body, limit).await;
                attempt.answer = Some(text).filter(|text| !delivered && !text.is_empty());
                let verdict = endpoint::verdict(status.as_u16());
                Sent { attempt, answer, verdict, retry_after, clock_ahead }
            }
            Err((verdict, error)) => {
                attempt.error = Some(error);
                Sent { attempt, answer: Answer::Failed, verdict, retry_after: None, clock_ahead: None }
            }
        };
        sent.attempt.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        sent
    }

    /// Sends the request and waits for the head of its answer.
    async fn head(&self, id: &WebhookId, body: &str, now: Timestamp) -> Result<Head, (Verdict, String)> {
        let seconds = now.as_second();
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("opshook/", env!("CARGO_PKG_VERSION")))
            .header(ID_HEADER, id.as_str())
            .header(TIMESTAMP_HEADER, seconds)
            .header(SIGNATURE_HEADER, self.secrets.sign(id, seconds, body.as_bytes()))
            .body(Full::from(body.to_owned()))
            .map_err(|_| (Verdict::Lives, "the message can't be put into a request".to_owned()))?;
        match (self.client.send(request).await).map(Response::into_parts) {
            Ok((head, body)) => Ok(Head { status: head.status, headers: head.headers, body: Some(body) }),
            Err(error) => match status_of(&error) {
                Some(status) => Ok(Head { status, headers: HeaderMap::new(), body: None }),
                None if error.is_connect() => Err((Verdict::TooMuch, describe("can't connect", &error))),
                None => Err((Verdict::Fails, describe("the exchange broke off", &error))),
            },
        }
    }
}

/// The head of an answer, and its body. Where more than the status can't be read, there is nothing else.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Incoming>,
}

/// What an answer's status means.
fn answer_of(status: StatusCode, retry_after: Option<Duration>) -> Answer {
    match status {
        status if status.is_success() => Answer::Delivered,
        StatusCode::GONE => Answer::Gone,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Answer::Busy(retry_after),
        _ => Answer::Failed,
    }
}

/// The first 1 KiB of an answer, or what has come of it when it breaks off or the time is over.
async fn beginning(body: Option<Incoming>, limit: Instant) -> String {
    let Some(mut body) = body else { return String::new() };
    let mut bytes = Vec::new();
    while let Ok(Some(Ok(frame))) = timeout_at(limit, body.frame()).await {
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        if bytes.len() >= KEPT_ANSWER_BYTES {
            break;
        }
    }
    bytes.truncate(KEPT_ANSWER_BYTES);
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    while text.len() > KEPT_ANSWER_BYTES {
        text.pop();
    }
    text
}

/// `Retry-After` in seconds, or as a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = time::parse_http_date(text, now)?;
    Duration::try_from(date.duration_since(now)).ok()
}

/// How far the clock that wrote `Date` is ahead of the one that said `now` when the exchange began, `took` ago.
fn clock_ahead(headers: &HeaderMap, now: Timestamp, took: Duration) -> Option<SignedDuration> {
    let date = time::parse_http_date(headers.get(DATE)?.to_str().ok()?, now)?;
    let middle = now.checked_add(SignedDuration::try_from(took / 2).ok()?).ok()?;
    Some(date.duration_since(middle))
}

/// What went wrong, by its innermost cause, which names no URL.
fn describe(kind: &str, error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    format!("{kind}: {cause}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Tue, 24 Nov 2026 10:02:00 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(read("Tue, 24 Nov 2026 09:00:00 GMT"), None);
        for form in ["Tuesday, 24-Nov-26 10:02:00 GMT", "Tue Nov 24 10:02:00 2026", "Mon, 24 Nov 2026 10:02:00 GMT"] {
            assert_eq!(read(form), Some(Duration::from_secs(120)), "{form}");
        }
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_clocks_are_compared_at_the_middle_of_the_exchange() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let headers = HeaderMap::from_iter([(DATE, "Tue, 24 Nov 2026 11:00:02 GMT".parse().unwrap())]);
        let ahead = clock_ahead(&headers, now, Duration::from_secs(4)).unwrap();
        assert_eq!(ahead, SignedDuration::from_hours(1));
        assert_eq!(clock_ahead(&HeaderMap::new(), now, Duration::ZERO), None);
    }
}
