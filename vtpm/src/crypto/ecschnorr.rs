//! EC-Schnorr signatures (TPM 2.0 Library, Part 1, C.4.3).
//!
//! Always true: the per-message number is drawn as a private key is, and a signature is
//! verified before it leaves.

use ecdsa::elliptic_curve::{Group as _, PrimeField as _, ProjectivePoint, Scalar};
use zeroize::Zeroizing;

use super::{
    CryptoError, Curve, EccSignature, HashAlg, Point, Result, Rng, ct_eq,
    ecc::{Supported, affine, draw, field_bytes, private, reduce, to_point, with_curve},
    hash,
};

/// Tries before giving up; one fails with negligible probability.
const TRIES: usize = 8;

/// See [`super::Crypto::ecschnorr_sign`].
pub(super) fn sign(
    curve: Curve,
    d: &[u8],
    alg: HashAlg,
    digest: &[u8],
    rng: &mut dyn Rng,
) -> Result<EccSignature> {
    with_curve!(curve, C => {
        let d = private::<C>(d)?;
        let public = to_point::<C>(ProjectivePoint::<C>::mul_by_generator(&d))?;
        for _ in 0..TRIES {
            let k = draw::<C>(curve.bits(), rng)?;
            let ephemeral = to_point::<C>(ProjectivePoint::<C>::mul_by_generator(&k))?;
            let r = challenge::<C>(alg, &ephemeral, digest)?;
            let s = Zeroizing::new(**k + *r * **d);
            let signature = EccSignature { r: r.to_repr().to_vec(), s: s.to_repr().to_vec() };
            match verify(curve, &public, alg, digest, &signature) {
                Ok(()) => return Ok(signature),
                // r or s is 0, which no verifier accepts: the specification draws again.
                Err(_) if is_zero(&signature.r) || is_zero(&signature.s) => {}
                Err(_) => return Err(CryptoError::Internal),
            }
        }
        Err(CryptoError::Random)
    })
}

/// See [`super::Crypto::ecschnorr_verify`].
pub(super) fn verify(
    curve: Curve,
    point: &Point,
    alg: HashAlg,
    digest: &[u8],
    signature: &EccSignature,
) -> Result<()> {
    with_curve!(curve, C => {
        let public = ProjectivePoint::<C>::from(affine::<C>(point)?);
        let bad = |_| CryptoError::Signature;
        let r = private::<C>(&signature.r).map_err(bad)?;
        let s = private::<C>(&signature.s).map_err(bad)?;
        let ephemeral = ProjectivePoint::<C>::mul_by_generator(&s) - public * **r;
        let ephemeral = to_point::<C>(ephemeral).map_err(bad)?;
        let expected = challenge::<C>(alg, &ephemeral, digest)?;
        let given = field_bytes::<C>(&signature.r)?;
        if ct_eq(&expected.to_repr(), &given) { Ok(()) } else { Err(CryptoError::Signature) }
    })
}

/// The hash of the ephemeral x coordinate and the digest, modulo the order.
fn challenge<C: Supported>(
    alg: HashAlg,
    ephemeral: &Point,
    digest: &[u8],
) -> Result<Zeroizing<Scalar<C>>> {
    reduce::<C>(&hash(alg, &[&ephemeral.x, digest]))
}

fn is_zero(number: &[u8]) -> bool {
    number.iter().all(|&byte| byte == 0)
}
