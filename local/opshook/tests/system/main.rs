//! The whole system as its users meet it: real sockets, the real functions, the embedded engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod activation;
mod bad_input;
mod bad_requests;
mod browser;
mod chaos;
mod counting;
mod crash;
mod delivery;
mod doctor;
mod dynamo;
mod engines;
mod faults;
mod harness;
mod lambda;
mod large;
mod lists;
mod once;
mod ops;
mod outage;
mod outbox_lists;
mod paged;
mod parity;
mod path;
mod peers;
mod process;
mod proxy;
mod raw;
mod recovery;
mod scenarios;
mod simulation;
mod unread;
