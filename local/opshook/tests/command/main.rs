//! The real `opshook` binary, as a person or a script runs it: temporary directories, port 0, HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod demo;
mod readme;
mod send;
mod small;
mod support;
mod up;
