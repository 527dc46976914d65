//! The cryptography of the TPM: one trait, [`Crypto`], for what differs between
//! implementations, and plain functions for hashes and the key derivations made of them.
//!
//! Always true in here:
//! - Numbers are big-endian byte strings as the TPM has them on the wire. Inputs may have
//!   leading zeros or be short; outputs have the full size of their modulus or curve.
//! - No input makes a function panic or loop for ever; what does not fit is a [`CryptoError`].
//! - Private values are handled in constant time, zeroized when dropped, and a signature is
//!   verified before it leaves, so that a computing fault cannot give the key away.
//! - Randomness comes only from the [`Rng`] passed in, so that the same source gives the
//!   same key: primary keys are made again from their seed.

use alloc::vec::Vec;
use zeroize::{Zeroize as _, Zeroizing};

mod bn_p256;
mod ecc;
mod ecdsa;
mod ecschnorr;
mod hash;
mod kdf;
mod mac;
mod random;
mod rsa;
mod rsa_padding;
mod symmetric;

pub use hash::{HashAlg, HashState, hash};
pub use kdf::{kdfa, kdfe};
pub use mac::{HmacState, hmac};
pub use random::{KdfRng, Rng};

/// Secret bytes, zeroized when dropped.
pub type Bytes = Zeroizing<Vec<u8>>;

/// The parts, one after the other, in a buffer that never moved.
#[must_use]
pub fn concat(parts: &[&[u8]]) -> Bytes {
    Bytes::new(parts.concat())
}

/// Why a cryptographic operation was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A number, point or length is outside its range.
    #[error("a value is out of range")]
    Value,
    /// The parts of a key do not fit together.
    #[error("the parts of the key do not fit together")]
    Key,
    /// A signature does not verify.
    #[error("the signature does not verify")]
    Signature,
    /// Decrypted data has no valid padding.
    #[error("the padding is not valid")]
    Padding,
    /// The random source failed.
    #[error("the random source gave no bytes")]
    Random,
    /// A result failed its own check; it was thrown away.
    #[error("a result failed its check")]
    Internal,
}

/// The curves (TPM 2.0 Library, Part 2, 6.4, `TPM_ECC_CURVE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Curve {
    /// `TPM_ECC_NIST_P256`
    P256,
    /// `TPM_ECC_NIST_P384`
    P384,
    /// `TPM_ECC_NIST_P521`
    P521,
    /// `TPM_ECC_BN_P256`
    BnP256,
}

impl Curve {
    /// Every curve, by rising identifier.
    pub const ALL: &[Self] = &[Self::P256, Self::P384, Self::P521, Self::BnP256];

    /// The curve of a `TPM_ECC_CURVE`.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|curve| curve.id() == id)
    }

    /// The `TPM_ECC_CURVE`.
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::P256 => 3,
            Self::P384 => 4,
            Self::P521 => 5,
            Self::BnP256 => 0x10,
        }
    }

    /// Bytes of a coordinate, and of a private key.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::P256 | Self::BnP256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// Bits of a coordinate, and of the order.
    #[must_use]
    pub fn bits(self) -> u16 {
        match self {
            Self::P256 | Self::BnP256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }
}

/// A point in affine coordinates. Where it is a result, both have [`Curve::size`] bytes.
///
/// Wiped after use, since some points are shared secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// x coordinate
    pub x: Vec<u8>,
    /// y coordinate
    pub y: Vec<u8>,
}

impl Drop for Point {
    fn drop(&mut self) {
        self.x.zeroize();
        self.y.zeroize();
    }
}

/// The numbers that define a curve y² = x³ + ax + b over the field of p elements. All have
/// [`Curve::size`] bytes; the cofactor of every supported curve is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurveParameters {
    /// Prime of the field
    pub p: Vec<u8>,
    /// Coefficient a
    pub a: Vec<u8>,
    /// Coefficient b
    pub b: Vec<u8>,
    /// Base point
    pub g: Point,
    /// Order of the base point
    pub n: Vec<u8>,
}

/// Modes of the block cipher (TPM 2.0 Library, Part 2, 6.3, `TPM_ALG_CTR` and following).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherMode {
    /// Counter
    Ctr,
    /// Output feedback
    Ofb,
    /// Cipher block chaining
    Cbc,
    /// Cipher feedback
    Cfb,
    /// Electronic codebook
    Ecb,
}

/// How a message is padded for RSA encryption (Part 1, B.3 to B.5).
#[derive(Debug, Clone, Copy)]
pub enum RsaPadding<'a> {
    /// None: the data is a number below the modulus.
    Null,
    /// RSAES_PKCS1-v1_5
    Rsaes,
    /// RSAES_OAEP; `label` includes its final NUL.
    Oaep {
        /// Hash of the label and of the mask generation
        hash: HashAlg,
        /// The label as it is hashed
        label: &'a [u8],
    },
}

/// RSA signature schemes, with the hash that made the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaScheme {
    /// RSASSA_PKCS1-v1_5
    Rsassa(HashAlg),
    /// RSASSA_PSS; signs with the longest salt that fits, at most the size of the digest;
    /// verifies any length of salt.
    Pss(HashAlg),
}

/// Public part of an RSA key.
#[derive(Debug, Clone, Copy)]
pub struct RsaPublic<'a> {
    /// Modulus
    pub n: &'a [u8],
    /// Public exponent, not 0
    pub e: u32,
}

/// An RSA key as the TPM stores it: the public part and one prime.
#[derive(Clone, Copy)]
pub struct RsaPrivate<'a> {
    /// Modulus
    pub n: &'a [u8],
    /// Public exponent, not 0
    pub e: u32,
    /// One of the two primes
    pub p: &'a [u8],
}

impl<'a> RsaPrivate<'a> {
    /// The public part.
    #[must_use]
    pub fn public(&self) -> RsaPublic<'a> {
        RsaPublic {
            n: self.n,
            e: self.e,
        }
    }
}

/// A signature of two numbers, each of [`Curve::size`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EccSignature {
    /// `signatureR`
    pub r: Vec<u8>,
    /// `signatureS`
    pub s: Vec<u8>,
}

/// Result of an operation.
pub type Result<T> = core::result::Result<T, CryptoError>;

/// Public-key and block-cipher operations.
pub trait Crypto {
    /// Makes an RSA key of `bits` bits and public exponent `e`: the modulus and one prime.
    ///
    /// # Errors
    /// `Value` unless `bits` is 1024, 2048, 3072 or 4096 and `e` is an odd number above 2¹⁶; `Random`.
    fn rsa_generate(&self, bits: u16, e: u32, rng: &mut dyn Rng) -> Result<(Vec<u8>, Bytes)>;

    /// Checks that the prime divides the modulus into two numbers of half its size.
    ///
    /// # Errors
    /// `Key` when it does not; `Value` for a size or exponent not supported.
    fn rsa_check(&self, key: &RsaPrivate<'_>) -> Result<()>;

    /// Signs a digest; blinded, and verified before it is returned.
    ///
    /// # Errors
    /// `Value` when the digest has not the size of the hash or the key is too small for the
    /// scheme; `Key`; `Random`; `Internal`.
    fn rsa_sign(
        &self,
        key: &RsaPrivate<'_>,
        scheme: RsaScheme,
        digest: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Vec<u8>>;

    /// Verifies a signature of a digest.
    ///
    /// # Errors
    /// `Signature` when it is not one; `Value` as in [`Crypto::rsa_sign`].
    fn rsa_verify(
        &self,
        key: &RsaPublic<'_>,
        scheme: RsaScheme,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<()>;

    /// Encrypts; the result has the size of the modulus.
    ///
    /// # Errors
    /// `Value` when the data is too long for the padding (or, without padding, not below the
    /// modulus); `Random`.
    fn rsa_encrypt(
        &self,
        key: &RsaPublic<'_>,
        padding: RsaPadding<'_>,
        data: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Vec<u8>>;

    /// Decrypts; without padding the result has the size of the modulus.
    ///
    /// # Errors
    /// `Value` when the data is not below the modulus; `Padding`; `Key`; `Random`; `Internal`.
    fn rsa_decrypt(
        &self,
        key: &RsaPrivate<'_>,
        padding: RsaPadding<'_>,
        data: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Bytes>;

    /// Makes a key pair with extra random bits (Part 1, C.8): the private number and its point.
    ///
    /// # Errors
    /// `Random`.
    fn ecc_generate(&self, curve: Curve, rng: &mut dyn Rng) -> Result<(Bytes, Point)>;

    /// The point of a private number.
    ///
    /// # Errors
    /// `Value` when the number is 0 or not below the order.
    fn ecc_public(&self, curve: Curve, d: &[u8]) -> Result<Point>;

    /// Whether the point is on the curve. Coordinates not below p, whatever their length, are not.
    fn ecc_on_curve(&self, curve: Curve, point: &Point) -> bool;

    /// d·P.
    ///
    /// # Errors
    /// `Value` when P is not on the curve, d is not below the order, or the result is infinity.
    fn ecc_multiply(&self, curve: Curve, d: &[u8], point: &Point) -> Result<Point>;

    /// a·P + b·Q.
    ///
    /// # Errors
    /// As for [`Crypto::ecc_multiply`].
    fn ecc_multiply_add(
        &self,
        curve: Curve,
        a: &[u8],
        p: &Point,
        b: &[u8],
        q: &Point,
    ) -> Result<Point>;

    /// a·b + c modulo the order, of [`Curve::size`] bytes. Inputs of up to 2048 bits are reduced.
    ///
    /// # Errors
    /// `Value` for a longer input.
    fn ecc_scalar_multiply_add(&self, curve: Curve, a: &[u8], b: &[u8], c: &[u8]) -> Result<Bytes>;

    /// The numbers that define the curve.
    fn ecc_parameters(&self, curve: Curve) -> CurveParameters;

    /// Signs a digest of any length with ECDSA; verified before it is returned.
    ///
    /// # Errors
    /// `Value` when d is out of range; `Random`; `Internal`.
    fn ecdsa_sign(
        &self,
        curve: Curve,
        d: &[u8],
        digest: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<EccSignature>;

    /// Verifies an ECDSA signature.
    ///
    /// # Errors
    /// `Signature` when it is not one; `Value` when the point is not on the curve.
    fn ecdsa_verify(
        &self,
        curve: Curve,
        point: &Point,
        digest: &[u8],
        signature: &EccSignature,
    ) -> Result<()>;

    /// Signs a digest with EC-Schnorr (Part 1, C.4.3); verified before it is returned.
    ///
    /// # Errors
    /// As for [`Crypto::ecdsa_sign`].
    fn ecschnorr_sign(
        &self,
        curve: Curve,
        d: &[u8],
        hash: HashAlg,
        digest: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<EccSignature>;

    /// Verifies an EC-Schnorr signature.
    ///
    /// # Errors
    /// As for [`Crypto::ecdsa_verify`].
    fn ecschnorr_verify(
        &self,
        curve: Curve,
        point: &Point,
        hash: HashAlg,
        digest: &[u8],
        signature: &EccSignature,
    ) -> Result<()>;

    /// Encrypts or decrypts `data` in place with AES, the key having 16, 24 or 32 bytes.
    ///
    /// `iv` has 16 bytes (none for ECB) and is replaced by the value that continues the chain.
    ///
    /// # Errors
    /// `Value` when key or `iv` has another size, or `data` is not whole blocks in CBC or ECB.
    fn aes(
        &self,
        key: &[u8],
        mode: CipherMode,
        encrypt: bool,
        iv: &mut [u8],
        data: &mut [u8],
    ) -> Result<()>;
}

/// [`Crypto`] in Rust.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl Crypto for Native {
    fn rsa_generate(&self, bits: u16, e: u32, rng: &mut dyn Rng) -> Result<(Vec<u8>, Bytes)> {
        rsa::generate(bits, e, rng)
    }
    fn rsa_check(&self, key: &RsaPrivate<'_>) -> Result<()> {
        rsa::Key::load(key).map(|_| ())
    }
    fn rsa_sign(
        &self,
        key: &RsaPrivate<'_>,
        scheme: RsaScheme,
        digest: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Vec<u8>> {
        rsa::sign(key, scheme, digest, rng)
    }
    fn rsa_verify(
        &self,
        key: &RsaPublic<'_>,
        scheme: RsaScheme,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        rsa::verify(key, scheme, digest, signature)
    }
    fn rsa_encrypt(
        &self,
        key: &RsaPublic<'_>,
        padding: RsaPadding<'_>,
        data: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Vec<u8>> {
        rsa::encrypt(key, padding, data, rng)
    }
    fn rsa_decrypt(
        &self,
        key: &RsaPrivate<'_>,
        padding: RsaPadding<'_>,
        data: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Bytes> {
        rsa::decrypt(key, padding, data, rng)
    }
    fn ecc_generate(&self, curve: Curve, rng: &mut dyn Rng) -> Result<(Bytes, Point)> {
        ecc::generate(curve, rng)
    }
    fn ecc_public(&self, curve: Curve, d: &[u8]) -> Result<Point> {
        ecc::public(curve, d)
    }
    fn ecc_on_curve(&self, curve: Curve, point: &Point) -> bool {
        ecc::on_curve(curve, point)
    }
    fn ecc_multiply(&self, curve: Curve, d: &[u8], point: &Point) -> Result<Point> {
        ecc::multiply(curve, d, point)
    }
    fn ecc_multiply_add(
        &self,
        curve: Curve,
        a: &[u8],
        p: &Point,
        b: &[u8],
        q: &Point,
    ) -> Result<Point> {
        ecc::multiply_add(curve, (a, p), (b, q))
    }
    fn ecc_scalar_multiply_add(&self, curve: Curve, a: &[u8], b: &[u8], c: &[u8]) -> Result<Bytes> {
        ecc::scalar_multiply_add(curve, a, b, c)
    }
    fn ecc_parameters(&self, curve: Curve) -> CurveParameters {
        ecc::parameters(curve)
    }
    fn ecdsa_sign(
        &self,
        curve: Curve,
        d: &[u8],
        digest: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<EccSignature> {
        ecdsa::sign(curve, d, digest, rng)
    }
    fn ecdsa_verify(
        &self,
        curve: Curve,
        point: &Point,
        digest: &[u8],
        signature: &EccSignature,
    ) -> Result<()> {
        ecdsa::verify(curve, point, digest, signature)
    }
    fn ecschnorr_sign(
        &self,
        curve: Curve,
        d: &[u8],
        hash: HashAlg,
        digest: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<EccSignature> {
        ecschnorr::sign(curve, d, hash, digest, rng)
    }
    fn ecschnorr_verify(
        &self,
        curve: Curve,
        point: &Point,
        hash: HashAlg,
        digest: &[u8],
        signature: &EccSignature,
    ) -> Result<()> {
        ecschnorr::verify(curve, point, hash, digest, signature)
    }
    fn aes(
        &self,
        key: &[u8],
        mode: CipherMode,
        encrypt: bool,
        iv: &mut [u8],
        data: &mut [u8],
    ) -> Result<()> {
        symmetric::aes(key, mode, encrypt, iv, data)
    }
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
#[must_use]
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.len() == b.len() && bool::from(a.ct_eq(b))
}
