//! Where a list goes on. Opaque to callers; in truth the last id that was examined, and which list it belongs to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Marks a cursor with the list and the filters that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 4]);

impl Fingerprint {
    /// The mark of a list with its filters, written down in any way that tells them apart.
    pub(crate) fn of(filters: &str) -> Self {
        let hash = Sha256::digest(filters.as_bytes());
        Self([hash[0], hash[1], hash[2], hash[3]])
    }
}

/// Writes a cursor.
pub(crate) fn encode(position: u128, fingerprint: Fingerprint) -> String {
    let mut bytes = position.to_be_bytes().to_vec();
    bytes.extend_from_slice(&fingerprint.0);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor; none when it is not one of this list with these filters.
pub(crate) fn decode(text: &str, fingerprint: Fingerprint) -> Option<u128> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (position, mark) = bytes.split_at_checked(16)?;
    (mark == fingerprint.0).then_some(())?;
    position.try_into().ok().map(u128::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_by_its_own_list_alone() {
        let mine = Fingerprint::of("events|session a");
        let text = encode(42, mine);
        assert_eq!(decode(&text, mine), Some(42));
        assert_eq!(decode(&text, Fingerprint::of("events|session b")), None);
        assert_eq!(decode("", mine), None);
        assert_eq!(decode(&text[1..], mine), None);
        assert_eq!(decode("änd", mine), None);
    }
}
