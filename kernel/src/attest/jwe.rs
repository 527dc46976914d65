//! Decryption of the secret: a JWE with `alg` ECDH-ES+A256KW and `enc` A256GCM
//! (RFC 7516; RFC 7518, sections 4.6 and 5.3).
//!
//! Every length is checked before anything is computed, every intermediate key is
//! wiped, and a plaintext exists only after its tag was found right.

use super::ecdh::{EphemeralKey, NamedCurve, Point, PointError};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aes_kw::KwAes256;
use alloc::vec::Vec;
use libaproxy::v0_1::{Decryption, EcPublicKey};
use libaproxy::v0_2::JweParts;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Key length of A256KW and A256GCM in bytes.
const KEY_LEN: usize = 32;

/// Why the secret cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JweError {
    /// A part has a length the algorithms do not have.
    #[error("{part} of {found} bytes instead of {expected}")]
    Length {
        /// Which part.
        part: &'static str,
        /// Length of the algorithm.
        expected: usize,
        /// Length that arrived.
        found: usize,
    },
    /// The sender's ephemeral key is not usable.
    #[error(transparent)]
    Point(#[from] PointError),
    /// The wrapped key was made for another key or changed on the way.
    #[error("the content key does not unwrap with this exchange's key")]
    Unwrap,
    /// The ciphertext, its IV, its tag or the header was changed on the way.
    #[error("the authentication tag does not match")]
    Tag,
}

/// An encrypted secret as it arrived, of whatever version of the protocol. Lengths are not
/// checked yet.
#[derive(Debug)]
pub struct Encrypted<'a> {
    epk: Point,
    wrapped_key: &'a [u8],
    iv: &'a [u8],
    tag: &'a [u8],
    aad: &'a [u8],
    ciphertext: Vec<u8>,
}

impl<'a> Encrypted<'a> {
    /// Of version 0.1.0.
    pub fn v0_1(parts: &'a Decryption, ciphertext: Vec<u8>) -> Self {
        let EcPublicKey { x, y } = &parts.epk;
        Self {
            epk: Point {
                x: x.to_vec(),
                y: y.to_vec(),
            },
            wrapped_key: &parts.wrapped_cek,
            iv: &parts.iv,
            tag: &parts.tag,
            aad: &parts.aad,
            ciphertext,
        }
    }

    /// Of version 0.2.0.
    pub fn v0_2(parts: &'a JweParts<'_>) -> Self {
        Self {
            epk: Point {
                x: parts.x.clone(),
                y: parts.y.clone(),
            },
            wrapped_key: &parts.encrypted_key,
            iv: &parts.iv,
            tag: &parts.tag,
            aad: parts.protected.as_bytes(),
            ciphertext: parts.ciphertext.clone(),
        }
    }
}

/// Decrypts what was encrypted to `key`.
pub fn decrypt<C: NamedCurve>(
    key: &EphemeralKey<C>,
    encrypted: Encrypted<'_>,
) -> Result<Zeroizing<Vec<u8>>, JweError> {
    let wrapped: &[u8; KEY_LEN + 8] = exactly("wrapped key", encrypted.wrapped_key)?;
    let iv: &[u8; 12] = exactly("IV", encrypted.iv)?;
    let tag: &[u8; 16] = exactly("authentication tag", encrypted.tag)?;

    let z = key.agree(&encrypted.epk)?;
    let kek = key_encryption_key(z.raw_secret_bytes());
    let mut cek = Zeroizing::new([0; KEY_LEN]);
    KwAes256::new((&*kek).into())
        .unwrap_key(wrapped, &mut *cek)
        .map_err(|_| JweError::Unwrap)?;

    let mut text = Zeroizing::new(encrypted.ciphertext);
    Aes256Gcm::new((&*cek).into())
        .decrypt_inout_detached(
            iv.into(),
            encrypted.aad,
            text.as_mut_slice().into(),
            tag.into(),
        )
        .map_err(|_| JweError::Tag)?;
    Ok(text)
}

fn exactly<'a, const N: usize>(
    part: &'static str,
    bytes: &'a [u8],
) -> Result<&'a [u8; N], JweError> {
    bytes.try_into().map_err(|_| JweError::Length {
        part,
        expected: N,
        found: bytes.len(),
    })
}

/// The key that wraps the content key: Concat KDF (NIST SP 800-56A, section 5.8.2.1)
/// with SHA-256, whose one round is all it takes for 256 bits. The fields are those of
/// RFC 7518, section 4.6.2, with `apu` and `apv` absent.
fn key_encryption_key(z: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    const ALGORITHM: &[u8] = b"ECDH-ES+A256KW";
    const ROUND: u32 = 1;
    const NO_PARTY_INFO: u32 = 0;
    let mut hash = Sha256::new();
    hash.update(ROUND.to_be_bytes());
    hash.update(z);
    hash.update((ALGORITHM.len() as u32).to_be_bytes());
    hash.update(ALGORITHM);
    hash.update(NO_PARTY_INFO.to_be_bytes());
    hash.update(NO_PARTY_INFO.to_be_bytes());
    hash.update((KEY_LEN as u32 * 8).to_be_bytes());
    let mut key = Zeroizing::new([0; KEY_LEN]);
    hash.finalize_into((&mut *key).into());
    key
}
