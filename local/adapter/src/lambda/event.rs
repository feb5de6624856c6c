//! API Gateway's events (HTTP API with payload 2.0, function URLs) as the requests that a plain server would read.
//!
//! Whatever an event says is input from outside. A member that is missing, null or of another type counts as missing, and
//! members that no plain server gets to see are not read at all.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;
use service::problem::{Code, Problem};

/// The version of the payload that is read here.
const VERSION: &[u8] = b"2.0";

/// Members of a portal's own event. What has one is never a request, or it would be lost.
const PORTALS_OWN: [&[u8]; 2] = [b"event", b"type"];

/// The members of a JSON object. The last of a name counts.
type Object<'a> = BTreeMap<Text, &'a RawValue>;

/// An event that is an HTTP request.
#[derive(Debug)]
pub(super) struct Event<'a> {
    members: Object<'a>,
    context: Object<'a>,
    http: Object<'a>,
}

impl<'a> Event<'a> {
    /// Reads a payload; `None` where it is no HTTP API's and no function URL's. Those are known by `requestContext.http` or
    /// `rawPath`, which no other trigger has, and by their version, where that is a text.
    pub(super) fn of(payload: &'a RawValue) -> Option<Self> {
        let members = object(payload)?;
        let context = members.get(&b"requestContext"[..]).and_then(|context| object(context)).unwrap_or_default();
        let shaped = context.contains_key(&b"http"[..]) || members.contains_key(&b"rawPath"[..]);
        let version = text(&members, "version").unwrap_or_else(|| VERSION.to_vec());
        if !shaped || version != VERSION || PORTALS_OWN.iter().any(|name| members.contains_key(*name)) {
            return None;
        }
        let http = context.get(&b"http"[..]).and_then(|http| object(http)).unwrap_or_default();
        Some(Self { members, context, http })
    }

    /// The request. Where it can't be made whole, it carries the [`Problem`] to answer it with, and what could be read.
    pub(super) fn into_request(self) -> Request {
        let mut request = Request::new(Body::empty());
        let method = self.method();
        *request.method_mut() = method.clone().unwrap_or_else(|_| unknown_method());
        let target = self.target().map(|target| *request.uri_mut() = target);
        let headers = self.read_headers(request.headers_mut());
        let body = self.body().map(|body| *request.body_mut() = body.into());
        if let Err(problem) = method.and(target).and(headers).and(body) {
            request.extensions_mut().insert(problem);
        }
        request
    }

    fn method(&self) -> Result<Method, Problem> {
        let malformed = || malformed("the event names no method of HTTP in requestContext.http.method");
        Method::from_bytes(&text(&self.http, "method").ok_or_else(malformed)?).map_err(|_| malformed())
    }

    /// The path as the caller sent it, without the stage, and the query.
    fn target(&self) -> Result<Uri, Problem> {
        let path = text(&self.members, "rawPath").or_else(|| text(&self.http, "path"));
        let path = path.filter(|path| path.is_empty() || path.starts_with(b"/"));
        let path = path.ok_or_else(|| malformed("the event has no path in rawPath"))?;
        let stage = text(&self.context, "stage").unwrap_or_default();
        let mut target = encoded(without_stage(&path, &stage), b"-._~!$&'()*+,;=:@/");
        if let Some(query) = text(&self.members, "rawQueryString").filter(|query| !query.is_empty()) {
            target.push('?');
            target.push_str(&encoded(&query, b"-._~!$&'()*+,;=:@/?[]\\^`{|}%"));
        }
        let target = PathAndQuery::try_from(target).map_err(|_| malformed("the path and the query are too long"))?;
        Ok(Uri::from(target))
    }

    /// Adds the headers. One that can't be a header is left out and is a fault, as a plain server refuses it.
    fn read_headers(&self, headers: &mut HeaderMap) -> Result<(), Problem> {
        let given = self.members.get(&b"headers"[..]).and_then(|given| object(given)).unwrap_or_default();
        let mut read = Ok(());
        for (Text(name), value) in given {
            let Some(value) = as_text(value) else { continue };
            let header = HeaderName::from_bytes(&name).ok().zip(HeaderValue::from_bytes(trimmed(&value)).ok());
            let added = header.is_some_and(|(name, value)| headers.try_append(name, value).is_ok());
            if !added {
                read = Err(Problem::new(Code::InvalidHeader, "a header has a name or a value that no header can have"));
            }
        }
        if let Some(cookies) = self.cookies() {
            headers.insert(header::COOKIE, cookies);
        }
        read
    }

    fn cookies(&self) -> Option<HeaderValue> {
        let cookies: Vec<&RawValue> = serde_json::from_str(self.members.get(&b"cookies"[..])?.get()).ok()?;
        let cookies: Vec<Vec<u8>> = cookies.into_iter().filter_map(as_text).collect();
        HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok().filter(|cookies| !cookies.is_empty())
    }

    fn body(&self) -> Result<Vec<u8>, Problem> {
        let body = text(&self.members, "body").unwrap_or_default();
        if self.members.get(&b"isBase64Encoded"[..]).is_none_or(|encoded| encoded.get() != "true") {
            return Ok(body);
        }
        let fault = "the body is not base64, though the event's isBase64Encoded says so";
        STANDARD.decode(body).map_err(|_| Problem::new(Code::MalformedJson, fault))
    }
}

fn malformed(fault: &str) -> Problem {
    Problem::new(Code::MalformedRequest, fault)
}

/// Stands for a method that can't be read: no route has it.
fn unknown_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}

/// The bytes of a JSON string. A lone surrogate, which JSON can have and Unicode text can't, is three bytes that are no UTF-8.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Text(Vec<u8>);

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The members of a value that is an object.
fn object(raw: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(raw.get()).ok()
}

fn text(object: &Object<'_>, name: &str) -> Option<Vec<u8>> {
    object.get(name.as_bytes()).and_then(|raw| as_text(raw))
}

fn as_text(raw: &RawValue) -> Option<Vec<u8>> {
    serde_json::from_str(raw.get()).ok().map(|Text(text)| text)
}

/// A header's value without the white space around it, as a plain server reads it.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Drops a leading `/{stage}` where it is a segment of its own.
fn without_stage<'a>(path: &'a [u8], stage: &[u8]) -> &'a [u8] {
    let rest = match stage {
        b"" | b"$default" => None,
        stage => path.strip_prefix(b"/").and_then(|path| path.strip_prefix(stage)),
    };
    match rest {
        Some(b"") => b"/",
        Some(rest) if rest.starts_with(b"/") => rest,
        _ => path,
    }
}

/// Text fit for a URI, where letters, digits and `plain` stay: an HTTP API hands a path over decoded. What is encoded still,
/// as from a function URL, stays so.
fn encoded(text: &[u8], plain: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for (index, &byte) in text.iter().enumerate() {
        let escape = byte == b'%'
            && text.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if escape || byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    if encoded.is_empty() { "/".to_owned() } else { encoded }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PATH: &[u8] = b"-._~!$&'()*+,;=:@/";

    #[test]
    fn only_a_whole_leading_segment_is_the_stage() {
        for (path, stage, plain) in [
            ("/prod/health", "prod", "/health"),
            ("/prod", "prod", "/"),
            ("/prod/", "prod", "/"),
            ("/production/health", "prod", "/production/health"),
            ("/health", "prod", "/health"),
            ("/prod/prod/x", "prod", "/prod/x"),
            ("/$default/x", "$default", "/$default/x"),
            ("/prod/x", "", "/prod/x"),
        ] {
            assert_eq!(without_stage(path.as_bytes(), stage.as_bytes()), plain.as_bytes(), "{path} {stage:?}");
        }
    }

    #[test]
    fn a_path_is_encoded_once() {
        let encoded = |text: &str| encoded(text.as_bytes(), PATH);
        assert_eq!(encoded("/api/v1/a b?c#d"), "/api/v1/a%20b%3Fc%23d");
        assert_eq!(encoded("/%2Fx/100%/ü"), "/%2Fx/100%25/%C3%BC");
        assert_eq!(encoded(""), "/");
    }

    #[test]
    fn an_http_apis_event_is_known_whatever_member_is_missing_or_odd() {
        for (event, http) in [
            (r#"{"version":"2.0","requestContext":{"http":{"method":"GET"}},"n":1e999}"#, true),
            (r#"{"version":"2.0","requestContext":{"http":null}}"#, true),
            (r#"{"version":"2.0","requestContext":null,"rawPath":"/x"}"#, true),
            (r#"{"version":"2.0","requestContext":[],"rawPath":null}"#, true),
            (r#"{"version":2,"requestContext":{"http":{}}}"#, true),
            (r#"{"requestContext":{"http":{}}}"#, true),
            (r#"{"\ud800":1,"version":"2.0","requestContext":{"http":{},"\udfff":0}}"#, true),
            (r#"{"version":"1.0","requestContext":{"http":{}}}"#, false),
            (r#"{"version":"1.0","rawPath":"/"}"#, false),
            (r#"{"version":"\ud800","rawPath":"/"}"#, false),
            (r#"{"version":"2.0","requestContext":{"stage":"$default"}}"#, false),
            (r#"{"requestContext":{"elb":{}},"httpMethod":"GET"}"#, false),
            (r#"{"version":"0","source":"aws.events"}"#, false),
            (r#"{"event":"account.created","data":{"version":"2.0","requestContext":{"http":{}}}}"#, false),
            (r#"{"event":"account.created","rawPath":"/","requestContext":{"http":{}}}"#, false),
            (r#"{"Records":[]}"#, false),
            ("null", false),
            ("[]", false),
        ] {
            assert_eq!(Event::of(serde_json::from_str(event).unwrap()).is_some(), http, "{event}");
        }
    }
}
