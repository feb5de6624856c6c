//! query-events: what ops reads (contract §4). Events, sessions and tickets, by queries whose cost is bounded.
//!
//! [`events`] and [`tickets`] read the query, ask `store::pages` or `store::tickets`, and answer.

pub mod config;
pub mod events;
pub mod tickets;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use service::clock::Clock;
use service::host::{Environment, Service, StartError};
use service::http::{self, Access, ReadyCheck};
use service::problem::Problem;
use store::pages::{PageError, PageRequest};
use store::tables::WEBHOOK_EVENTS;
use store::{Store, StoreError};

use crate::config::Config;

/// The function's name.
pub const NAME: &str = "query-events";

/// What the handlers work with.
#[derive(Debug)]
pub struct App {
    /// Its settings.
    pub config: Config,
    /// Where events and tickets are.
    pub store: Store,
    /// The time.
    pub clock: Clock,
}

impl App {
    /// How a page is asked for, from the parameters that every list has.
    fn page_request<'a>(&self, query: &'a service::query::Query) -> Result<PageRequest<'a>, Problem> {
        Ok(PageRequest::new(query.limit()?, query.text("cursor"), self.clock.now()))
    }
}

/// The function's routes.
pub fn app(app: App) -> Router {
    let tokens = app.config.tokens.clone();
    let app = Arc::new(app);
    let store = app.store.clone();
    let ready: ReadyCheck = Arc::new(move || {
        let store = store.clone();
        Box::pin(async move { store.missing(&WEBHOOK_EVENTS).await.into_iter().collect() })
    });
    let routes = Router::new()
        .route("/api/v1/webhooks/events", get(events::list))
        .route("/api/v1/webhooks/events/{event_id}", get(events::one))
        .route("/api/v1/desk/tickets", get(tickets::list))
        .route("/api/v1/desk/tickets/{ticket_id}", get(tickets::one).patch(tickets::change))
        .with_state(app);
    http::wrap(NAME, routes, Access::Tokens(tokens), ready)
}

/// Reads the settings and makes the function ready to be hosted.
///
/// # Errors
/// All settings that are missing or wrong.
pub async fn start(environment: &Environment) -> Result<Service, StartError> {
    let config = Config::read(environment)?;
    let listen = config.listen;
    let store = Store::connect(&config.store);
    let router = app(App { config, store, clock: Clock::system() });
    Ok(Service { name: NAME, listen, router, background: None, invoke: None })
}

fn storage(error: StoreError) -> Problem {
    Problem::storage(error.is_transient(), error)
}

fn page_problem(error: PageError) -> Problem {
    match error {
        PageError::Cursor => service::query::invalid("cursor", &error.to_string()),
        PageError::Store(error) => storage(error),
    }
}
