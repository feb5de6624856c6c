//! Signs a message and sends it, once.

use std::error::Error;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use axum::http::{Method, Request, Response, StatusCode, Uri};
use contract::id::WebhookId;
use contract::signature::{ID_HEADER, SIGNATURE_HEADER, Secrets, TIMESTAMP_HEADER};
use contract::time;
use contract::wire::Attempt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use service::settings::SettingsError;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::config::Endpoint;
use crate::schedule::Answer;

/// An attempt may take this long, its answer included (contract §5).
pub const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Of an answer to a failure this much is kept.
const KEPT_ANSWER_BYTES: usize = 1_024;
/// The rest of an answer to a success is read for this long, for then the connection can be used again.
const SUCCESS_REST_LIMIT: Duration = Duration::from_millis(100);
/// Below the 10 s after which a server like ours closes an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// Sends messages to one endpoint. Redirects are not followed, and no proxy is used.
#[derive(Debug)]
pub struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    secrets: Secrets,
}

impl Sender {
    /// A sender to `endpoint`.
    ///
    /// # Errors
    /// Where an https endpoint can't be checked, for this host has no certificate authorities.
    pub fn new(endpoint: &Endpoint) -> Result<Self, SettingsError> {
        let fault = |fault: &str| SettingsError::of("OPS_WEBHOOK_URL", fault);
        let uri = endpoint
            .url
            .as_str()
            .parse()
            .map_err(|_| fault("has a length or characters that no request can have in its target"))?;
        let provider = rustls::crypto::ring::default_provider().into();
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| fault("is https, and TLS can't be used in this build"))?
            .with_root_certificates(roots(&endpoint.url).map_err(fault)?)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .build(connector.wrap_connector(http));
        Ok(Self { client, uri, secrets: endpoint.secrets.clone() })
    }

    /// Sends a message once, signed as of `now`.
    pub async fn send(&self, id: &WebhookId, body: &str, now: Timestamp) -> (Attempt, Answer) {
        let started = Instant::now();
        let deadline = started + TIME_LIMIT;
        let head = match timeout_at(deadline, self.head(id, body, now)).await {
            Ok(head) => head,
            Err(_) => Err(format!("no answer within {} s", TIME_LIMIT.as_secs())),
        };
        let mut attempt = Attempt { at: time::format_ms(now), status: None, error: None, ms: 0, answer: None };
        let answer = match head {
            // The status is what counts: it is there, however its body goes on.
            Ok(response) => {
                let answer = answer_of(&response, now);
                attempt.status = Some(response.status().as_u16());
                let delivered = answer == Answer::Delivered;
                let limit = if delivered { deadline.min(Instant::now() + SUCCESS_REST_LIMIT) } else { deadline };
                let text = beginning(response.into_body(), limit).await;
                attempt.answer = Some(text).filter(|text| !delivered && !text.is_empty());
                answer
            }
            Err(error) => {
                attempt.error = Some(error);
                Answer::Failed
            }
        };
        attempt.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        (attempt, answer)
    }

    /// Sends the request and waits for the head of its answer.
    async fn head(&self, id: &WebhookId, body: &str, now: Timestamp) -> Result<Response<Incoming>, String> {
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
            .map_err(|_| "the message can't be put into a request".to_owned())?;
        self.client.request(request).await.map_err(|error| {
            describe(if error.is_connect() { "can't connect" } else { "the exchange broke off" }, &error)
        })
    }
}

/// What the head of an answer means.
fn answer_of(response: &Response<Incoming>, now: Timestamp) -> Answer {
    match response.status() {
        status if status.is_success() => Answer::Delivered,
        StatusCode::GONE => Answer::Gone,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Answer::Busy(retry_after(response.headers(), now))
        }
        _ => Answer::Failed,
    }
}

/// Loading the host's authorities takes milliseconds of each start, and http needs none.
fn roots(url: &Url) -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore::empty();
    if url.scheme() == "https" {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("is https, and this host has no certificate authorities: install them");
        }
    }
    Ok(roots)
}

/// The first 1 KiB of an answer, or what has come of it when it breaks off or the time is over.
async fn beginning(mut body: Incoming, limit: Instant) -> String {
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
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
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
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
