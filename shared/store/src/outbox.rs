//! Messages on their way to ops (contract §5).
//!
//! - [`NewMessage`], [`Store::accept`](crate::Store::accept): one conditional put makes a message durable
//! - [`Claim`], [`Store::claim`](crate::Store::claim): who works on it, by a lease with an id
//! - [`Store::record_delivery`](crate::Store::record_delivery), [`Store::record_failure`](crate::Store::record_failure): what came of an attempt
//! - [`Store::due`](crate::Store::due): what waits for its next attempt
//! - [`Store::message`](crate::Store::message): what callers see
//! - [`Store::replay`](crate::Store::replay), [`Store::set_aside`](crate::Store::set_aside): what rests goes again; what
//!   can't be read rests
//! - [`Endpoint`], [`Store::change_endpoint`](crate::Store::change_endpoint): what all processes know of the endpoint
//! - [`Entry`]: what people are told, in one write with the change that it tells of
//! - [`Store::messages`](crate::Store::messages), [`Store::activities`](crate::Store::activities): lists
//! - [`Store::oldest_pending`](crate::Store::oldest_pending), [`Store::in_state`](crate::Store::in_state),
//!   [`Store::delivered`](crate::Store::delivered): what people and a bulk replay go through
//! - [`Store::newer`](crate::Store::newer): what an older program can't read

mod accept;
mod activity;
mod change;
mod delivered;
mod endpoint;
mod format;
mod lease;
mod list;
mod outcome;
mod replay;
mod row;
mod view;

pub use accept::{Acceptance, NewMessage};
pub use activity::{ActivityFilter, Entry};
pub use delivered::Delivered;
pub use endpoint::{Changed, Endpoint};
pub use lease::{Claim, Due, LEASE, Leased, Limits, Take};
pub use list::{MessageFilter, MessageRef};
pub use outcome::{Failure, Recording, Then};
pub use replay::Replay;
