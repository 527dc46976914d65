//! RSASSA-PKCS1-v1_5 verification (RFC 8017, section 8.2.2).
//!
//! Everything in here is public, so nothing has to take constant time.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U64, U2048, U3072, U4096, Uint};
use der::Tag;

use super::AuthError;
use super::asn1::whole;
use super::cms::Digest;

/// An RSA public key of 2048 to 4096 bits.
#[derive(Clone, Copy, Debug)]
pub struct RsaKey<'a> {
    /// Big-endian, without leading zeros.
    modulus: &'a [u8],
    exponent: u64,
}

impl<'a> RsaKey<'a> {
    /// Reads an RSAPublicKey (RFC 8017, appendix A.1.1).
    pub fn parse(key: &'a [u8]) -> Result<Self, AuthError> {
        let mut parts = whole(key)?.inside(Tag::Sequence)?;
        let modulus = unsigned(parts.element()?.integer()?)?;
        let exponent = unsigned(parts.element()?.integer()?)?;
        parts.end()?;
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |b| b.leading_zeros() as usize);
        let exponent = exponent
            .iter()
            .try_fold(0_u64, |n, byte| {
                n.checked_mul(256)?.checked_add(u64::from(*byte))
            })
            .ok_or(AuthError::PublicKey)?;
        let odd = modulus.last().is_some_and(|byte| byte % 2 == 1);
        if !(2048..=4096).contains(&bits) || !odd || exponent < 3 || exponent % 2 == 0 {
            return Err(AuthError::PublicKey);
        }
        Ok(Self { modulus, exponent })
    }

    /// Verifies a signature over a message with this digest.
    pub fn verify(&self, digest: &Digest, signature: &[u8]) -> Result<(), AuthError> {
        if signature.len() != self.modulus.len() {
            return Err(AuthError::BadSignature);
        }
        let mut message = [0; 512];
        let message = &mut message[512 - self.modulus.len()..];
        let opened = match self.modulus.len() {
            ..=256 => power::<{ U2048::LIMBS }>(signature, self.exponent, self.modulus, message),
            257..=384 => power::<{ U3072::LIMBS }>(signature, self.exponent, self.modulus, message),
            _ => power::<{ U4096::LIMBS }>(signature, self.exponent, self.modulus, message),
        };
        if opened.is_some() && is_padded(message, digest) {
            Ok(())
        } else {
            Err(AuthError::BadSignature)
        }
    }
}

/// A positive INTEGER without its sign byte.
fn unsigned(value: &[u8]) -> Result<&[u8], AuthError> {
    match value {
        [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => Ok(rest),
        [first, ..] if (1..0x80).contains(first) => Ok(value),
        _ => Err(AuthError::PublicKey),
    }
}

/// `base` to the power of `exponent`, as many bytes as the modulus has; `None` if the base
/// is not smaller than the modulus.
fn power<const LIMBS: usize>(
    base: &[u8],
    exponent: u64,
    modulus: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let base = number::<LIMBS>(base);
    let modulus = number::<LIMBS>(modulus);
    if base >= modulus {
        return None;
    }
    let modulus = Option::from(Odd::new(modulus))?;
    let params = FixedMontyParams::new_vartime(modulus);
    let bits = u64::BITS - exponent.leading_zeros();
    let power = FixedMontyForm::new(&base, &params)
        .pow_bounded_exp(&U64::from_u64(exponent), bits)
        .retrieve();
    for (bytes, word) in out.rchunks_mut(8).zip(power.to_words()) {
        bytes.copy_from_slice(&word.to_be_bytes()[8 - bytes.len()..]);
    }
    Some(())
}

fn number<const LIMBS: usize>(bytes: &[u8]) -> Uint<LIMBS> {
    let mut words = [0; LIMBS];
    for (word, bytes) in words.iter_mut().zip(bytes.rchunks(8)) {
        *word = bytes
            .iter()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte));
    }
    Uint::from_words(words)
}

/// Whether this is EMSA-PKCS1-v1_5 (RFC 8017, section 9.2) of the digest.
fn is_padded(message: &[u8], digest: &Digest) -> bool {
    let prefix = digest.algorithm.digest_info();
    let digest = digest.bytes();
    let tail = prefix.len() + digest.len();
    let Some(padding) = message.len().checked_sub(3 + tail).filter(|len| *len >= 8) else {
        return false;
    };
    message[..2] == [0, 1]
        && message[2..2 + padding].iter().all(|byte| *byte == 0xff)
        && message[2 + padding] == 0
        && message[3 + padding..][..prefix.len()] == *prefix
        && message[3 + padding + prefix.len()..] == *digest
}
