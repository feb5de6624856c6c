//! What the contract crate promises, from the outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod event;
mod id;
mod json;
mod parts;
mod signature;
mod standardwebhooks;
mod ticket;
mod time;
mod wire;

use proptest::test_runner::Config;

/// How many cases a property is tried with.
fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}
