//! Signs a message and sends it, once.

use std::error::Error;
use std::time::{Duration, Instant};

use contract::id::WebhookId;
use contract::signature::{ID_HEADER, SIGNATURE_HEADER, Secrets, TIMESTAMP_HEADER};
use contract::time;
use contract::wire::Attempt;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use service::settings::SettingsError;
use url::Url;

use crate::config::Endpoint;
use crate::schedule::Answer;

/// An attempt may take this long, its answer included (contract §5).
pub const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Of an answer to a failure this much is kept.
const KEPT_ANSWER_BYTES: usize = 1_024;
/// Below the 10 s after which a server like ours closes an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// Sends messages to one endpoint.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    url: Url,
    secrets: Secrets,
}

impl Sender {
    /// A sender to `endpoint`.
    ///
    /// # Errors
    /// Where an https endpoint can't be checked, for this host has no certificate authorities.
    pub fn new(endpoint: &Endpoint) -> Result<Self, SettingsError> {
        // Fails only when the process has a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE_LIMIT)
            .user_agent(concat!("opshook/", env!("CARGO_PKG_VERSION")));
        // Loading the host's authorities takes milliseconds of each start, and http needs none.
        let builder = if endpoint.url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(|_| {
            SettingsError::of("OPS_WEBHOOK_URL", "is https, and this host has no certificate authorities: install them")
        })?;
        Ok(Self { client, url: endpoint.url.clone(), secrets: endpoint.secrets.clone() })
    }

    /// Sends a message once, signed as of `now`.
    pub async fn send(&self, id: &WebhookId, body: &str, now: Timestamp) -> (Attempt, Answer) {
        let started = Instant::now();
        let outcome = match tokio::time::timeout(TIME_LIMIT, self.exchange(id, body, now)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", TIME_LIMIT.as_secs())),
        };
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let at = time::format_ms(now);
        match outcome {
            Ok(Exchange { status, answer, next }) => {
                (Attempt { at, status: Some(status.as_u16()), error: None, ms, answer }, next)
            }
            Err(error) => (Attempt { at, status: None, error: Some(error), ms, answer: None }, Answer::Failed),
        }
    }

    async fn exchange(&self, id: &WebhookId, body: &str, now: Timestamp) -> Result<Exchange, String> {
        let seconds = now.as_second();
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id.as_str())
            .header(TIMESTAMP_HEADER, seconds.to_string())
            .header(SIGNATURE_HEADER, self.secrets.sign(id, seconds, body.as_bytes()))
            .body(body.to_owned());
        let mut response = request.send().await.map_err(|error| describe(&error))?;
        let status = response.status();
        let next = match status {
            status if status.is_success() => Answer::Delivered,
            StatusCode::GONE => Answer::Gone,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Answer::Busy(retry_after(response.headers(), now))
            }
            _ => Answer::Failed,
        };
        let text = beginning(&mut response).await;
        let answer = (next != Answer::Delivered).then_some(text).filter(|text| !text.is_empty());
        Ok(Exchange { status, answer, next })
    }
}

struct Exchange {
    status: StatusCode,
    answer: Option<String>,
    next: Answer,
}

/// The first 1 KiB of an answer. Its status is what counts: an answer that breaks off is as good.
async fn beginning(response: &mut Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
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
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

/// What went wrong, from the outermost cause to the innermost, without the URL.
fn describe(error: &reqwest::Error) -> String {
    let kind = if error.is_connect() { "can't connect" } else { "the exchange broke off" };
    let mut innermost = error.source();
    while let Some(cause) = innermost.and_then(Error::source) {
        innermost = Some(cause);
    }
    innermost.map_or_else(|| kind.to_owned(), |cause| format!("{kind}: {cause}"))
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
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
