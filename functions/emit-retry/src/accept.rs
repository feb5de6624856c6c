//! `POST /api/v1/events`: an event comes in, is durable, and is answered.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use contract::event::{Event, UnknownFields};
use contract::id::WebhookId;
use contract::json::MAX_BODY_BYTES;
use contract::wire::{Accepted, MessageState};
use service::body;
use service::problem::{Code, Problem};
use store::Deadline;
use store::outbox::{Acceptance, NewMessage};

use crate::dispatch::Place;
use crate::{App, storage};

const KEY_HEADER: &str = "idempotency-key";

/// Takes an event in. When this answers 202, it is in the outbox; delivery goes on after the answer.
///
/// # Errors
/// 413, 415, 400, 422; 503 when storage can't be reached.
pub async fn handle(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    body::require_json(&head.headers)?;
    let accepted = take(&app, &body, idempotency_key(&head.headers)?).await?;
    let status = if accepted.webhook_id.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(accepted)).into_response())
}

/// Takes an event in, however it came. Its message is durable when this answers; while sending is disabled there is none.
///
/// # Errors
/// 413, 400, 422; 503 when storage can't be reached.
pub async fn take(app: &App, body: &[u8], key: Option<&str>) -> Result<Accepted, Problem> {
    body::require_fits(body.len())?;
    let event = Event::parse(body, UnknownFields::Refuse)?;
    let now = app.clock.now();
    let sent = event.to_body(now);
    if sent.len() > MAX_BODY_BYTES {
        let detail = format!(
            "with its domain and timestamp the event has more than the {MAX_BODY_BYTES} bytes that can be sent"
        );
        return Err(Problem::new(Code::PayloadTooLarge, detail));
    }
    if app.config.endpoint.is_none() {
        return Ok(Accepted { webhook_id: None, state: "disabled".to_owned() });
    }
    let webhook_id = match key {
        Some(key) => WebhookId::from_idempotency_key(key),
        None => WebhookId::new(now, &app.ids),
    };
    let message = NewMessage { webhook_id: &webhook_id, event: &event, body: &sent, request: body, accepted_at: now };
    // A new id that is known already is our own write, whose answer was lost.
    let state = match keep(app, &message).await? {
        MessageState::Delivered if key.is_none() => MessageState::Pending,
        state => state,
    };
    Ok(Accepted { webhook_id: Some(webhook_id.to_string()), state: state.as_str().to_owned() })
}

/// Makes the message durable. Where the dispatcher has a free place the message is leased to it from the start, and it
/// starts at once; otherwise it is due at once for whoever is free first.
async fn keep(app: &App, message: &NewMessage<'_>) -> Result<MessageState, Problem> {
    let place = app.dispatcher.as_ref().and_then(|dispatcher| dispatcher.free_place());
    let claim = place.as_ref().map(Place::claim);
    let acceptance = app.store.accept(message, claim, Deadline::for_write()).await.map_err(storage)?;
    match acceptance {
        Acceptance::Accepted(leased) => {
            metrics::counter!("opshook_accepted_total").increment(1);
            match (leased, place) {
                (Some(leased), Some(place)) => place.deliver(*leased),
                _ => app.dispatcher.iter().for_each(|dispatcher| dispatcher.wake()),
            }
            Ok(MessageState::Pending)
        }
        Acceptance::Known(state) => Ok(state),
        Acceptance::Another => Err(Problem::idempotency_mismatch()),
    }
}

/// The key, where there is one: 1–255 visible ASCII characters without a comma, in a header that stands once.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let key = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let fits = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    key.filter(fits).map(Some).ok_or_else(|| {
        let detail =
            "the header Idempotency-Key must be 1 to 255 visible ASCII characters without a comma, and stand once";
        Problem::new(Code::InvalidHeader, detail)
    })
}
