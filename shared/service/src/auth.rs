//! Bearer tokens (contract §4, §5, §7).

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::problem::{Code, Problem};

/// The least length of a token, in characters.
pub const LEAST_TOKEN_LENGTH: usize = 24;

/// One or more bearer tokens, newest first; any of them lets a caller in.
#[derive(Clone)]
pub struct Tokens(Vec<SecretString>);

impl Tokens {
    /// Reads tokens separated by white space or commas.
    ///
    /// # Errors
    /// What is wrong, without the value: none at all, one that is too short, one that can't stand in a header.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tokens: Vec<&str> = text.split([',', ' ', '\t', '\r', '\n']).filter(|token| !token.is_empty()).collect();
        if tokens.is_empty() {
            return Err(format!("must hold a token of at least {LEAST_TOKEN_LENGTH} characters"));
        }
        for (index, token) in tokens.iter().enumerate() {
            if token.len() < LEAST_TOKEN_LENGTH || !token.bytes().all(|b| b.is_ascii_graphic()) {
                let place = index + 1;
                return Err(format!("token {place} must be at least {LEAST_TOKEN_LENGTH} visible ASCII characters"));
            }
        }
        Ok(Self(tokens.into_iter().map(SecretString::from).collect()))
    }

    /// Lets a request in that has `Authorization: Bearer <token>` once, with one of these tokens. Values of a header that
    /// stands twice are read as API Gateway hands them on, joined by a comma, which no token holds.
    ///
    /// # Errors
    /// A 401: `token_missing` or `token_mismatch`.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let values: Vec<&[u8]> = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
        let joined = values.join(&b","[..]);
        let Some(given) = bearer(&joined) else {
            return Err(Problem::new(Code::TokenMissing, "send one header `Authorization: Bearer <token>`"));
        };
        // Digests have one length, so the comparison's time says nothing of a token's.
        let given = Sha256::digest(given);
        let mut known = Choice::from(0);
        for token in &self.0 {
            known |= Sha256::digest(token.expose_secret().as_bytes()).ct_eq(&given);
        }
        if bool::from(known) {
            Ok(())
        } else {
            Err(Problem::new(Code::TokenMismatch, "this bearer token is not one that is accepted here"))
        }
    }
}

/// The token of a header's value: the scheme's name in any case, then spaces (RFC 9110 §11.4).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let token = rest.trim_ascii();
    let well_formed = scheme.eq_ignore_ascii_case(b"bearer") && rest.first() == Some(&b' ') && !token.is_empty();
    well_formed.then_some(token)
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
