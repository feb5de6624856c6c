//! The same request gets the same answer from a Lambda and from a plain server (contract §6).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use opshook_adapter::lambda::invoke;
use opshook_adapter::server::Limits;
use serde_json::{Value, json};
use service::http::{self, ReadyCheck};

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

/// A function's routes in their wrapping, which answers with problems.
fn function() -> Router {
    let ready: ReadyCheck = Arc::new(|| Box::pin(async { Vec::new() }));
    http::wrap("receive", Router::new().route("/", any(echo)).route("/{*path}", any(echo)), http::Access::Open, ready)
}

/// The good request whose members are then odd.
fn good() -> Value {
    let headers = &[("content-type", "application/json"), ("x-request-id", "odd-1")];
    Case { method: "POST", raw_path: "/x", headers, body: b"{}", ..Case::default() }.event()
}

/// What is put in the place of a member.
fn odd_values() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let number: Value = serde_json::from_str("12345678901234567890").unwrap();
    let texts =
        ["", " ", "my_host:port", "http;https", "%", "\u{0}\r\n", "\u{1d516}\u{fffe}", "/../..", "::1]:x", "\\u00zz"];
    let others = [
        json!(null),
        json!(true),
        json!(-1.5),
        number,
        json!([]),
        json!([null, 1]),
        json!({}),
        json!({"p": null}),
        deep,
    ];
    texts.map(|text| json!(text)).into_iter().chain(others).collect()
}

#[tokio::test]
async fn no_member_of_an_event_fails_its_invocation() {
    let paths = [
        "",
        "version",
        "routeKey",
        "rawPath",
        "rawQueryString",
        "headers",
        "cookies",
        "isBase64Encoded",
        "body",
        "stageVariables",
        "pathParameters",
        "queryStringParameters",
        "requestContext",
        "headers/host",
        "headers/x-forwarded-proto",
        "headers/x-forwarded-for",
        "headers/content-type",
        "headers/x-request-id",
        "headers/content-length",
        "pathParameters/p",
        "queryStringParameters/p",
        "requestContext/accountId",
        "requestContext/apiId",
        "requestContext/domainName",
        "requestContext/domainPrefix",
        "requestContext/stage",
        "requestContext/time",
        "requestContext/timeEpoch",
        "requestContext/authorizer",
        "requestContext/authentication",
        "requestContext/http",
        "requestContext/http/method",
        "requestContext/http/path",
        "requestContext/http/protocol",
        "requestContext/http/sourceIp",
        "requestContext/http/userAgent",
    ];
    for path in paths {
        for odd in odd_values() {
            let mut event = good();
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = parent.split('/').filter(|part| !part.is_empty()).fold(&mut event, |at, part| &mut at[part]);
            parent[name] = odd.clone();
            // A version of another payload is another trigger's.
            if path == "version" && odd.is_string() {
                continue;
            }
            let answer = invoke(function(), event).await.unwrap_or_else(|error| panic!("{path} = {odd}: {error}"));
            let status = answer["statusCode"].as_u64().unwrap();
            assert!(status == 200 || status == 400, "{path} = {odd}: {answer}");
            if status == 400 {
                assert_eq!(answer["headers"]["content-type"], "application/problem+json", "{path} = {odd}: {answer}");
                let problem: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
                assert_eq!(problem["request_id"], answer["headers"]["x-request-id"], "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn members_that_a_plain_server_never_sees_change_nothing() {
    let answered = invoke(function(), good()).await.unwrap();
    assert_eq!(answered["statusCode"], 200);
    let mut event = good();
    event["headers"]["host"] = json!("my_host:port");
    event["headers"]["x-forwarded-proto"] = json!("http;https");
    event["requestContext"]["domainName"] = json!("<id>.example");
    event["pathParameters"] = json!({"p": null});
    event["queryStringParameters"] = json!({"p": null});
    event["requestContext"]["authorizer"] = json!({"jwt": {"claims": {"exp": 1}}});
    assert_eq!(invoke(function(), event.clone()).await.unwrap(), answered);
    event["headers"].as_object_mut().unwrap().remove("host");
    assert_eq!(invoke(function(), event).await.unwrap(), answered);
}

#[tokio::test]
async fn what_a_plain_server_could_not_read_is_answered_with_a_problem() {
    let faults: [(&str, Value, &str); 9] = [
        ("/body", json!("not base64!"), "malformed_json"),
        ("/body", json!("%%%"), "malformed_json"),
        ("/headers/x-request-id", json!("a\nb"), "invalid_header"),
        ("/headers/X(1)", json!("a"), "invalid_header"),
        ("/rawPath", json!("health"), "malformed_request"),
        ("/requestContext/http/method", json!("GE T"), "malformed_request"),
        ("/requestContext/http/method", Value::Null, "malformed_request"),
        ("/requestContext/http", Value::Null, "malformed_request"),
        ("/rawQueryString", json!("x".repeat(70_000)), "malformed_request"),
    ];
    for (pointer, odd, code) in faults {
        let mut event = good();
        event["isBase64Encoded"] = json!(true);
        event["body"] = json!("e30=");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        event.pointer_mut(parent).unwrap()[name] = odd;
        let answer = invoke(function(), event).await.unwrap();
        assert_eq!(answer["statusCode"], 400, "{pointer}: {answer}");
        let problem: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(problem["code"], code, "{pointer}: {answer}");
        if !pointer.ends_with("x-request-id") {
            assert_eq!(
                (&problem["request_id"], &answer["headers"]["x-request-id"]),
                (&json!("odd-1"), &json!("odd-1"))
            );
        }
    }
    let metrics = Case { raw_path: "/metrics", ..Case::default() }.event();
    let metrics = invoke(function(), metrics).await.unwrap();
    let counted = |line: &str| line.starts_with("opshook_requests_total{") && line.contains("status=\"400\"");
    assert!(metrics["body"].as_str().unwrap().lines().any(counted), "{metrics}");
}

#[tokio::test]
async fn text_that_is_no_unicode_is_handed_on_as_bytes() {
    let event = r#"{"\ud800":0,"version":"2.0","rawPath":"/\ud83e","rawQueryString":"x=\udfff","headers":{"webhook-id":"\ud83e"},
        "body":"caf\udce9","requestContext":{"http":{"method":"POST"}}}"#;
    // A value of serde_json can't hold it, so the event is read as the runtime hands it over.
    let answer = opshook_adapter::lambda::invoke_text(router(), event).await.unwrap();
    let seen: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!((&seen["uri"], &seen["body"]), (&json!("/%ED%A0%BE?x=%ED%BF%BF"), &json!(r#"b"caf\xed\xb3\xa9""#)));
}

#[tokio::test]
async fn an_answer_that_is_no_text_comes_as_base64() {
    let answer = Router::new().route("/", get(|| async { &b"\xff\x00\xfe"[..] }));
    let answer = invoke(answer, Case::default().event()).await.unwrap();
    assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("/wD+"), &json!(true)));
}

#[tokio::test]
async fn an_event_that_is_no_request_is_an_error() {
    assert!(invoke(router(), json!({"source": "aws.events"})).await.is_err());
}
