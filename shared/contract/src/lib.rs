//! What both ends of a webhook must agree on: the event, its signature, its ticket, and how all of it is written.
//!
//! Pure: no I/O, no clock and no randomness of its own but an id's random bits. It knows neither HTTP servers nor
//! DynamoDB. The rules are those of the contract, and each module names its section of it.
//!
//! The way of an event is the table of contents:
//!
//! 1. [`json`] reads a body, strictly, and loses nothing of it.
//! 2. [`event`] makes an [`event::Event`] of it, or tells every fault at once.
//! 3. [`id`] names the message that carries it ([`id::WebhookId`]).
//! 4. [`signature`] signs it on the portal's side and verifies it on the other.
//! 5. [`id`] names the delivery too ([`id::EventId`]), in the order of arrival.
//! 6. [`ticket`] says which ticket it is about ([`ticket::TicketId`]), and in which words.
//! 7. [`wire`] is what is answered, [`time`](mod@time) is how times are read and written throughout, and [`text`] is what
//!    may stand in a line for people.
//!
//! Each part of an event is a type of its own, made by parsing only, so what holds one holds its rules. Errors say
//! what rule does not hold and never repeat a value.

pub mod event;
pub mod id;
pub mod json;
pub mod signature;
pub mod text;
pub mod ticket;
pub mod time;
pub mod wire;
