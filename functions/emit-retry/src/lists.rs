//! What can be read of the outbox: `GET /api/v1/outbox`, one message of it, and `GET /api/v1/activity`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use contract::event::SessionId;
use contract::id::WebhookId;
use contract::time;
use contract::wire::{Activity, Level, Message, MessageState, MessageSummary, Page};
use service::problem::{Code, Problem};
use service::query::{self, Query};
use store::Deadline;
use store::outbox::{ActivityFilter, MessageFilter};
use store::pages::{PageError, PageRequest};

use crate::{App, storage};

/// A page of messages.
///
/// # Errors
/// 400 for a query parameter, 503 when storage can't be reached.
pub async fn messages(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<MessageSummary>>, Problem> {
    let query = Query::parse(query.as_deref(), &["state", "session_id", "from", "to", "limit", "cursor"])?;
    let state = |text: &str| MessageState::parse(text).ok_or("must be pending, delivered, parked or dead");
    let filter = MessageFilter {
        state: query.parsed("state", state)?,
        session_id: query.parsed("session_id", SessionId::parse)?,
        from: query.time("from")?,
        to: query.time("to")?,
    };
    let page = PageRequest::new(query.limit()?, query.text("cursor"), app.clock.now());
    let mut page = app.store.messages(&filter, page).await.map_err(page_problem)?;
    plan(&app, page.items.iter_mut().map(|message| (message.state, &mut message.next_attempt_at))).await;
    Ok(Json(page))
}

/// One message, with its attempts.
///
/// # Errors
/// 404; 503 when storage can't be reached.
pub async fn message(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
) -> Result<Json<Message>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let none = || Problem::new(Code::NotFound, "there is no message with this id, or it is no longer kept");
    let id = WebhookId::parse(&id).ok_or_else(none)?;
    let message = app.store.message(&id, app.clock.now(), Deadline::for_page()).await.map_err(storage)?;
    let mut message = message.ok_or_else(none)?;
    plan(&app, [(message.state, &mut message.next_attempt_at)].into_iter()).await;
    Ok(Json(message))
}

/// What is due while the endpoint is down goes when it is back, and nobody knows when that is.
async fn plan(app: &App, messages: impl Iterator<Item = (MessageState, &mut Option<String>)>) {
    let now = time::format_ms(app.clock.now());
    let is_due = |at: &Option<String>| at.as_ref().is_some_and(|at| *at <= now);
    let due: Vec<_> = messages.filter(|(state, at)| *state == MessageState::Pending && is_due(at)).collect();
    if due.is_empty() {
        return;
    }
    let endpoint = app.store.endpoint(Deadline::for_write()).await;
    if matches!(endpoint, Ok(Some(endpoint)) if endpoint.is_down) {
        due.into_iter().for_each(|(_, at)| *at = None);
    }
}

/// A page of the activity log.
///
/// # Errors
/// 400 for a query parameter, 503 when storage can't be reached.
pub async fn activities(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<Activity>>, Problem> {
    let query = Query::parse(query.as_deref(), &["level", "session_id", "from", "to", "limit", "cursor"])?;
    let filter = ActivityFilter {
        level: query.parsed("level", |text| Level::parse(text).ok_or("must be info or warn"))?,
        session_id: query.parsed("session_id", SessionId::parse)?,
        from: query.time("from")?,
        to: query.time("to")?,
    };
    let page = PageRequest::new(query.limit()?, query.text("cursor"), app.clock.now());
    app.store.activities(&filter, page).await.map(Json).map_err(page_problem)
}

fn page_problem(error: PageError) -> Problem {
    match error {
        PageError::Cursor => query::invalid("cursor", &error.to_string()),
        PageError::Store(error) => storage(error),
    }
}
