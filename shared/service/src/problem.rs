//! Every answer that is not a success: `application/problem+json` (contract §6, RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contract::event::{EventError, FieldError};
use serde::Serialize;

/// The contract's codes. Each has one status and one title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // a code says all there is to say
pub enum Code {
    SignatureMissing,
    SignatureMismatch,
    TimestampOutOfTolerance,
    TokenMissing,
    TokenMismatch,
    HostNotAllowed,
    OriginNotAllowed,
    NotFound,
    MethodNotAllowed,
    Conflict,
    PayloadTooLarge,
    UnsupportedMediaType,
    MalformedRequest,
    MalformedJson,
    InvalidEvent,
    InvalidQuery,
    InvalidHeader,
    IdempotencyMismatch,
    RequestTimeout,
    Overloaded,
    StorageUnavailable,
    Internal,
}

impl Code {
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::SignatureMissing => ("signature_missing", S::UNAUTHORIZED, "The signature is missing"),
            Self::SignatureMismatch => ("signature_mismatch", S::UNAUTHORIZED, "The signature does not match"),
            Self::TimestampOutOfTolerance => {
                ("timestamp_out_of_tolerance", S::UNAUTHORIZED, "The timestamp is out of tolerance")
            }
            Self::TokenMissing => ("token_missing", S::UNAUTHORIZED, "A bearer token is needed"),
            Self::TokenMismatch => ("token_mismatch", S::UNAUTHORIZED, "The bearer token is not accepted"),
            Self::HostNotAllowed => ("host_not_allowed", S::FORBIDDEN, "This host may not be asked for"),
            Self::OriginNotAllowed => ("origin_not_allowed", S::FORBIDDEN, "A page of another origin may not ask"),
            Self::NotFound => ("not_found", S::NOT_FOUND, "There is nothing here"),
            Self::MethodNotAllowed => ("method_not_allowed", S::METHOD_NOT_ALLOWED, "The method is not allowed here"),
            Self::Conflict => ("conflict", S::CONFLICT, "The state does not allow it"),
            Self::PayloadTooLarge => ("payload_too_large", S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", S::UNSUPPORTED_MEDIA_TYPE, "The content type is not JSON")
            }
            Self::MalformedRequest => ("malformed_request", S::BAD_REQUEST, "The request is malformed"),
            Self::MalformedJson => ("malformed_json", S::BAD_REQUEST, "The body is not well-formed JSON"),
            Self::InvalidEvent => ("invalid_event", S::UNPROCESSABLE_ENTITY, "The body's fields are not valid"),
            Self::InvalidQuery => ("invalid_query", S::BAD_REQUEST, "A query parameter is not valid"),
            Self::InvalidHeader => ("invalid_header", S::BAD_REQUEST, "A header is not valid"),
            Self::IdempotencyMismatch => {
                ("idempotency_mismatch", S::UNPROCESSABLE_ENTITY, "The key was used with another body")
            }
            Self::RequestTimeout => ("request_timeout", S::REQUEST_TIMEOUT, "The request did not arrive in time"),
            Self::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "The server is overloaded"),
            Self::StorageUnavailable => ("storage_unavailable", S::SERVICE_UNAVAILABLE, "Storage can't be reached"),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Something went wrong here"),
        }
    }

    /// Such as `signature_missing`.
    pub const fn as_str(self) -> &'static str {
        self.parts().0
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> StatusCode {
        self.parts().1
    }
}

/// A problem to answer with. Its text reaches the caller, so it holds no content of `data` and no error text of ours.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_seconds: Option<u32>,
    cause: Option<String>,
}

impl Problem {
    /// A problem; `detail` says what was wrong and what would be right.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_seconds = matches!(code, Code::Overloaded | Code::StorageUnavailable).then_some(1);
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after_seconds, cause: None }
    }

    /// A 422 that points at the fields.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Code::InvalidEvent, "see `errors` for each field and what would be right") }
    }

    /// The 422 to an `Idempotency-Key` that was used with another body.
    pub fn idempotency_mismatch() -> Self {
        let detail = "this Idempotency-Key was used with another body; take a new key for each event";
        let errors = vec![FieldError::new("", "is not the body that the key stands for")];
        Self { errors, ..Self::new(Code::IdempotencyMismatch, detail) }
    }

    /// The answer when storage failed: 503 with `Retry-After` where trying again may help, else 500. `cause` goes to the
    /// log, with the request's id, and to nobody else.
    pub fn storage(transient: bool, cause: impl std::fmt::Display) -> Self {
        let problem = if transient {
            Self::new(Code::StorageUnavailable, "storage can't be reached at the moment; try again, it is safe")
        } else {
            Self::internal()
        };
        Self { cause: Some(cause.to_string()), ..problem }
    }

    /// The answer to a fault of ours. What went wrong is in the log, under the request's id.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "the fault is ours and is in the log under this request_id")
    }

    /// What is behind it, for the log.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// All that it tells its caller, in one line.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}: {}", self.code.as_str(), self.detail);
        for FieldError { pointer, detail } in &self.errors {
            text.push_str("; ");
            text.extend((!pointer.is_empty()).then(|| format!("{pointer} ")));
            text.push_str(detail);
        }
        text
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The answer, with the id of the request it belongs to.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let (code, status, title) = self.code.parts();
        let body = Body {
            r#type: format!("urn:opshook:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            code,
            request_id,
            errors: &self.errors,
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, json).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self.code, Code::TokenMissing | Code::TokenMismatch) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"opshook\""));
        }
        response
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// The problem travels in the response's extensions to [`crate::http`], which knows the request's id and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        match error {
            EventError::Malformed(fault) => Self::new(Code::MalformedJson, fault.to_string()),
            EventError::Invalid(errors) => Self::fields(errors),
        }
    }
}
