//! ECDSA verification over P-256 and P-384 (FIPS 186-5, section 6.4.2).

use p256::ecdsa::signature::hazmat::PrehashVerifier;

use super::AuthError;

/// A public key on one of the two curves.
#[derive(Clone, Copy, Debug)]
pub enum EcKey {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

impl EcKey {
    /// Reads a point on P-256 (SEC 1, section 2.3.4).
    pub fn p256(point: &[u8]) -> Result<Self, AuthError> {
        p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .map(Self::P256)
            .map_err(|_| AuthError::PublicKey)
    }

    /// Reads a point on P-384.
    pub fn p384(point: &[u8]) -> Result<Self, AuthError> {
        p384::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .map(Self::P384)
            .map_err(|_| AuthError::PublicKey)
    }

    /// Verifies a DER signature over a message with this digest.
    pub fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<(), AuthError> {
        let verified = match self {
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .and_then(|signature| key.verify_prehash(digest, &signature)),
            Self::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .and_then(|signature| key.verify_prehash(digest, &signature)),
        };
        verified.map_err(|_| AuthError::BadSignature)
    }
}
