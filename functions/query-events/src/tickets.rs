//! Tickets: `GET /api/v1/desk/tickets`, one of them, and opening or closing it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, Request, State};
use contract::event::{Domain, FieldError};
use contract::ticket::TicketId;
use contract::wire::{Page, Ticket, TicketStatus};
use service::body;
use service::problem::{Code, Problem};
use service::query::Query;
use store::Deadline;
use store::pages::TicketFilter;

use crate::{App, page_problem, storage};

const PARAMETERS: &[&str] = &["status", "domain", "from", "to", "limit", "cursor"];
const STATUS_RULE: &str = "must be open or closed";

/// A page of tickets.
///
/// # Errors
/// 400 for a query parameter, 503 when storage can't be reached.
pub async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<Page<Ticket>>, Problem> {
    let query = Query::parse(query.as_deref(), PARAMETERS)?;
    let filter = TicketFilter {
        status: query.parsed("status", |text| TicketStatus::parse(text).ok_or(STATUS_RULE))?,
        domain: query.parsed("domain", Domain::parse)?,
        from: query.time("from")?,
        to: query.time("to")?,
    };
    let page = app.page_request(&query)?;
    app.store.tickets(&filter, page).await.map(Json).map_err(page_problem)
}

/// One ticket.
///
/// # Errors
/// 404; 503 when storage can't be reached.
pub async fn one(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
) -> Result<Json<Ticket>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let id = TicketId::parse(&id).ok_or_else(none)?;
    app.store.ticket(&id, Deadline::for_page()).await.map_err(storage)?.map(Json).ok_or_else(none)
}

/// Opens or closes a ticket: `{"status":"closed"}` or `{"status":"open"}`.
///
/// # Errors
/// 413, 415, 400, 422 for the body; 404; 503 when storage can't be reached.
pub async fn change(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Ticket>, Problem> {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let body = body::read(body).await?;
    body::require_json(&head.headers)?;
    let status = wanted_status(&body)?;
    let id = TicketId::parse(&id).ok_or_else(none)?;
    let ticket = app.store.set_ticket_status(&id, status, app.clock.now(), Deadline::for_write()).await;
    ticket.map_err(storage)?.map(Json).ok_or_else(none)
}

fn wanted_status(body: &[u8]) -> Result<TicketStatus, Problem> {
    let fields = body::fields(body)?;
    if fields.keys().any(|name| name != "status") {
        return Err(Problem::fields(vec![FieldError::new("", "may have the field status alone")]));
    }
    let text = fields.get("status").and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    let status = text.as_deref().and_then(TicketStatus::parse);
    status.ok_or_else(|| Problem::fields(vec![FieldError::new("/status", STATUS_RULE)]))
}

fn none() -> Problem {
    Problem::new(Code::NotFound, "there is no ticket with this id")
}
