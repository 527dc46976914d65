//! A secret that its owner signed: a compact JWS (RFC 7515, section 7.1) with `alg` ES384,
//! for servers that only store what they were given.
//!
//! Header `{"alg":"ES384","typ":"svsm-secret+jws","jwk":{"kty":"EC","crv":"P-384","x","y"}}`,
//! payload `{"secret":<base64url>,"volume":"repository/type/tag","generation":n}`.
//! Nothing here verifies anything.

use super::jws::Compact;
use super::names::VolumeName;
use super::release::MAX_RELEASE;
use super::secret::{self, SecretBytes};
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The `typ` of the header.
pub const SIGNED_SECRET_TYPE: &str = "svsm-secret+jws";

/// Why something that is a signed secret by its `typ` is none that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedSecretError {
    /// Longer than any plaintext may be.
    #[error("{0} bytes, the limit is {MAX_RELEASE}")]
    TooLong(usize),
    /// Not signed with ES384 by a P-384 key, or with extensions.
    #[error("its header is not that of ES384 with a P-384 key")]
    Header,
    /// A coordinate or the signature has another length.
    #[error("its {part} has {found} bytes instead of {expected}")]
    Length {
        /// Which part.
        part: &'static str,
        /// Length on P-384.
        expected: usize,
        /// Length that arrived.
        found: usize,
    },
    /// The payload is not what it has to be.
    #[error("its payload is not a secret with volume and generation")]
    Payload,
}

/// A signed secret, not verified.
#[derive(Debug)]
pub struct SignedSecret<'a> {
    /// What the signature covers: header, `.`, payload, as they came.
    pub signed: &'a [u8],
    /// ECDSA with SHA-384 over `signed`: r, then s.
    pub signature: [u8; 96],
    /// The key in the header: x-coordinate.
    pub x: [u8; 48],
    /// y-coordinate.
    pub y: [u8; 48],
    payload: &'a [u8],
}

/// The payload of a signed secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPayload {
    /// The volume's root key, at least 32 bytes.
    #[serde(with = "secret::base64url")]
    pub secret: SecretBytes,
    /// The volume it belongs to.
    pub volume: VolumeName,
    /// Generation of the secret: grows when the owner exchanges it.
    pub generation: u64,
}

#[derive(Deserialize)]
struct Type<'a> {
    typ: &'a str,
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    #[serde(borrow)]
    jwk: Jwk<'a>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Jwk<'a> {
    kty: &'a str,
    crv: &'a str,
    x: &'a str,
    y: &'a str,
}

impl<'a> SignedSecret<'a> {
    /// Takes `plaintext` apart. None if it is something else: not three parts, or without
    /// the `typ` of a signed secret.
    pub fn recognise(plaintext: &'a [u8]) -> Option<Result<Self, SignedSecretError>> {
        if !plaintext.starts_with(b"eyJ") {
            return None;
        }
        let jws = Compact::split(plaintext)?;
        let json = jws.header_json()?;
        let Type { typ } = serde_json::from_slice(&json).ok()?;
        if typ != SIGNED_SECRET_TYPE {
            return None;
        }
        if plaintext.len() > MAX_RELEASE {
            return Some(Err(SignedSecretError::TooLong(plaintext.len())));
        }
        Some(Self::read(&jws, &json))
    }

    fn read(jws: &Compact<'a>, header: &[u8]) -> Result<Self, SignedSecretError> {
        let header: Header =
            serde_json::from_slice(header).map_err(|_| SignedSecretError::Header)?;
        let key = (header.jwk.kty, header.jwk.crv);
        if header.alg != "ES384" || header.crit.is_some() || key != ("EC", "P-384") {
            return Err(SignedSecretError::Header);
        }
        Ok(Self {
            signed: jws.signed,
            signature: exactly("signature", jws.signature)?,
            x: exactly("key's x", header.jwk.x.as_bytes())?,
            y: exactly("key's y", header.jwk.y.as_bytes())?,
            payload: jws.payload,
        })
    }

    /// What was signed. Call it after the signature was verified.
    pub fn payload(&self) -> Result<SignedPayload, SignedSecretError> {
        let mut json: Zeroizing<Vec<u8>> =
            Zeroizing::new(alloc::vec![0; base64::decoded_len_estimate(self.payload.len())]);
        let len = URL_SAFE_NO_PAD
            .decode_slice(self.payload, &mut json)
            .map_err(|_| SignedSecretError::Payload)?;
        serde_json::from_slice(&json[..len]).map_err(|_| SignedSecretError::Payload)
    }
}

fn exactly<const N: usize>(part: &'static str, text: &[u8]) -> Result<[u8; N], SignedSecretError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let found = bytes.len();
    bytes.try_into().map_err(|_| SignedSecretError::Length {
        part,
        expected: N,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    const PAYLOAD: &str = r#"{"secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","volume":"a/b/c","generation":2}"#;

    fn header() -> String {
        let x = URL_SAFE_NO_PAD.encode([1; 48]);
        let y = URL_SAFE_NO_PAD.encode([2; 48]);
        format!(
            r#"{{"alg":"ES384","typ":"svsm-secret+jws","jwk":{{"kty":"EC","crv":"P-384","x":"{x}","y":"{y}"}}}}"#
        )
    }

    fn jws(header: &str, payload: &str, signature: &[u8]) -> String {
        let parts = [header.as_bytes(), payload.as_bytes(), signature];
        parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }

    #[test]
    fn parts_come_out() {
        let text = jws(&header(), PAYLOAD, &[3; 96]);
        let signed = SignedSecret::recognise(text.as_bytes()).unwrap().unwrap();
        assert_eq!((signed.x, signed.y), ([1; 48], [2; 48]));
        assert_eq!(signed.signature, [3; 96]);
        assert_eq!(signed.signed, text.rsplit_once('.').unwrap().0.as_bytes());
        let payload = signed.payload().unwrap();
        assert_eq!((payload.secret.len(), payload.generation), (32, 2));
        assert_eq!(&*payload.volume, "a/b/c");
    }

    #[test]
    fn something_else_is_not_taken_for_one() {
        let other = header().replace("svsm-secret+jws", "JWT");
        for text in [
            "",
            "eyJ",
            "eyJ.eyJ",
            "eyJ.eyJ.eyJ.eyJ",
            "eyJhIjoxfQ.e30.AA",
            &jws(&other, PAYLOAD, &[3; 96]),
            &format!(" {}", jws(&header(), PAYLOAD, &[3; 96])),
        ] {
            assert!(SignedSecret::recognise(text.as_bytes()).is_none(), "{text}");
        }
        assert!(SignedSecret::recognise(&[0x55; 32]).is_none());
    }

    #[test]
    fn other_algorithms_and_lengths_are_refused() {
        let refused = |header: &str, signature: &[u8]| {
            SignedSecret::recognise(jws(header, PAYLOAD, signature).as_bytes())
                .expect("recognised")
                .unwrap_err()
        };
        for (from, to) in [
            ("ES384", "none"),
            ("ES384", "ES256"),
            ("P-384", "P-256"),
            ("\"EC\"", "\"oct\""),
            ("jwk", "jku"),
            ("{\"alg", "{\"crit\":[\"b64\"],\"alg"),
        ] {
            assert!(header().contains(from), "{from}");
            let changed = header().replacen(from, to, 1);
            assert_eq!(refused(&changed, &[3; 96]), SignedSecretError::Header);
        }
        for found in [0, 64, 95, 97, 132] {
            let error = SignedSecretError::Length {
                part: "signature",
                expected: 96,
                found,
            };
            assert_eq!(refused(&header(), &alloc::vec![3; found]), error);
        }
        let short = header().replace(&URL_SAFE_NO_PAD.encode([1; 48]), "AQ");
        assert_eq!(
            refused(&short, &[3; 96]),
            SignedSecretError::Length {
                part: "key's x",
                expected: 48,
                found: 1
            }
        );
        let long = PAYLOAD.replace("a/b/c", &"a".repeat(MAX_RELEASE));
        let text = jws(&header(), &long, &[3; 96]);
        let error = SignedSecret::recognise(text.as_bytes()).unwrap().err();
        assert_eq!(error, Some(SignedSecretError::TooLong(text.len())));
    }

    #[test]
    fn payload_without_its_members_is_refused() {
        for (from, to) in [
            ("secret", "key"),
            ("a/b/c", "a"),
            ("generation\":2", "generation\":-2"),
            ("{", "["),
            ("AAEC", "AA=="),
        ] {
            let text = jws(&header(), &PAYLOAD.replacen(from, to, 1), &[3; 96]);
            let signed = SignedSecret::recognise(text.as_bytes()).unwrap().unwrap();
            assert_eq!(signed.payload(), Err(SignedSecretError::Payload), "{to}");
        }
    }
}
