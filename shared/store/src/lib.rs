//! DynamoDB, and the one place that knows it: two tables, and what may happen to their rows.
//!
//! - [`Store`], [`StoreConfig`], [`Deadline`]: the connection, and how long it may try again
//! - [`tables`]: what the tables are; made by the command, checked by `/ready`
//! - [`events`]: a delivery becomes an event record, and at most one ticket
//! - [`pages`]: lists, by queries whose cost is bounded
//! - [`tickets`]: what the desk reads and changes
//! - [`outbox`]: messages on their way to ops
//!
//! Each promise rests on a condition that the base table checks: an index is a hint, for on AWS it lags. A write whose
//! answer was lost may have happened, so every conditional write carries an id that its caller made, and when the
//! condition fails, the old item says whether it is already ours.

mod client;
mod connector;
mod cursor;
mod error;
pub mod events;
mod item;
pub mod outbox;
pub mod pages;
mod rows;
pub mod tables;
pub mod tickets;
mod view;
mod walk;

pub use client::{Deadline, Faults, Store, StoreConfig};
pub use error::StoreError;
