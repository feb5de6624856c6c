//! Where a list goes on. Opaque to callers; in truth the place of the last item that was examined, and which list it
//! belongs to.

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
pub(crate) fn encode(position: &[u8], fingerprint: Fingerprint) -> String {
    URL_SAFE_NO_PAD.encode([position, &fingerprint.0].concat())
}

/// Reads a cursor; none when it is not one of this list with these filters. Anyone can make one, so its position is only
/// a text or a number from outside.
pub(crate) fn decode(text: &str, fingerprint: Fingerprint) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.strip_suffix(&fingerprint.0).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_by_its_own_list_alone() {
        let mine = Fingerprint::of("events|session a");
        let text = encode(b"here", mine);
        assert_eq!(decode(&text, mine).as_deref(), Some(&b"here"[..]));
        assert_eq!(decode(&text, Fingerprint::of("events|session b")), None);
        assert_eq!(decode("", mine), None);
        assert_eq!(decode(&text[1..], mine), None);
        assert_eq!(decode("änd", mine), None);
    }
}
