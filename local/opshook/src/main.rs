//! The `opshook` command: everything in one process on the embedded engine, and what a person at a terminal needs
//! around it (contract, section 8).
//!
//! - [`cli`]: the commands and what their `--help` says
//! - [`up`]: the three functions and the engine in this process; [`settings_file`] keeps what they are given
//! - [`demo`]: a sample onboarding through the real HTTP path
//! - [`doctor`]: looks at a host, and says what to do about each fault
//! - [`engine`], [`send`], [`secret`], [`tables`]: one command each
//! - [`http`], [`outcome`]: how the command asks, and how it fails

mod cli;
mod demo;
mod doctor;
mod engine;
mod http;
mod outcome;
mod secret;
mod send;
mod settings_file;
mod tables;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
