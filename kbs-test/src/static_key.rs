//! The server's static key: ECDSA on P-384, by which an SVSM knows the server.
//!
//! The private half is made by this module, leaves it only as PKCS#8 for the database, and is never
//! printed.

use std::fmt;

use getrandom::SysRng;
use p384::ecdsa::signature::{Signer, Verifier};
use p384::ecdsa::{Signature, SigningKey, VerifyingKey};
use p384::elliptic_curve::Generate;
use p384::elliptic_curve::sec1::ToSec1Point;
use p384::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
    SecretDocument,
};
use sha2::{Digest, Sha384};
use thiserror::Error;

/// Size of a signature in bytes: r and s, big-endian, 48 bytes each.
pub const SIGNATURE: usize = 96;

/// Why a key cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("the random source of the operating system failed")]
    Random,
    /// Not a P-384 key in PKCS#8.
    #[error(
        "not a P-384 private key in PKCS#8: make one with openssl genpkey -algorithm EC \
             -pkeyopt ec_paramgen_curve:P-384"
    )]
    Private,
    /// Not a P-384 public key.
    #[error("not a P-384 public key in PEM (SubjectPublicKeyInfo)")]
    Public,
    /// An encoding failed, which a valid key rules out.
    #[error("the key cannot be encoded")]
    Encoding,
}

/// A static key with its private half.
#[derive(Clone)]
pub struct StaticKey {
    key: SigningKey,
    spki: Vec<u8>,
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticKey({})", self.fingerprint())
    }
}

impl StaticKey {
    fn new(key: SigningKey) -> Result<Self, KeyError> {
        let spki = key
            .verifying_key()
            .to_public_key_der()
            .map_err(|_| KeyError::Encoding)?
            .into_vec();
        Ok(Self { key, spki })
    }

    /// A fresh key.
    pub fn generate() -> Result<Self, KeyError> {
        let key = SigningKey::try_generate_from_rng(&mut SysRng).map_err(|_| KeyError::Random)?;
        Self::new(key)
    }

    /// Reads PKCS#8 in DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Self::new(SigningKey::from_pkcs8_der(der).map_err(|_| KeyError::Private)?)
    }

    /// Reads PKCS#8 in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::new(SigningKey::from_pkcs8_pem(pem).map_err(|_| KeyError::Private)?)
    }

    /// The private key as PKCS#8 in DER; overwritten when dropped.
    pub fn to_pkcs8(&self) -> Result<SecretDocument, KeyError> {
        self.key.to_pkcs8_der().map_err(|_| KeyError::Encoding)
    }

    /// The public key as SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public key as SubjectPublicKeyInfo in PEM.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        self.key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| KeyError::Encoding)
    }

    /// SHA-384 of the public key's SubjectPublicKeyInfo in DER, in hex: what
    /// `openssl pkey -pubin -outform der | sha384sum` prints.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha384::digest(&self.spki))
    }

    /// x and y of the public key, 48 bytes each.
    pub fn coordinates(&self) -> ([u8; 48], [u8; 48]) {
        let point = self.key.verifying_key().as_affine().to_sec1_point(false);
        let bytes = point.as_bytes();
        (
            std::array::from_fn(|i| bytes[1 + i]),
            std::array::from_fn(|i| bytes[49 + i]),
        )
    }

    /// ECDSA with SHA-384 over `message`, deterministic (RFC 6979); r and s.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE] {
        let signature: Signature = self.key.sign(message);
        signature.to_bytes().into()
    }
}

/// Whether `signature` (r and s) over `message` is by the public key `spki` (DER).
pub fn verify(spki: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, KeyError> {
    let key = VerifyingKey::from_public_key_der(spki).map_err(|_| KeyError::Public)?;
    Ok(Signature::from_slice(signature).is_ok_and(|s| key.verify(message, &s).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_survives_storage() {
        let key = StaticKey::generate().unwrap();
        let again = StaticKey::from_pkcs8(key.to_pkcs8().unwrap().as_bytes()).unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
        let (x, y) = key.coordinates();
        assert_eq!([x, y].concat(), key.spki()[key.spki().len() - 96..]);
    }

    #[test]
    fn signature_verifies_under_its_key_and_message_only() {
        let (key, other) = (
            StaticKey::generate().unwrap(),
            StaticKey::generate().unwrap(),
        );
        let mut signature = key.sign(b"message");
        assert_eq!(verify(key.spki(), b"message", &signature), Ok(true));
        assert_eq!(verify(key.spki(), b"messagf", &signature), Ok(false));
        assert_eq!(verify(other.spki(), b"message", &signature), Ok(false));
        signature[95] ^= 1;
        assert_eq!(verify(key.spki(), b"message", &signature), Ok(false));
        assert_eq!(verify(b"", b"message", &signature), Err(KeyError::Public));
    }

    #[test]
    fn debug_output_is_the_fingerprint() {
        let key = StaticKey::generate().unwrap();
        let private = hex::encode(key.to_pkcs8().unwrap().as_bytes());
        let text = format!("{key:?}");
        assert!(text.contains(&key.fingerprint()) && !private.contains(&text));
        assert_eq!(key.fingerprint().len(), 96);
    }

    #[test]
    fn other_keys_are_refused() {
        assert_eq!(
            StaticKey::from_pkcs8(&[0; 40]).unwrap_err(),
            KeyError::Private
        );
        assert_eq!(StaticKey::from_pem("x").unwrap_err(), KeyError::Private);
    }
}
