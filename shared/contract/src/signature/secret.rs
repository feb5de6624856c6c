//! What signs and verifies. Nothing here is ever printed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

/// The secret of the examples. Everyone knows it, so it is for loopback only (contract, section 7).
pub const DEVELOPMENT_SECRET: &str = "whsec_b3BzaG9vay1kZXZlbG9wbWVudC1zZWNyZXQtb25seSE=";

const DEVELOPMENT_KEY: &[u8] = b"opshook-development-secret-only!";
const PREFIX: &str = "whsec_";
/// The block of SHA-256, to which HMAC fills a shorter key with zeros. A secret is never longer.
const BLOCK_BYTES: usize = 64;
const MIN_KEY_BYTES: usize = 24;
const MAX_KEY_BYTES: usize = BLOCK_BYTES;

/// One secret: 24–64 bytes, in text `whsec_` and their base64.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// A new secret of 32 random bytes, which the caller draws.
    pub fn generate(random: [u8; 32]) -> Self {
        Self(random.to_vec().into())
    }

    /// The secret's text, to be shown to its owner once or written to a file of its owner's.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0.expose_secret()))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let encoded = text.strip_prefix(PREFIX).ok_or("must start with whsec_")?;
        let key = STANDARD.decode(encoded).map_err(|_| "must be whsec_ and base64 with its padding")?;
        let secret = Self(key.into());
        match secret.0.expose_secret().len() {
            MIN_KEY_BYTES..=MAX_KEY_BYTES => Ok(secret),
            _ => Err("must be the base64 of 24 to 64 bytes"),
        }
    }

    /// HMAC-SHA256 over the parts, one after the other.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // Filled up here, a key can't be of a wrong length.
        let mut block = Zeroizing::new([0; BLOCK_BYTES]);
        for (filled, byte) in block.iter_mut().zip(self.0.expose_secret()) {
            *filled = *byte;
        }
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// One or more secrets, newest first.
#[derive(Clone)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads a setting: secrets with white space or commas between them.
    ///
    /// # Errors
    ///
    /// What is wrong with which of them, in words that hold no part of the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut secrets = Vec::new();
        let between = |character: char| character.is_whitespace() || character == ',';
        for (position, secret) in text.split(between).filter(|secret| !secret.is_empty()).enumerate() {
            secrets.push(Secret::parse(secret).map_err(|rule| format!("secret {} in the list {rule}", position + 1))?);
        }
        if secrets.is_empty() { Err("must hold at least one secret".to_owned()) } else { Ok(Self(secrets)) }
    }

    /// Whether the [`DEVELOPMENT_SECRET`] is anywhere in the list, however it was written.
    pub fn contains_development_secret(&self) -> bool {
        self.0.iter().any(|secret| secret.0.expose_secret() == DEVELOPMENT_KEY)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Secret> {
        self.0.iter()
    }
}

impl From<Secret> for Secrets {
    fn from(secret: Secret) -> Self {
        Self(vec![secret])
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
