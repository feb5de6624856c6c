//! The signature of a webhook, both ends: Standard Webhooks 1.0, symmetric (contract, section 2).
//!
//! Signed is `{id}.{timestamp}.{body}`, with HMAC-SHA256 under each of the secrets. The receiver accepts any of its
//! own, so a secret is rotated with no event refused.

mod secret;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConstantTimeEq as _};

pub use self::secret::{DEVELOPMENT_SECRET, Secret, Secrets};
use crate::id::WebhookId;

/// How far a timestamp may be from the receiver's clock, either way.
pub const TOLERANCE_SECONDS: u64 = 300;
/// The header with the message's id.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the attempt's time, in Unix seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures: `v1,<base64>`, with a space between two.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The one scheme that we know, with the comma after it.
const SCHEME: &str = "v1,";
const MAC_BYTES: usize = 32;

/// The three headers as they stand on a request: one value for each time that a header stands there.
#[derive(Clone, Debug, Default)]
pub struct SignatureHeaders<'a> {
    /// Values of [`ID_HEADER`].
    pub id: Vec<&'a [u8]>,
    /// Values of [`TIMESTAMP_HEADER`].
    pub timestamp: Vec<&'a [u8]>,
    /// Values of [`SIGNATURE_HEADER`].
    pub signature: Vec<&'a [u8]>,
}

/// Why a request is not from someone who knows a secret; a 401. The words hold nothing of the request but how far its
/// clock is off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is absent or empty.
    #[error("the header {0} is missing or empty")]
    Missing(&'static str),
    /// A header's value can't be what it should be.
    #[error("{0}")]
    Malformed(&'static str),
    /// No signature is right, or a header stands twice.
    #[error("no signature matches: is the secret the sender's, and does each header stand once?")]
    Mismatch,
    /// The signature is right, and the timestamp is not near enough.
    #[error("{}", timestamp_detail(*.skew_seconds))]
    Timestamp {
        /// How far the sender's time is ahead of ours, negative when behind; none when it is not a number of seconds.
        skew_seconds: Option<i64>,
    },
}

impl SignatureError {
    /// The problem's code (contract, section 6).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::Malformed(_) => "signature_missing",
            Self::Mismatch => "signature_mismatch",
            Self::Timestamp { .. } => "timestamp_out_of_tolerance",
        }
    }
}

impl Secrets {
    /// The value of [`SIGNATURE_HEADER`]: one signature by each secret, newest first.
    ///
    /// ```
    /// use contract::id::WebhookId;
    /// use contract::signature::{SignatureError, SignatureHeaders, Secrets};
    ///
    /// let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw2S").unwrap();
    /// let id = WebhookId::parse("msg_p5jXN8AQM9LWM0D4loKWxJek").unwrap();
    /// let body = br#"{"test": 2432232314}"#;
    /// let signature = secrets.sign(&id, 1614265330, body);
    /// assert_eq!(signature, "v1,15kF0BgX8ejIMpD31SxzwUZY9EiK3cqodaemf//8GRY=");
    ///
    /// let headers = SignatureHeaders {
    ///     id: vec![b"msg_p5jXN8AQM9LWM0D4loKWxJek"],
    ///     timestamp: vec![b"1614265330"],
    ///     signature: vec![signature.as_bytes()],
    /// };
    /// assert_eq!(secrets.verify(&headers, body, 1614265331), Ok(id));
    /// assert_eq!(secrets.verify(&headers, b"{}", 1614265331), Err(SignatureError::Mismatch));
    /// ```
    pub fn sign(&self, id: &WebhookId, unix_seconds: i64, body: &[u8]) -> String {
        let timestamp = unix_seconds.to_string();
        let signatures = self.iter().map(|secret| {
            let mac = secret.mac(&[id.as_str().as_bytes(), b".", timestamp.as_bytes(), b".", body]);
            format!("{SCHEME}{}", STANDARD.encode(mac))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// Whether a request is from someone who knows one of the secrets, and is of now; answers with its id.
    ///
    /// Checked in this order: all headers are there, the id holds its rule, a signature matches, the timestamp is
    /// within [`TOLERANCE_SECONDS`]. Nobody without a secret learns what we make of a timestamp.
    ///
    /// # Errors
    ///
    /// The first of those that does not hold. A header that stands twice is a mismatch, as it is on API Gateway, which
    /// joins the values with a comma before we see them.
    pub fn verify(
        &self,
        headers: &SignatureHeaders<'_>,
        body: &[u8],
        now_unix_seconds: i64,
    ) -> Result<WebhookId, SignatureError> {
        let id = joined(&headers.id, ID_HEADER)?;
        let timestamp = joined(&headers.timestamp, TIMESTAMP_HEADER)?;
        let signature = joined(&headers.signature, SIGNATURE_HEADER)?;
        let id = std::str::from_utf8(&id).ok().and_then(WebhookId::parse).ok_or(SignatureError::Malformed(
            "the header webhook-id must be 1 to 256 visible ASCII characters without a dot",
        ))?;
        let each_once = [&headers.id, &headers.timestamp, &headers.signature].iter().all(|values| values.len() == 1);
        if !each_once || !self.matches(id.as_str().as_bytes(), &timestamp, &signature, body) {
            return Err(SignatureError::Mismatch);
        }
        check_timestamp(&timestamp, now_unix_seconds)?;
        Ok(id)
    }

    /// Every secret is compared with every signature, whatever has matched before, so that time tells nothing.
    fn matches(&self, id: &[u8], timestamp: &[u8], signatures: &[u8], body: &[u8]) -> bool {
        let sent: Vec<[u8; MAC_BYTES]> = signatures.split(|byte| *byte == b' ').filter_map(decoded).collect();
        let mut found = Choice::from(0);
        for secret in self.iter() {
            let expected = secret.mac(&[id, b".", timestamp, b".", body]);
            for mac in &sent {
                found |= mac.ct_eq(&expected);
            }
        }
        found.into()
    }
}

/// A header's values as API Gateway hands them on.
fn joined(values: &[&[u8]], header: &'static str) -> Result<Vec<u8>, SignatureError> {
    let value = values.join(&b","[..]);
    if value.is_empty() { Err(SignatureError::Missing(header)) } else { Ok(value) }
}

/// The MAC in one entry of the list; none when its scheme is unknown or it is malformed.
fn decoded(entry: &[u8]) -> Option<[u8; MAC_BYTES]> {
    STANDARD.decode(entry.strip_prefix(SCHEME.as_bytes())?).ok()?.try_into().ok()
}

fn check_timestamp(timestamp: &[u8], now_unix_seconds: i64) -> Result<(), SignatureError> {
    // Digits only, for a number's own parser would take a sign.
    let digits = std::str::from_utf8(timestamp).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(seconds) = digits.and_then(|digits| digits.parse::<i64>().ok()) else {
        return Err(SignatureError::Timestamp { skew_seconds: None });
    };
    let skew_seconds = seconds.saturating_sub(now_unix_seconds);
    if skew_seconds.unsigned_abs() > TOLERANCE_SECONDS {
        return Err(SignatureError::Timestamp { skew_seconds: Some(skew_seconds) });
    }
    Ok(())
}

fn timestamp_detail(skew_seconds: Option<i64>) -> String {
    match skew_seconds {
        None => "the header webhook-timestamp must be Unix seconds in decimal digits".to_owned(),
        Some(skew) => {
            let side = if skew < 0 { "behind" } else { "ahead of" };
            let off = skew.unsigned_abs();
            format!("the timestamp is {off} s {side} this server's clock; at most {TOLERANCE_SECONDS} s are accepted")
        }
    }
}
