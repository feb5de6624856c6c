//! What the HTTP side of every function needs, and nothing that one function alone needs.
//!
//! - [`host`]: what a function hands to its host, and where its settings come from
//! - [`settings`]: reads settings, and reports all that is wrong with them at once (contract §7)
//! - [`problem`]: every answer that is not a success (contract §6, RFC 9457)
//! - [`body`]: reads a request's body within its limits
//! - [`auth`]: bearer tokens; [`hosts`]: who may ask where there is none
//! - [`query`]: query parameters, and a clear 400 for each that is wrong
//! - [`http`]: wraps a function's routes: request ids, log lines, metrics, `/health`, `/ready`, `/metrics`
//! - [`telemetry`]: logs and metrics of the process; `stderr`: nobody waits for whoever reads them
//! - [`clock`]: the time, as a parameter

pub mod auth;
pub mod body;
pub mod clock;
pub mod host;
pub mod hosts;
pub mod http;
pub mod problem;
pub mod query;
pub mod settings;
mod stderr;
pub mod telemetry;
