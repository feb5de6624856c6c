//! The whole system as its users meet it: real sockets, the real functions, the embedded engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod harness;
mod path;
