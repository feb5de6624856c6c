//! Messages on their way to ops (contract §5).
//!
//! - [`NewMessage`], [`Store::accept`](crate::Store::accept): one conditional put makes a message durable
//! - [`Claim`], [`Store::claim`](crate::Store::claim): who works on it, by a lease with an id
//! - [`Store::record_delivery`](crate::Store::record_delivery), [`Store::record_failure`](crate::Store::record_failure): what came of an attempt
//! - [`Store::due`](crate::Store::due): what waits for its next attempt
//! - [`Store::message`](crate::Store::message): what callers see

mod accept;
mod lease;
mod outcome;
mod row;

pub use accept::{Acceptance, NewMessage};
pub use lease::{Claim, Due, LEASE, Leased};
pub use outcome::{Failure, Recording, Then};
