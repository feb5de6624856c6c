//! HTTP as the command speaks it: a request, its answer, and what to say when there is none.

use std::error::Error as _;
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::outcome::Failure;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The functions answer within 15 s, or say that they can't.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// More of an answer is not read: a page of 500 records may have 32 MiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A client for one place: the machine's proxies hold for what is elsewhere, never for loopback.
pub(crate) struct Http(Client);

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// From the request's first byte to the answer's last, in milliseconds.
    pub(crate) ms: u64,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as one of the contract's types.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The fields of the body, in the order in which they came; none where it is no JSON object.
    pub(crate) fn fields(&self) -> Option<Vec<(String, Value)>> {
        self.read::<Fields>().map(|fields| fields.0)
    }

    /// The body as JSON; as a string where it is none.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&self.body).into_owned()))
    }

    /// The status, and the problem's code where it is a problem: `422 invalid_event`.
    pub(crate) fn summary(&self) -> String {
        match self.value().get("code").and_then(Value::as_str) {
            Some(code) if !self.is_success() => format!("{} {code}", self.status),
            _ => self.status.to_string(),
        }
    }
}

impl Http {
    /// A client for `url` and whatever else is there.
    pub(crate) fn new(url: &Url) -> Result<Self, Failure> {
        let builder = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("opshook/", env!("CARGO_PKG_VERSION")));
        let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
        builder.build().map(Self).map_err(|error| Failure::failed(format!("can't speak HTTP: {error}")))
    }

    /// Asks, with a bearer token where one is given.
    pub(crate) async fn get(&self, url: &Url, token: Option<&str>) -> Result<Answer, Failure> {
        self.ask(authorized(self.0.get(url.clone()), token)?, url).await.map_err(Failure::from)
    }

    /// Asks without a token; where there is no answer, says why, and nothing of what to do.
    pub(crate) async fn look(&self, url: &Url) -> Result<Answer, String> {
        self.ask(self.0.get(url.clone()), url).await.map_err(|none| none.what)
    }

    /// Posts JSON.
    pub(crate) async fn post(
        &self,
        url: &Url,
        token: Option<&str>,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let request = self.0.post(url.clone()).headers(headers).header(CONTENT_TYPE, "application/json").body(body);
        self.ask(authorized(request, token)?, url).await.map_err(Failure::from)
    }

    async fn ask(&self, request: RequestBuilder, url: &Url) -> Result<Answer, NoAnswer> {
        let started = Instant::now();
        let failed = |error: reqwest::Error| no_answer(url, &error);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(NoAnswer::of(format!("{}: the answer is too long", place(url))));
            }
            body.extend_from_slice(&chunk);
        }
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Answer { status, body, ms })
    }
}

/// Why there is no answer, and what to do about it where that is known.
struct NoAnswer {
    what: String,
    remedy: Option<&'static str>,
}

impl NoAnswer {
    fn of(what: String) -> Self {
        Self { what, remedy: None }
    }
}

impl From<NoAnswer> for Failure {
    fn from(NoAnswer { what, remedy }: NoAnswer) -> Self {
        Self::failed(remedy.map_or(what.clone(), |remedy| format!("{what}; {remedy}")))
    }
}

/// An object's fields in their order, which [`Value`] does not keep.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// One header of a request.
pub(crate) fn header(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), Failure> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| Failure::usage(format!("{name}: the value can't stand in a header")))?;
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

fn authorized(request: RequestBuilder, token: Option<&str>) -> Result<RequestBuilder, Failure> {
    let Some(token) = token else { return Ok(request) };
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Failure::usage("the bearer token must be visible ASCII characters"))?;
    value.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, value))
}

/// The first of the tokens in a setting, which is the newest.
pub(crate) fn newest(tokens: &str) -> Option<&str> {
    tokens.split(|c: char| c == ',' || c.is_whitespace()).find(|token| !token.is_empty())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Scheme, host and port: what a person needs of a URL that didn't answer.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", url.scheme())
}

fn no_answer(url: &Url, error: &reqwest::Error) -> NoAnswer {
    let place = place(url);
    let mut cause = error.source();
    let mut text = String::new();
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            let remedy = Some("start it with `opshook up`, or name another with --url");
            return NoAnswer { what: format!("nothing listens on {place}"), remedy };
        }
        text = error.to_string();
        cause = error.source();
    }
    if error.is_timeout() {
        return NoAnswer::of(format!("{place} did not answer in time; whether it took the request is not known"));
    }
    let cause = if text.is_empty() { error.to_string() } else { text };
    NoAnswer::of(format!("can't get an answer from {place}: {cause}"))
}
