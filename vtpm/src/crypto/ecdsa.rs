//! ECDSA (FIPS 186-5, section 6; TPM 2.0 Library, Part 1, C.4.2).
//!
//! Always true: the per-message number is derived from key, digest and fresh random bytes
//! together (RFC 6979 with additional data), so a weak random source alone gives nothing away.

use ::ecdsa::{
    Signature,
    elliptic_curve::{FieldBytes, Group as _, NonZeroScalar, ProjectivePoint, ops::Invert as _},
    hazmat,
};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::{
    CryptoError, Curve, EccSignature, Point, Result, Rng,
    ecc::{Supported, affine, field_bytes, private, reduce, to_point, with_curve},
};

/// Bytes of the longest digest.
const LONGEST_DIGEST: usize = 64;

/// See [`super::Crypto::ecdsa_sign`].
pub(super) fn sign(
    curve: Curve,
    d: &[u8],
    digest: &[u8],
    rng: &mut dyn Rng,
) -> Result<EccSignature> {
    if digest.len() > LONGEST_DIGEST {
        return Err(CryptoError::Value);
    }
    with_curve!(curve, C => {
        let d = private::<C>(d)?;
        let mut fresh = Zeroizing::new([0; 32]);
        rng.fill(&mut *fresh)?;
        let (signature, _) = hazmat::sign_prehashed_rfc6979::<C, Sha512>(&d, digest, &*fresh);
        check::<C>(&d, digest, &signature)?;
        let (r, s) = signature.split_bytes();
        Ok(EccSignature { r: r.to_vec(), s: s.to_vec() })
    })
}

/// Verifies a fresh signature. With the private number at hand the two multiplications of
/// [`verify`] become one, of the base point by (z + r·d)/s.
fn check<C: Supported>(
    d: &NonZeroScalar<C>,
    digest: &[u8],
    signature: &Signature<C>,
) -> Result<()> {
    let (r, s) = signature.split_scalars();
    let inverse = Zeroizing::new(s.invert());
    let z = reduce::<C>(&digest[..digest.len().min(FieldBytes::<C>::default().len())])?;
    let k = Zeroizing::new((*z + *r * **d) * **inverse);
    let point = to_point::<C>(ProjectivePoint::<C>::mul_by_generator(&*k))?;
    let expected = reduce::<C>(&point.x)?;
    if *expected == *r {
        Ok(())
    } else {
        Err(CryptoError::Internal)
    }
}

/// See [`super::Crypto::ecdsa_verify`].
pub(super) fn verify(
    curve: Curve,
    point: &Point,
    digest: &[u8],
    signature: &EccSignature,
) -> Result<()> {
    with_curve!(curve, C => {
        let public = ProjectivePoint::<C>::from(affine::<C>(point)?);
        let signature = parse::<C>(signature).map_err(|_| CryptoError::Signature)?;
        hazmat::verify_prehashed(&public, digest, &signature).map_err(|_| CryptoError::Signature)
    })
}

fn parse<C: Supported>(signature: &EccSignature) -> Result<Signature<C>> {
    let (r, s) = (
        field_bytes::<C>(&signature.r)?,
        field_bytes::<C>(&signature.s)?,
    );
    Signature::from_scalars(r, s).map_err(|_| CryptoError::Signature)
}
