//! The compact serialisation of a JWS (RFC 7515, section 7.1), cut at its dots.

use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest header, in characters. With a chain of certificates in it, as in the
/// tokens of some servers, it has some 4000.
const MAX_HEADER: usize = 16 * 1024;

/// Three parts, none of them decoded.
pub(super) struct Compact<'a> {
    /// What the signature covers: header, dot, payload.
    pub signed: &'a [u8],
    header: &'a [u8],
    pub payload: &'a [u8],
    pub signature: &'a [u8],
}

impl<'a> Compact<'a> {
    /// None if there are not three parts.
    pub fn split(text: &'a [u8]) -> Option<Self> {
        let mut parts = text.split(|&byte| byte == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            signed: &text[..header.len() + 1 + payload.len()],
            header,
            payload,
            signature,
        })
    }

    /// The bytes of the header, unless it is too long or no base64url.
    pub fn header_json(&self) -> Option<Vec<u8>> {
        if self.header.len() > MAX_HEADER {
            return None;
        }
        URL_SAFE_NO_PAD.decode(self.header).ok()
    }
}
