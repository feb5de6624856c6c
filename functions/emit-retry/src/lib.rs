//! emit-retry: takes the portal's events and brings them to ops (contract §5). Once it has said 202, the event is
//! durable, and is signed and sent until ops takes it.
//!
//! The way of an event: [`accept`] (reads it, makes it durable, answers) → [`dispatch`] (who takes which message, and when)
//! → `attempt` (one attempt: [`sender`] signs and sends it, [`schedule`] says what comes next; pure) → `store::outbox`
//! (remembers it).
//!
//! [`dispatch`] asks [`window`] (how many at once; pure) and [`gate`] (what all processes know of the endpoint, by the rules of
//! [`endpoint`]; pure). For people: [`activity`] (what they are told), [`replay`] (what they have sent again), [`lists`] (what
//! is there). On Lambda: [`trigger`] (what invokes it beside HTTP), `figures` (what a sweep tells CloudWatch).

pub mod accept;
pub mod activity;
mod attempt;
pub mod config;
pub mod dispatch;
pub mod endpoint;
mod figures;
pub mod gate;
pub mod lists;
pub mod replay;
pub mod schedule;
pub mod sender;
pub mod trigger;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use contract::id::IdSource;
use service::clock::Clock;
use service::host::{Environment, Service, StartError};
use service::http::{self, Access, ReadyCheck};
use service::problem::Problem;
use store::tables::OUTBOX;
use store::{Store, StoreError};

use crate::config::Config;
use crate::dispatch::{Dispatcher, Setup};
use crate::sender::Sender;

/// The function's name.
pub const NAME: &str = "emit-retry";

/// What other processes left is found within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the handlers work with.
#[derive(Debug)]
pub struct App {
    /// Its settings.
    pub config: Config,
    /// The outbox.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Makes message and claim ids.
    pub ids: Arc<IdSource>,
    /// Works on messages in this process. None while sending is disabled, and on Lambda, where nothing runs after the
    /// answer.
    pub dispatcher: Option<Arc<Dispatcher>>,
}

/// The function's routes.
pub fn app(app: impl Into<Arc<App>>) -> Router {
    let app = app.into();
    let access = match &app.config.tokens {
        Some(tokens) => Access::Tokens(tokens.clone()),
        None => Access::Local(app.config.hosts.clone()),
    };
    let state = Arc::clone(&app);
    let ready: ReadyCheck = Arc::new(move || {
        let app = Arc::clone(&state);
        Box::pin(async move { app.store.missing(&OUTBOX).await.into_iter().collect() })
    });
    let routes = Router::new()
        .route("/api/v1/events", post(accept::handle))
        .route("/api/v1/outbox", get(lists::messages))
        .route("/api/v1/outbox/replay", post(replay::many))
        .route("/api/v1/outbox/{webhook_id}", get(lists::message))
        .route("/api/v1/outbox/{webhook_id}/replay", post(replay::one))
        .route("/api/v1/activity", get(lists::activities))
        .with_state(app);
    http::wrap(NAME, routes, access, ready)
}

/// Reads the settings and makes the function ready to be hosted.
///
/// # Errors
/// All settings that are missing or wrong.
pub async fn start(environment: &Environment) -> Result<Service, StartError> {
    let config = Config::read(environment)?;
    let store = Store::connect(&config.store);
    let clock = Clock::system();
    let ids = Arc::new(IdSource::new());
    let dispatcher = match &config.endpoint {
        Some(endpoint) => Some(Arc::new(Dispatcher::new(Setup {
            store: store.clone(),
            sender: Sender::new(endpoint)?,
            delivery: config.delivery.clone(),
            clock: clock.clone(),
            ids: Arc::clone(&ids),
            random: fastrand::Rng::new(),
            longest_pause: LONGEST_PAUSE,
        }))),
        None => None,
    };
    let listen = config.listen;
    let app = |dispatcher| Arc::new(App { config, store, clock, ids, dispatcher });
    if environment.on_lambda {
        // What is accepted waits for the stream and the sweep: a lease would only delay it.
        let app = app(None);
        let function = environment.get("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| NAME.to_owned());
        let invoke = Some(trigger::invoke(Arc::clone(&app), dispatcher, function));
        return Ok(Service { name: NAME, listen, router: self::app(app), background: None, invoke });
    }
    let background = dispatcher.clone().map(Dispatcher::into_background);
    Ok(Service { name: NAME, listen, router: self::app(app(dispatcher)), background, invoke: None })
}

fn storage(error: StoreError) -> Problem {
    Problem::storage(error.is_transient(), error)
}
