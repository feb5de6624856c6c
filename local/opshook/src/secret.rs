//! `opshook secret new`, and where random values come from.

use contract::signature::Secret;
use serde_json::json;

use crate::outcome::{Failure, print_line};

/// Prints a new secret.
pub(crate) fn run(as_json: bool) -> Result<(), Failure> {
    let secret = new_secret()?.expose();
    if as_json { print_line(json!({ "secret": secret })) } else { print_line(secret) }
}

/// A new webhook secret of 32 bytes.
pub(crate) fn new_secret() -> Result<Secret, Failure> {
    Ok(Secret::generate(random()?))
}

/// A new bearer token: 64 hexadecimal digits, so that no shell reads anything into it.
pub(crate) fn new_token() -> Result<String, Failure> {
    Ok(hex(&random::<32>()?))
}

/// Three random bytes as six hexadecimal digits, to tell one run from another.
pub(crate) fn new_suffix() -> Result<String, Failure> {
    Ok(hex(&random::<3>()?))
}

/// Bytes from the operating system's generator.
fn random<const BYTES: usize>() -> Result<[u8; BYTES], Failure> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the operating system gives no random bytes: {error}")))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
