//! `POST /api/v1/webhooks/onboard`: reads a delivery, checks it in the contract's order (size, signature, content type,
//! JSON, fields), has it decided, and answers when what it says is durable.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use contract::event::{Event, UnknownFields};
use contract::id::{EventId, WebhookId};
use contract::signature::{ID_HEADER, SIGNATURE_HEADER, SignatureError, SignatureHeaders, TIMESTAMP_HEADER};
use contract::wire::{Outcome, ReceiveAnswer};
use service::body;
use service::problem::{Code, Problem};
use store::Deadline;
use store::events::{Delivery, NewTicket, Recorded};

use crate::App;
use crate::decide::decide;

/// Handles one delivery.
///
/// # Errors
/// 413, 401, 415, 400, 422, in this order; 503 when storage can't be reached.
pub async fn handle(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = body::read(body).await?;
    let webhook_id = verify(&app, &head.headers, &body)?;
    body::require_json(&head.headers)?;
    let event = Event::parse(&body, UnknownFields::Ignore)?;
    let decision = decide(&event, &app.config.ticket_events);

    let event_id = app.ids.event_id(app.clock.now());
    let delivery = Delivery {
        event_id,
        webhook_id: &webhook_id,
        event: &event,
        body: std::str::from_utf8(&body).map_err(|_| Problem::internal())?,
        retention_days: app.config.retention_days,
    };
    let recorded = app.store.record(&delivery, decision.ticket(), Deadline::for_write()).await;
    let recorded = recorded.map_err(|error| Problem::storage(error.is_transient(), error))?;
    Ok(answer(&recorded, event_id, &webhook_id, decision.ticket()))
}

/// Nothing of the body is looked at before this holds.
fn verify(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<WebhookId, Problem> {
    let values = |name| headers.get_all(name).iter().map(axum::http::HeaderValue::as_bytes).collect();
    let headers = SignatureHeaders {
        id: values(ID_HEADER),
        timestamp: values(TIMESTAMP_HEADER),
        signature: values(SIGNATURE_HEADER),
    };
    app.config.secrets.verify(&headers, body, app.clock.now().as_second()).map_err(|error| {
        let code = match error {
            SignatureError::Missing(_) | SignatureError::Malformed(_) => Code::SignatureMissing,
            SignatureError::Mismatch => Code::SignatureMismatch,
            SignatureError::Timestamp { .. } => Code::TimestampOutOfTolerance,
        };
        Problem::new(code, error.to_string())
    })
}

fn answer(recorded: &Recorded, event_id: EventId, webhook_id: &WebhookId, ticket: Option<&NewTicket>) -> Response {
    let (status, outcome, payload_changed) = match *recorded {
        Recorded::TicketCreated => (StatusCode::CREATED, Outcome::TicketCreated, None),
        Recorded::Duplicate { payload_changed } => (StatusCode::OK, Outcome::Duplicate, Some(payload_changed)),
        Recorded::RecordOnly => (StatusCode::OK, Outcome::Recorded, None),
    };
    metrics::counter!("opshook_deliveries_total", "outcome" => outcome.as_str()).increment(1);
    let answer = ReceiveAnswer {
        outcome,
        event_id: event_id.to_string(),
        webhook_id: webhook_id.as_str().to_owned(),
        ticket_id: ticket.map(|ticket| ticket.id.as_str().to_owned()),
        payload_changed,
    };
    (status, Json(answer)).into_response()
}
