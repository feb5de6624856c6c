//! Answers as API Gateway takes them (HTTP API with payload 2.0, function URLs).

use std::collections::BTreeMap;

use axum::body::to_bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use service::host::InvokeError;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    headers: BTreeMap<String, String>,
    cookies: Vec<String>,
    body: String,
    is_base64_encoded: bool,
}

/// The answer as JSON.
///
/// # Errors
/// When its body breaks off.
pub(super) async fn written(response: Response) -> Result<Box<RawValue>, InvokeError> {
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|_| InvokeError::Panicked)?;
    let (body, is_base64_encoded) = match String::from_utf8(body.into()) {
        Ok(text) => (text, false),
        Err(error) => (STANDARD.encode(error.as_bytes()), true),
    };
    let names = head.headers.keys().filter(|name| *name != header::SET_COOKIE);
    let answer = Answer {
        status_code: head.status.as_u16(),
        // There is room for one value a header.
        headers: names.map(|name| (name.to_string(), values(&head.headers, name.as_str()).join(", "))).collect(),
        cookies: values(&head.headers, header::SET_COOKIE.as_str()),
        body,
        is_base64_encoded,
    };
    to_raw_value(&answer).map_err(|_| InvokeError::Panicked)
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).map(|v| String::from_utf8_lossy(v).into_owned()).collect()
}
