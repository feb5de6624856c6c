//! The same request gets the same answer from a Lambda and from a plain server (contract §6).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use opshook_adapter::lambda::invoke;
use opshook_adapter::server::Limits;
use serde_json::{Value, json};

/// Answers with all that it saw of a request.
async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let seen = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let json = json!({
        "method": method.as_str(), "uri": uri.to_string(), "body": format!("{body:?}"),
        "content-type": seen("content-type"), "webhook-id": seen("webhook-id"), "cookie": seen("cookie"),
    });
    ([(header::CONTENT_TYPE, "application/json")], json.to_string())
}

fn router() -> Router {
    let problem = || async {
        let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::RETRY_AFTER, "1")];
        (StatusCode::SERVICE_UNAVAILABLE, headers, r#"{"title":"Größe"}"#)
    };
    Router::new()
        .route("/problem", get(problem))
        .route("/text", get(|| async { "plain — text" }))
        .route("/empty", get(|| async { StatusCode::NO_CONTENT }))
        .route("/twice", get(|| async { ([("x-twice", "one")], [("vary", "a")]).into_response() }))
        .route("/cookies", get(|| async { ([("set-cookie", "a=1")], "set") }))
        .fallback(any(echo))
}

/// One request in both forms: API Gateway's, and what a client writes on a socket.
struct Case<'a> {
    method: &'a str,
    /// As API Gateway has it, which may be decoded and have the stage in front.
    raw_path: &'a str,
    stage: &'a str,
    query: &'a str,
    headers: &'a [(&'a str, &'a str)],
    cookies: &'a [&'a str],
    body: &'a [u8],
    /// As a client of a plain server sends it.
    path: &'a str,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            method: "GET",
            raw_path: "/",
            stage: "$default",
            query: "",
            headers: &[],
            cookies: &[],
            body: b"",
            path: "/",
        }
    }
}

impl Case<'_> {
    fn event(&self) -> Value {
        let mut headers: BTreeMap<&str, &str> = self.headers.iter().copied().collect();
        headers.extend([
            ("host", "id.execute-api.eu-west-1.amazonaws.com"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "192.0.2.1"),
        ]);
        let mut event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": self.raw_path, "rawQueryString": self.query,
            "headers": headers, "isBase64Encoded": false,
            "requestContext": {
                "accountId": "123456789012", "apiId": "id", "domainName": "id.execute-api.eu-west-1.amazonaws.com",
                "domainPrefix": "id", "requestId": "JKJaXmPLvHcESHA=", "routeKey": "$default", "stage": self.stage,
                "time": "24/Nov/2026:10:15:30 +0000", "timeEpoch": 1795515330000_i64,
                "http": {
                    "method": self.method, "path": self.raw_path, "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1", "userAgent": "test"
                }
            }
        });
        if !self.cookies.is_empty() {
            event["cookies"] = json!(self.cookies);
        }
        match str::from_utf8(self.body) {
            _ if self.body.is_empty() => {}
            Ok(text) if text.is_ascii() => event["body"] = json!(text),
            _ => {
                event["body"] = json!(base64(self.body));
                event["isBase64Encoded"] = json!(true);
            }
        }
        event
    }

    fn bytes(&self) -> Vec<u8> {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let mut text = format!("{} {}{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", self.method, self.path);
        for (name, value) in self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.cookies.is_empty() {
            text.push_str(&format!("cookie: {}\r\n", self.cookies.join("; ")));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [text.as_bytes(), self.body].concat()
    }

    /// Asks both, and checks that status, headers and body are the same.
    async fn check(&self, server: std::net::SocketAddr) {
        let mut answer = invoke(router(), self.event()).await.unwrap();
        assert_eq!(answer["isBase64Encoded"], false, "{answer}");
        let plain = common::read(common::send(server, &self.bytes()).await).await;
        let (head, body) = plain.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status: u16 = lines.next().unwrap()[9..12].parse().unwrap();
        let mut headers: BTreeMap<String, String> =
            lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        // What frames an answer on its connection is each server's own: API Gateway writes it too.
        for name in ["connection", "content-length", "date"] {
            headers.remove(name);
        }
        if let Some(cookie) = headers.remove("set-cookie") {
            assert_eq!(answer["cookies"], json!([cookie]));
        }
        answer["headers"].as_object_mut().unwrap().remove("content-length");
        assert_eq!(answer["statusCode"], status, "{}", self.raw_path);
        assert_eq!(answer["headers"], json!(headers), "{}", self.raw_path);
        assert_eq!(answer["body"].as_str().unwrap_or_default(), body, "{}", self.raw_path);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0u32, |bits, (at, &byte)| bits | u32::from(byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn a_lambda_and_a_plain_server_answer_alike() {
    let server = common::start(Limits::default(), router(), None).await;
    let json = &[("content-type", "application/json"), ("webhook-id", "msg_1")][..];
    let same = |path| Case { raw_path: path, path, ..Case::default() };
    for case in [
        same("/"),
        same("/api/v1/x"),
        same("/problem"),
        same("/text"),
        same("/empty"),
        same("/twice"),
        same("/cookies"),
        Case { raw_path: "/prod/api/v1/x", stage: "prod", path: "/api/v1/x", ..Case::default() },
        Case { raw_path: "/prod", stage: "prod", path: "/", ..Case::default() },
        Case { raw_path: "/production/x", stage: "prod", path: "/production/x", ..Case::default() },
        Case { raw_path: "/x", stage: "prod", path: "/x", ..Case::default() },
        Case { raw_path: "/a b/ü", path: "/a%20b/%C3%BC", ..Case::default() },
        Case { raw_path: "/a%2Fb", path: "/a%2Fb", ..Case::default() },
        Case { query: "session_id=&domain=b%C3%BCcher.example&x=a+b&x=2&y", ..Case::default() },
        Case {
            raw_path: "/p/x",
            stage: "p",
            path: "/x",
            query: "cursor=%2F%3D&from=2026-11-24T10%3A15%3A30%2B01%3A00",
            ..same("/")
        },
        Case { cookies: &["a=1", "b=2"], ..Case::default() },
        Case { headers: &[("webhook-id", "msg_1,msg_2")], ..Case::default() },
        Case { method: "DELETE", ..same("/problem") },
        Case { method: "POST", headers: json, body: br#"{"event":"account.created"}"#, ..Case::default() },
        Case { method: "POST", headers: json, body: "{\"domain\":\"bücher.example\"}".as_bytes(), ..Case::default() },
        Case { method: "POST", body: b"\xff\x00\xfe", ..Case::default() },
        Case { method: "PATCH", raw_path: "/prod/x", stage: "prod", path: "/x", body: b"\x80", ..Case::default() },
    ] {
        case.check(server.address).await;
    }
}

#[tokio::test]
async fn a_header_that_is_answered_twice_keeps_both_values() {
    let twice = || async {
        let mut response = StatusCode::OK.into_response();
        for value in ["GET", "HEAD"] {
            response.headers_mut().append(header::ALLOW, value.parse().unwrap());
        }
        response
    };
    let answer = invoke(Router::new().route("/", get(twice)), Case::default().event()).await.unwrap();
    assert_eq!(answer["headers"]["allow"], "GET, HEAD");
}

#[tokio::test]
async fn an_event_that_is_no_request_is_an_error() {
    assert!(invoke(router(), json!({"source": "aws.events"})).await.is_err());
}
