//! Who may give this SVSM a secret.
//!
//! Always true in here: a key is a point on P-384 in the one encoding that its fingerprint
//! is made of; a signature counts only with a key that the policy admits; with keys in the
//! policy nothing else is admitted, and without any, every key is, and is only named.

use alloc::vec::Vec;
use core::fmt;
use libaproxy::v0_2::{SIGNATURE_LEN, Transcript};
use p384::ecdsa::signature::hazmat::PrehashVerifier;
use p384::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha384};

/// Length of a key in bytes: SubjectPublicKeyInfo in DER of an uncompressed P-384 point.
pub const KEY_LEN: usize = 120;

/// All of the SubjectPublicKeyInfo (RFC 5480, section 2) before the coordinates:
/// id-ecPublicKey, secp384r1, a bit string, the mark of an uncompressed point.
const KEY_PREFIX: [u8; 24] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
];

/// Why a server's key, or what it signed, is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not a P-384 key in the one form.
    #[error("the server's key is not a P-384 key in DER form")]
    Malformed,
    /// The coordinates do not belong to a point.
    #[error("the server's key is not a point on P-384")]
    NotOnCurve,
    /// Another key than the pinned ones.
    #[error("the server's key {0} is none of those that are pinned in this image")]
    NotPinned(Fingerprint),
    /// The signature has another length.
    #[error("the server's signature has {0} bytes instead of {SIGNATURE_LEN}")]
    SignatureLength(usize),
    /// The signature is not over this exchange, or not by this key.
    #[error("the server's signature does not match this exchange")]
    Signature,
    /// Keys are pinned, and the secret is not signed at all.
    #[error("the secret is not authenticated, but this image has pinned keys")]
    Unauthenticated,
    /// What was decrypted belongs to a signed answer, and the signature is missing.
    #[error("the signature of the server was left out")]
    SignatureMissing,
}

/// SHA-384 of a key in DER form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 48]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server's static key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKey {
    key: VerifyingKey,
    fingerprint: Fingerprint,
}

impl ServerKey {
    /// Reads SubjectPublicKeyInfo in DER form.
    pub fn from_der(der: &[u8]) -> Result<Self, TrustError> {
        let (prefix, point) = der
            .split_at_checked(KEY_PREFIX.len())
            .ok_or(TrustError::Malformed)?;
        let (x, y) = point.split_at_checked(48).ok_or(TrustError::Malformed)?;
        match (x.try_into(), y.try_into()) {
            (Ok(x), Ok(y)) if prefix == KEY_PREFIX => Self::from_coordinates(x, y),
            _ => Err(TrustError::Malformed),
        }
    }

    /// The key with these coordinates.
    pub fn from_coordinates(x: &[u8; 48], y: &[u8; 48]) -> Result<Self, TrustError> {
        let der = [&KEY_PREFIX[..], x, y].concat();
        let point = &der[KEY_PREFIX.len() - 1..];
        Ok(Self {
            key: VerifyingKey::from_sec1_bytes(point).map_err(|_| TrustError::NotOnCurve)?,
            fingerprint: Fingerprint(Sha384::digest(&der).into()),
        })
    }

    /// What names the key: what `openssl pkey -pubin -outform der | sha384sum` prints.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the key made `signature`, ECDSA with SHA-384 as r, then s, over what has
    /// `digest`.
    fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<(), TrustError> {
        let signature: &[u8; SIGNATURE_LEN] = signature
            .try_into()
            .map_err(|_| TrustError::SignatureLength(signature.len()))?;
        let signature = Signature::from_slice(signature).map_err(|_| TrustError::Signature)?;
        self.key
            .verify_prehash(digest, &signature)
            .map_err(|_| TrustError::Signature)
    }

    /// Whether the key signed this exchange.
    pub fn verify_transcript(
        &self,
        transcript: &Transcript<'_>,
        signature: &[u8],
    ) -> Result<(), TrustError> {
        let mut hash = Sha384::new();
        transcript.feed(|bytes| hash.update(bytes));
        self.verify(&hash.finalize(), signature)
    }

    /// Whether the key signed `message`.
    pub fn verify_message(&self, message: &[u8], signature: &[u8]) -> Result<(), TrustError> {
        self.verify(&Sha384::digest(message), signature)
    }
}

/// The keys this SVSM takes secrets from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustPolicy {
    pinned: Vec<ServerKey>,
}

impl TrustPolicy {
    /// Takes any key, and secrets without one: what they are worth is told in the log.
    pub const fn trust_on_first_use() -> Self {
        Self { pinned: Vec::new() }
    }

    /// Takes secrets that one of `pinned` signed. Without keys, the same as
    /// [`trust_on_first_use`](Self::trust_on_first_use).
    pub fn pinned(pinned: Vec<ServerKey>) -> Self {
        Self { pinned }
    }

    /// Whether only pinned keys count.
    pub fn has_pins(&self) -> bool {
        !self.pinned.is_empty()
    }

    /// Refuses a key that is not pinned where any are.
    pub fn admit(&self, key: &ServerKey) -> Result<(), TrustError> {
        if self.has_pins() && !self.pinned.contains(key) {
            return Err(TrustError::NotPinned(key.fingerprint()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p384::ecdsa::SigningKey;
    use p384::ecdsa::signature::hazmat::PrehashSigner;
    use std::format;

    fn signer(seed: u8) -> (SigningKey, ServerKey) {
        let signer = SigningKey::from_slice(&[seed; 48]).unwrap();
        let point = signer.verifying_key().to_sec1_point(false);
        let der = [&KEY_PREFIX[..23], point.as_bytes()].concat();
        (signer, ServerKey::from_der(&der).unwrap())
    }

    #[test]
    fn key_in_another_form_is_refused() {
        let (signer, key) = signer(1);
        let point = signer.verifying_key().to_sec1_point(false);
        let der = [&KEY_PREFIX[..23], point.as_bytes()].concat();
        assert_eq!(der.len(), KEY_LEN);
        assert_eq!(ServerKey::from_der(&der), Ok(key));
        for len in 0..der.len() {
            assert_eq!(ServerKey::from_der(&der[..len]), Err(TrustError::Malformed));
        }
        let longer = [&der[..], &[0]].concat();
        assert_eq!(ServerKey::from_der(&longer), Err(TrustError::Malformed));
        for at in 0..KEY_PREFIX.len() {
            let mut changed = der.clone();
            changed[at] ^= 1;
            assert_eq!(ServerKey::from_der(&changed), Err(TrustError::Malformed));
        }
        for at in KEY_PREFIX.len()..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 1;
            assert_eq!(ServerKey::from_der(&changed), Err(TrustError::NotOnCurve));
        }
    }

    #[test]
    fn only_the_right_signature_counts() {
        let (signer, key) = signer(1);
        let (_, other) = self::signer(2);
        let signature: Signature = signer.sign_prehash(&Sha384::digest(b"message")).unwrap();
        let bytes = signature.to_bytes();
        assert_eq!(key.verify_message(b"message", &bytes), Ok(()));
        let wrong = Err(TrustError::Signature);
        assert_eq!(key.verify_message(b"massage", &bytes), wrong);
        assert_eq!(other.verify_message(b"message", &bytes), wrong);
        assert_eq!(key.verify_message(b"message", &[0; 96]), wrong);
        assert_eq!(key.verify_message(b"message", &[0xff; 96]), wrong);
        for bit in 0..96 * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.verify_message(b"message", &changed), wrong);
        }
        for len in [0, 64, 95, 97] {
            assert_eq!(
                key.verify_message(b"message", &alloc::vec![1; len]),
                Err(TrustError::SignatureLength(len))
            );
        }
    }

    #[test]
    fn pinned_keys_exclude_all_others() {
        let [(_, one), (_, two), (_, three)] = [1, 2, 3].map(signer);
        let policy = TrustPolicy::pinned(alloc::vec![one.clone(), two.clone()]);
        assert!(policy.has_pins());
        assert_eq!(policy.admit(&one), Ok(()));
        assert_eq!(policy.admit(&two), Ok(()));
        let error = TrustError::NotPinned(three.fingerprint());
        assert_eq!(policy.admit(&three), Err(error));
        assert_eq!(TrustPolicy::trust_on_first_use().admit(&three), Ok(()));
    }

    #[test]
    fn fingerprint_is_shown_in_hexadecimal() {
        let mut bytes = [0xab; 48];
        bytes[0] = 1;
        let shown = format!("{}", Fingerprint(bytes));
        assert_eq!(shown, format!("01{}", "ab".repeat(47)));
    }
}
