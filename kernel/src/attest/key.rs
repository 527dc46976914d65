//! The ephemeral key of an exchange whose curve was chosen while it ran.

use super::ecdh::{EphemeralKey, Point};
use super::jwe::{self, Encrypted, JweError};
use crate::attest::ecdh::PointError;
use crate::entropy::{Entropy, EntropyError};
use alloc::vec::Vec;
use libaproxy::v0_2::{Curve, JweParts, PublicKey};
use zeroize::Zeroizing;

/// An ephemeral key on one of the curves.
pub enum ExchangeKey {
    /// On P-256.
    P256(EphemeralKey<p256::NistP256>),
    /// On P-384.
    P384(EphemeralKey<p384::NistP384>),
    /// On P-521.
    P521(EphemeralKey<p521::NistP521>),
}

impl ExchangeKey {
    /// A new key on `curve`.
    pub fn generate(curve: Curve, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Ok(match curve {
            Curve::P256 => Self::P256(EphemeralKey::generate(entropy)?),
            Curve::P384 => Self::P384(EphemeralKey::generate(entropy)?),
            Curve::P521 => Self::P521(EphemeralKey::generate(entropy)?),
        })
    }

    /// The curve.
    pub fn curve(&self) -> Curve {
        match self {
            Self::P256(_) => Curve::P256,
            Self::P384(_) => Curve::P384,
            Self::P521(_) => Curve::P521,
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let Point { x, y } = match self {
            Self::P256(key) => key.public(),
            Self::P384(key) => key.public(),
            Self::P521(key) => key.public(),
        };
        PublicKey {
            crv: self.curve(),
            x: x.into(),
            y: y.into(),
        }
    }

    /// Decrypts what was encrypted to this key.
    pub fn decrypt(&self, parts: &JweParts<'_>) -> Result<Zeroizing<Vec<u8>>, JweError> {
        let (expected, found) = (self.curve(), parts.crv);
        if found != expected {
            return Err(PointError::Curve { expected, found }.into());
        }
        let encrypted = Encrypted::v0_2(parts);
        match self {
            Self::P256(key) => jwe::decrypt(key, encrypted),
            Self::P384(key) => jwe::decrypt(key, encrypted),
            Self::P521(key) => jwe::decrypt(key, encrypted),
        }
    }
}
