//! API Gateway's events (HTTP API with payload 2.0, function URLs) as the requests that a plain server would see.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};
use tower::{Service, ServiceExt};

/// `router` as a service of `lambda_http`'s requests. The path is the one that the caller sent, without the stage; the
/// query and the body are as they came.
pub(super) fn lambda_service(
    router: Router,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static {
    tower::service_fn(move |request: Request| {
        let router = router.clone();
        async move {
            let mut response = router.oneshot(plain(request)).await?;
            join_repeated(response.headers_mut());
            Ok(response)
        }
    })
}

/// The request as a plain server would have read it.
fn plain(request: Request) -> axum::extract::Request {
    // Where the path carries no stage, lambda_http puts it in; where API Gateway put it in, it stays. Ours has none.
    let path = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => without_stage(request.raw_http_path(), context.stage.as_deref()),
        _ => request.raw_http_path(),
    };
    let mut target = encoded(path);
    if let Some(query) = request.uri().query() {
        target.push('?');
        target.push_str(query);
    }
    let uri = PathAndQuery::try_from(target).map(Uri::from);
    let (mut parts, body) = request.into_parts();
    if let Ok(uri) = uri {
        parts.uri = uri;
    }
    let body = match body {
        lambda_http::Body::Text(text) => Body::from(text),
        lambda_http::Body::Binary(bytes) => Body::from(bytes),
        _ => Body::empty(),
    };
    axum::extract::Request::from_parts(parts, body)
}

/// Drops a leading `/{stage}` where it is a segment of its own.
fn without_stage<'a>(path: &'a str, stage: Option<&str>) -> &'a str {
    let rest = match stage {
        Some(stage) if stage != "$default" => path.strip_prefix('/').and_then(|path| path.strip_prefix(stage)),
        _ => None,
    };
    match rest {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// A path fit for a URI: an HTTP API hands it over decoded. What is encoded still, as from a function URL, stays so.
fn encoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut encoded = String::with_capacity(path.len());
    for (index, &byte) in bytes.iter().enumerate() {
        let escape = byte == b'%'
            && bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if escape || byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    if encoded.is_empty() { "/".to_owned() } else { encoded }
}

/// One value a header: payload 2.0 has room for one, and `lambda_http` would drop the rest. Cookies go another way.
fn join_repeated(headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().filter(|name| *name != header::SET_COOKIE).cloned().collect();
    for name in names {
        let values: Vec<_> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        if values.len() > 1
            && let Ok(joined) = HeaderValue::from_bytes(&values.join(&b", "[..]))
        {
            headers.insert(name, joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{encoded, without_stage};

    #[test]
    fn only_a_whole_leading_segment_is_the_stage() {
        for (path, stage, plain) in [
            ("/prod/health", Some("prod"), "/health"),
            ("/prod", Some("prod"), "/"),
            ("/prod/", Some("prod"), "/"),
            ("/production/health", Some("prod"), "/production/health"),
            ("/health", Some("prod"), "/health"),
            ("/prod/prod/x", Some("prod"), "/prod/x"),
            ("/$default/x", Some("$default"), "/$default/x"),
            ("/prod/x", None, "/prod/x"),
        ] {
            assert_eq!(without_stage(path, stage), plain, "{path} {stage:?}");
        }
    }

    #[test]
    fn a_path_is_encoded_once() {
        assert_eq!(encoded("/api/v1/a b?c#d"), "/api/v1/a%20b%3Fc%23d");
        assert_eq!(encoded("/%2Fx/100%/ü"), "/%2Fx/100%25/%C3%BC");
        assert_eq!(encoded(""), "/");
    }
}
