//! What the server signs in exchange 0.2.0.
//!
//! Every field has its length in front, so no two different exchanges have the same bytes.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::binding::DIGEST;
use crate::jwe::Jwe;
use crate::tee_key::TeeKey;

/// The exchange version that is signed.
pub const VERSION: &str = "0.2.0";

/// In front of everything, so that no other message of the same key can be taken for a transcript.
const CONTEXT: &[u8] = b"coconut-svsm kbs authentication 0.2.0\0";

/// One exchange.
pub struct Transcript<'a> {
    /// `snp` or `sample`.
    pub tee: &'a str,
    /// The challenge as text, as it was sent.
    pub nonce: &'a str,
    /// The key of the SVSM.
    pub key: &'a TeeKey,
    /// Digest of the evidence.
    pub evidence_digest: &'a [u8; DIGEST],
    /// Name of the volume.
    pub volume: &'a str,
    /// What the SVSM decrypts.
    pub jwe: &'a Jwe,
}

impl Transcript<'_> {
    /// The bytes to sign. `None` if a part of the JWE is no base64url, which [`crate::jwe::seal`]
    /// does not produce.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let fields: [&[u8]; 12] = [
            VERSION.as_bytes(),
            self.tee.as_bytes(),
            self.nonce.as_bytes(),
            self.key.curve().name().as_bytes(),
            self.key.coordinates(),
            self.evidence_digest,
            self.volume.as_bytes(),
            self.jwe.protected.as_bytes(),
            &decode(&self.jwe.encrypted_key)?,
            &decode(&self.jwe.iv)?,
            &decode(&self.jwe.ciphertext)?,
            &decode(&self.jwe.tag)?,
        ];
        let mut bytes = CONTEXT.to_vec();
        for field in fields {
            bytes.extend(u32::try_from(field.len()).ok()?.to_be_bytes());
            bytes.extend(field);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tee_key::tests::p384_pair;

    fn jwe() -> Jwe {
        Jwe {
            protected: "e30".into(),
            encrypted_key: "AQ".into(),
            iv: "Ag".into(),
            ciphertext: "Aw".into(),
            tag: "BA".into(),
        }
    }

    #[test]
    fn layout_is_the_documented_one() {
        let (key, jwe) = (p384_pair(1).1, jwe());
        let transcript = Transcript {
            tee: "snp",
            nonce: "bm9uY2U=",
            key: &key,
            evidence_digest: &[7; 48],
            volume: "a/b/c",
            jwe: &jwe,
        };
        let bytes = transcript.to_bytes().unwrap();
        let mut expected = b"coconut-svsm kbs authentication 0.2.0\0\
            \0\0\0\x050.2.0\0\0\0\x03snp\0\0\0\x08bm9uY2U=\0\0\0\x05P-384\0\0\0\x60"
            .to_vec();
        expected.extend([key.x(), key.y(), b"\0\0\0\x30", &[7; 48]].concat());
        expected.extend(
            b"\0\0\0\x05a/b/c\0\0\0\x03e30\0\0\0\x01\x01\0\0\0\x01\x02\0\0\0\x01\x03\0\0\0\x01\x04",
        );
        assert_eq!(bytes, expected);
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_bytes() {
        let (key, jwe) = (p384_pair(1).1, jwe());
        let with = |tee, nonce| {
            Transcript {
                tee,
                nonce,
                key: &key,
                evidence_digest: &[7; 48],
                volume: "a/b/c",
                jwe: &jwe,
            }
            .to_bytes()
            .unwrap()
        };
        assert_ne!(with("snp", "AA"), with("snpA", "A"));
    }
}
