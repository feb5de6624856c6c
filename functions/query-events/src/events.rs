//! Event records: `GET /api/v1/webhooks/events` and one of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use contract::event::{Domain, EventName, SessionId};
use contract::id::EventId;
use contract::wire::{EventRecord, Outcome, Page};
use service::problem::{Code, Problem};
use service::query::Query;
use store::Deadline;
use store::pages::{Order, RecordFilter};

use crate::{App, page_problem, storage};

const PARAMETERS: &[&str] =
    &["session_id", "domain", "event", "outcome", "payload_changed", "from", "to", "order", "limit", "cursor"];

/// A page of event records.
///
/// # Errors
/// 400 for a query parameter, 503 when storage can't be reached.
pub async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<Page<EventRecord>>, Problem> {
    let query = Query::parse(query.as_deref(), PARAMETERS)?;
    let filter = filter(&query)?;
    let page = app.page_request(&query)?;
    app.store.records(&filter, page).await.map(Json).map_err(page_problem)
}

fn filter(query: &Query) -> Result<RecordFilter, Problem> {
    Ok(RecordFilter {
        session_id: query.parsed("session_id", SessionId::parse)?,
        domain: query.parsed("domain", Domain::parse)?,
        event: query.parsed("event", EventName::parse)?,
        outcome: query
            .parsed("outcome", |text| Outcome::parse(text).ok_or("must be ticket_created, duplicate or recorded"))?,
        payload_changed: query
            .parsed("payload_changed", |text| text.parse::<bool>().map_err(|_| "must be true or false"))?,
        from: query.time("from")?,
        to: query.time("to")?,
        order: query.parsed("order", order)?.unwrap_or_default(),
    })
}

fn order(text: &str) -> Result<Order, &'static str> {
    match text {
        "asc" => Ok(Order::Ascending),
        "desc" => Ok(Order::Descending),
        _ => Err("must be asc or desc"),
    }
}

/// One event record, with the body as it was received.
///
/// # Errors
/// 404; 503 when storage can't be reached.
pub async fn one(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
) -> Result<Json<EventRecord>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let none = || Problem::new(Code::NotFound, "there is no event record with this id, or it has expired");
    let id = EventId::parse(&id).ok_or_else(none)?;
    let record = app.store.event(id, app.clock.now(), Deadline::for_page()).await.map_err(storage)?;
    record.map(Json).ok_or_else(none)
}
