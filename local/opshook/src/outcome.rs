//! How a command ends, and what it prints on the way. Nothing here panics, whatever became of the terminal.

use std::fmt::Display;
use std::io::ErrorKind;

use ::engine::EngineError;
use contract::text::is_printable;
use serde::Serialize;
use service::host::StartError;
use service::telemetry;
use store::StoreError;

/// Why a command did not do what it was asked: the exit status, and lines that say what to do about it; none where nobody is
/// there to read them.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    pub(crate) text: String,
}

impl Failure {
    /// A check or a request failed: exit status 1.
    pub(crate) fn failed(text: impl Display) -> Self {
        Self { status: 1, text: text.to_string() }
    }

    /// Wrong usage or settings: exit status 2.
    pub(crate) fn usage(text: impl Display) -> Self {
        Self { status: 2, text: text.to_string() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed(error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self { status: error.exit_status(), text: error.to_string() }
    }
}

/// The engine's failure, with the `option` that would change the address.
pub(crate) fn engine_failure(option: &str, error: EngineError) -> Failure {
    match error {
        EngineError::NotLoopback(_) => Failure::usage(format!("{option}: {error}")),
        EngineError::Listen { .. } => Failure::failed(format!("{option}: {error}; choose another with {option}")),
        _ => Failure::failed(error),
    }
}

/// Prints lines to standard output in one write.
///
/// # Errors
///
/// When they can't be written: the disk is full, the reader has gone.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    telemetry::print(text).map_err(|error| match error.kind() {
        // Whoever stopped reading, as `head` does, has what they want.
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Failure::failed(""),
        _ => Failure::failed(format!("can't write to standard output: {error}")),
    })
}

/// Prints one line.
///
/// # Errors
///
/// As [`print()`].
pub(crate) fn print_line(line: impl Display) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}

/// Prints a value as one line of JSON, its fields in the order of their declaration.
///
/// # Errors
///
/// As [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print_line(serde_json::to_string(value).map_err(Failure::failed)?)
}

/// What came from elsewhere, fit for a terminal: control and format characters become `�`.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) || c == '\n' || c == '\t' { c } else { '\u{fffd}' }).collect()
}
