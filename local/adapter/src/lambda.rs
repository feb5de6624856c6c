//! Hosts a function as a Lambda. What comes by HTTP goes to its router, all else that invokes it to the function itself:
//! each is known by its own shape.

mod answer;
mod event;

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent};
use serde_json::value::{RawValue, to_raw_value};
use service::host::{Invocation, Invoke, InvokeError, Service};
use tower::ServiceExt;

use self::event::Event;

/// What the Lambda runtime needs of its environment, and panics without.
const NEEDED: [&str; 3] =
    ["AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"];

/// Answers invocations until Lambda ends the process.
///
/// # Errors
///
/// The runtime's API can't be reached, or is not whole.
pub async fn run(service: Service) -> Result<(), Error> {
    for name in NEEDED {
        if std::env::var_os(name).is_none() {
            return Err(format!("{name} is not set, though AWS_LAMBDA_RUNTIME_API is").into());
        }
    }
    let Service { name, router, invoke, .. } = service;
    let answer = move |LambdaEvent { payload, context }: LambdaEvent<Box<RawValue>>| {
        let (router, invoke) = (router.clone(), invoke.clone());
        async move {
            let request_id = context.request_id.clone();
            let answer = match Event::of(&payload) {
                Some(event) => respond(router, event).await,
                None => hand_over(name, invoke, payload, &context).await,
            };
            answer.map_err(|error| Failed { request_id, error })
        }
    };
    lambda_runtime::run(tower::service_fn(answer)).await
}

/// Answers one event of API Gateway's, JSON in and JSON out, as it would be on Lambda but with no runtime: for tests of
/// parity.
///
/// # Errors
///
/// The event is no request.
pub async fn invoke(router: Router, event: serde_json::Value) -> Result<serde_json::Value, Error> {
    invoke_text(router, &event.to_string()).await
}

/// [`invoke`] with the event's own text, which may hold what no JSON value can.
///
/// # Errors
///
/// As [`invoke`].
pub async fn invoke_text(router: Router, event: &str) -> Result<serde_json::Value, Error> {
    let event: &RawValue = serde_json::from_str(event)?;
    let answer = respond(router, Event::of(event).ok_or("this is no event of an HTTP API with payload 2.0")?).await?;
    Ok(serde_json::from_str(answer.get())?)
}

async fn respond(router: Router, event: Event<'_>) -> Result<Box<RawValue>, InvokeError> {
    match router.oneshot(event.into_request()).await {
        Ok(response) => answer::written(response).await,
        Err(never) => match never {},
    }
}

/// Has the function answer what is no HTTP, if it can.
async fn hand_over(
    name: &'static str,
    invoke: Option<Invoke>,
    payload: Box<RawValue>,
    context: &Context,
) -> Result<Box<RawValue>, InvokeError> {
    let Some(invoke) = invoke else {
        let takes = "is invoked by an HTTP API with payload 2.0 or a function URL, and by nothing else";
        return Err(InvokeError::Trigger(format!("{name} {takes}")));
    };
    let began = Instant::now();
    let request_id = context.request_id.clone();
    let payload = Box::<str>::from(payload).into_string();
    let time = time_left(context.deadline(), SystemTime::now());
    let invocation = Invocation { payload, request_id: request_id.clone(), time };
    // In a task of its own, so that a panic's text ends here.
    let answer = tokio::spawn(invoke(invocation)).await.unwrap_or(Err(InvokeError::Panicked))?;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(function = name, request_id, ms, "invoked");
    to_raw_value(&answer).map_err(|_| InvokeError::Panicked)
}

/// How long an invocation has until its deadline.
fn time_left(deadline: SystemTime, now: SystemTime) -> Duration {
    // `cargo lambda watch` tells each invocation the same deadline, ten minutes after 1970, and waits for longer than this.
    if deadline == SystemTime::UNIX_EPOCH + Duration::from_secs(600) {
        return Duration::from_secs(60);
    }
    deadline.duration_since(now).unwrap_or(Duration::ZERO)
}

/// An invocation that failed. The runtime logs its `Debug`, and sends its caller the [`Diagnostic`].
struct Failed {
    request_id: String,
    error: InvokeError,
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request_id, error } = self;
        write!(f, "the invocation {request_id} failed: {}", error.code())?;
        error.cause().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl From<Failed> for Diagnostic {
    fn from(Failed { error, .. }: Failed) -> Self {
        Self { error_type: error.code().to_owned(), error_message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_past_has_no_time_but_for_what_cargo_lambda_says() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let now = at(1_795_515_330_000);
        assert_eq!(time_left(at(1_795_515_333_500), now), Duration::from_millis(3_500));
        for past in [0, 599_999, 600_001, 1_795_515_329_999, 1_795_515_330_000] {
            assert_eq!(time_left(at(past), now), Duration::ZERO, "{past}");
        }
        assert_eq!(time_left(at(600_000), now), Duration::from_secs(60));
    }
}
