//! Reads a request's body within its limits (contract §1, §3).

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use contract::event::FieldError;
use contract::json::{self, Members, TopLevel};
use http_body_util::BodyExt;

use crate::problem::{Code, Problem};

/// The most bytes of a body (contract §1).
pub const MAX_BYTES: usize = contract::json::MAX_BODY_BYTES;
/// A body must have arrived whole within this time.
pub const TIME_LIMIT: Duration = Duration::from_secs(8);
/// What is read past the limit and thrown away, so that a sender who is a little over gets to read the answer.
const DISCARD_BYTES: usize = 4 * MAX_BYTES;

/// Reads the whole body.
///
/// # Errors
/// 413 past [`MAX_BYTES`], whether or not the length was announced; 408 when it does not arrive within [`TIME_LIMIT`];
/// 400 when the connection breaks off in its middle.
pub async fn read(body: Body) -> Result<Bytes, Problem> {
    match tokio::time::timeout(TIME_LIMIT, collect(body)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::new(
            Code::RequestTimeout,
            format!("the body must arrive within {} seconds", TIME_LIMIT.as_secs()),
        )),
    }
}

async fn collect(mut body: Body) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::new(Code::MalformedJson, "the body broke off before its end; send it again"))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= MAX_BYTES {
            bytes.extend_from_slice(&data);
        } else if length > DISCARD_BYTES {
            break;
        }
    }
    require_fits(length)?;
    Ok(bytes.into())
}

/// Checks a body's length in bytes.
///
/// # Errors
/// 413 past [`MAX_BYTES`].
pub fn require_fits(length: usize) -> Result<(), Problem> {
    if length > MAX_BYTES {
        return Err(Problem::new(Code::PayloadTooLarge, format!("the body may have at most {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// The top-level fields of a body that has to be a JSON object.
///
/// # Errors
/// 400 for what is not JSON, 422 for JSON that is not an object.
pub fn fields(body: &[u8]) -> Result<Members<'_>, Problem> {
    match json::top_level(body) {
        Ok(TopLevel::Object(fields)) => Ok(fields),
        Ok(TopLevel::Other) => Err(Problem::fields(vec![FieldError::new("", "must be a JSON object")])),
        Err(malformed) => Err(Problem::new(Code::MalformedJson, malformed.to_string())),
    }
}

/// Checks that the body is said to be JSON: `application/json`, in UTF-8 where a charset is named, and not encoded.
///
/// # Errors
/// 415, which names the encoding.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(encoding) = encoding(headers) {
        let detail = format!("the body is encoded as {encoding}; send it as it is, without Content-Encoding");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let json = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().is_ok_and(is_json),
        _ => false,
    };
    if json {
        Ok(())
    } else {
        Err(Problem::new(Code::UnsupportedMediaType, "send one header `Content-Type: application/json`, in UTF-8"))
    }
}

/// The first encoding that is named and is one (RFC 9110 8.4): its name, or something in its place where that is no name.
fn encoding(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("no text"));
    let named = values.flat_map(|value| value.split(',')).map(str::trim);
    let encoding = named.into_iter().find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))?;
    let is_name = encoding.len() <= 40 && encoding.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    Some(if is_name { encoding } else { "something unknown" })
}

fn is_json(value: &str) -> bool {
    // A header that stands twice comes joined by a comma from API Gateway.
    if value.contains(',') {
        return false;
    }
    let mut parts = value.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    media_type.eq_ignore_ascii_case("application/json") && utf8
}
