//! receive: takes signed webhooks on the ops side (contract §3). Each verified and valid delivery becomes an event
//! record, and each onboarding event that asks for one becomes exactly one ticket.
//!
//! The way of a delivery: [`onboard`] (reads and checks it) → [`decide`] (what to do) → `store::events` (does it).

pub mod config;
pub mod decide;
pub mod onboard;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use contract::id::IdSource;
use service::clock::Clock;
use service::host::{Environment, Service, StartError};
use service::http::{self, Access, ReadyCheck};
use store::Store;
use store::tables::WEBHOOK_EVENTS;

use crate::config::Config;

/// The function's name.
pub const NAME: &str = "receive";

/// What the handler works with.
#[derive(Debug)]
pub struct App {
    /// Its settings.
    pub config: Config,
    /// Where deliveries are recorded.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Makes event ids.
    pub ids: IdSource,
}

/// The function's routes.
pub fn app(app: App) -> Router {
    let app = Arc::new(app);
    let store = app.store.clone();
    let ready: ReadyCheck = Arc::new(move || {
        let store = store.clone();
        Box::pin(async move { store.missing(&WEBHOOK_EVENTS).await.into_iter().collect() })
    });
    let routes = Router::new().route("/api/v1/webhooks/onboard", post(onboard::handle)).with_state(app);
    http::wrap(NAME, routes, Access::Open, ready)
}

/// Reads the settings and makes the function ready to be hosted.
///
/// # Errors
/// All settings that are missing or wrong.
pub async fn start(environment: &Environment) -> Result<Service, StartError> {
    let config = Config::read(environment)?;
    let listen = config.listen;
    let store = Store::connect(&config.store);
    let router = app(App { config, store, clock: Clock::system(), ids: IdSource::new() });
    Ok(Service { name: NAME, listen, router, background: None, invoke: None })
}
