//! `POST /api/v1/outbox/{webhook_id}/replay` and `POST /api/v1/outbox/replay`: what rests is sent again (contract §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::HttpBody;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use contract::event::FieldError;
use contract::id::WebhookId;
use contract::json::Members;
use contract::time;
use contract::wire::{Message, MessageState, Replayed};
use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use service::body;
use service::problem::{Code, Problem};
use service::query::Query;
use store::outbox::{MessageRef, Replay};
use store::{Deadline, StoreError};
use tokio::time::Instant;

use crate::{App, storage};

/// One call replays at most so many (contract §5).
const MOST: usize = 1_000;
/// So many at a time.
const AT_ONCE: usize = 16;
/// A call begins no replay after this; the next one goes on where it ended.
const TIME_LIMIT: Duration = Duration::from_secs(8);
const FIELDS: [&str; 4] = ["state", "from", "to", "dry_run"];

/// Has one message sent again.
///
/// # Errors
/// 404; 409 while it is pending, or when its row is damaged so far that nothing is left to send; 503 when storage can't be
/// reached.
pub async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<Message>), Problem> {
    Query::parse(request.uri().query(), &[])?;
    if !request.body().is_end_stream() {
        body::require_json(request.headers())?;
    }
    let absent = || Problem::new(Code::NotFound, "there is no message with this id, or it is no longer kept");
    let id = WebhookId::parse(&id).ok_or_else(absent)?;
    match replay(&app, &id).await? {
        Replay::Done(message) => {
            wake(&app);
            Ok((StatusCode::ACCEPTED, Json(*message)))
        }
        Replay::Pending => Err(Problem::new(Code::Conflict, "the message is pending: it is on its way already")),
        Replay::Unreadable => Err(Problem::new(
            Code::Conflict,
            "the message's row is damaged and its body can't be read: mend the row, then replay it",
        )),
        Replay::Absent => Err(absent()),
    }
}

/// Has many messages sent again, oldest first, or says how many that would be.
///
/// # Errors
/// 413, 415, 400, 422 for the body; 503 when storage can't be reached and nothing was done.
pub async fn many(State(app): State<Arc<App>>, request: Request) -> Result<(StatusCode, Json<Replayed>), Problem> {
    let (head, body) = request.into_parts();
    Query::parse(head.uri.query(), &[])?;
    let body = body::read(body).await?;
    body::require_json(&head.headers)?;
    let wanted = Wanted::parse(&body)?;
    let end = Instant::now() + TIME_LIMIT;
    let (messages, mut rest_from) = wanted.find(&app).await.map_err(storage)?;
    let mut count = messages.len();
    if !wanted.dry_run {
        let stopped = AtomicBool::new(false);
        let each = |message| replay_before(end, &stopped, &app, message);
        let mut done = stream::iter(messages).map(each).buffered(AT_ONCE);
        let (mut left, mut fault) = (None, None);
        count = 0;
        // What is under way when the time is over is waited for: it may happen, and then it counts.
        while let Some((at, outcome)) = done.next().await {
            match outcome {
                Ok(Outcome::Replayed) => count += 1,
                Ok(Outcome::Overtaken) => {}
                Ok(Outcome::NotBegun) => left = left.or(Some(at)),
                Err(problem) => (left, fault) = (left.or(Some(at)), fault.or(Some(problem))),
            }
        }
        drop(done);
        wake(&app);
        if let Some(problem) = fault.filter(|_| count == 0) {
            return Err(problem);
        }
        rest_from = left.or(rest_from);
    }
    let more = rest_from.is_some();
    // What is delivered again is found again, so the caller has to say where to go on; the others are no longer found.
    let next_from = rest_from.filter(|_| wanted.state == MessageState::Delivered);
    let status = if wanted.dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(Replayed { count, more, next_from })))
}

/// A message that may be replayed, and its time in the order in which they are.
type Resting = (String, String);

/// What became of one of many.
enum Outcome {
    Replayed,
    /// Someone else replayed it, or it is no longer kept.
    Overtaken,
    /// The time was over, or storage failed at one before it.
    NotBegun,
}

/// What became of it, and its time.
async fn replay_before(
    end: Instant,
    stopped: &AtomicBool,
    app: &App,
    (id, at): Resting,
) -> (String, Result<Outcome, Problem>) {
    if Instant::now() >= end || stopped.load(Ordering::Relaxed) {
        return (at, Ok(Outcome::NotBegun));
    }
    let Some(id) = WebhookId::parse(&id) else { return (at, Ok(Outcome::Overtaken)) };
    let outcome = replay(app, &id).await.map(|done| match done {
        Replay::Done(_) => Outcome::Replayed,
        _ => Outcome::Overtaken,
    });
    stopped.fetch_or(outcome.is_err(), Ordering::Relaxed);
    (at, outcome)
}

async fn replay(app: &App, id: &WebhookId) -> Result<Replay, Problem> {
    let now = app.clock.now();
    let replay_id = app.ids.claim_id(now);
    app.store.replay(id, &replay_id, now, Deadline::for_write()).await.map_err(storage)
}

fn wake(app: &App) {
    app.dispatcher.iter().for_each(|dispatcher| dispatcher.wake());
}

/// What a bulk replay is about: dead and parked messages by when they were accepted, delivered ones by when they were
/// delivered.
#[derive(Debug)]
struct Wanted {
    state: MessageState,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    dry_run: bool,
}

impl Wanted {
    /// The oldest that it is about, at most as many as a call replays; and the time of the next one, where there are more.
    async fn find(&self, app: &App) -> Result<(Vec<Resting>, Option<String>), StoreError> {
        let (now, deadline) = (app.clock.now(), Deadline::for_page());
        if let (MessageState::Delivered, Some(from), Some(to)) = (self.state, self.from, self.to) {
            let (found, next) = app.store.delivered(from, to, MOST, now, deadline).await?;
            let found = found.into_iter().map(|message| (message.webhook_id, time::format_ms(message.at)));
            return Ok((found.collect(), next.map(time::format_ms)));
        }
        let (found, next) = app.store.in_state(self.state, self.from, self.to, MOST, now, deadline).await?;
        let at = |message: &MessageRef| message.accepted_at().to_owned();
        Ok((found.into_iter().map(|message| (message.webhook_id.clone(), at(&message))).collect(), next))
    }

    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let fields = body::fields(body)?;
        let mut faults = Vec::new();
        if fields.keys().any(|name| !FIELDS.contains(&name.as_str())) {
            faults.push(FieldError::new("", "may have the fields state, from, to and dry_run alone"));
        }
        let state = value::<String>(&fields, "state", "must be dead, parked or delivered", &mut faults);
        let state = state.as_deref().and_then(MessageState::parse).filter(|state| *state != MessageState::Pending);
        if state.is_none() && faults.iter().all(|fault| fault.pointer != "/state") {
            faults.push(FieldError::new("/state", "must be dead, parked or delivered"));
        }
        let mut time = |name: &str| {
            const RULE: &str = "must be RFC 3339 with an offset, such as 2026-11-24T10:15:30Z";
            let text = value::<String>(&fields, name, RULE, &mut faults)?;
            let time = time::parse_rfc3339(&text);
            if time.is_none() {
                faults.push(FieldError::new(format!("/{name}"), RULE));
            }
            time
        };
        let (from, to) = (time("from"), time("to"));
        let dry_run = value::<bool>(&fields, "dry_run", "must be true or false", &mut faults).unwrap_or(false);
        if state == Some(MessageState::Delivered) {
            for (name, value) in [("from", from), ("to", to)] {
                if value.is_none() && faults.iter().all(|fault| fault.pointer != format!("/{name}")) {
                    faults.push(FieldError::new(
                        format!("/{name}"),
                        "is required for delivered messages: say which ones ops lost",
                    ));
                }
            }
        }
        match state {
            Some(state) if faults.is_empty() => Ok(Self { state, from, to, dry_run }),
            _ => Err(Problem::fields(faults)),
        }
    }
}

/// A field's value; absent and null are none, and another type is a fault.
fn value<T: DeserializeOwned>(fields: &Members<'_>, name: &str, rule: &str, faults: &mut Vec<FieldError>) -> Option<T> {
    let json = fields.get(name).map(|value| value.get()).filter(|json| *json != "null")?;
    let value = serde_json::from_str(json).ok();
    if value.is_none() {
        faults.push(FieldError::new(format!("/{name}"), rule));
    }
    value
}
