//! ECDSA (FIPS 186-5, section 6; TPM 2.0 Library, Part 1, C.4.2).
//!
//! Always true: the per-message number is derived from key, digest and fresh random bytes
//! together (RFC 6979 with additional data), so a weak random source alone gives nothing away.

use ::ecdsa::{Signature, elliptic_curve::ProjectivePoint, hazmat};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::{
    CryptoError, Curve, EccSignature, Point, Result, Rng,
    ecc::{Supported, affine, field_bytes, private, with_curve},
};

/// See [`super::Crypto::ecdsa_sign`].
pub(super) fn sign(
    curve: Curve,
    d: &[u8],
    digest: &[u8],
    rng: &mut dyn Rng,
) -> Result<EccSignature> {
    with_curve!(curve, C => {
        let d = private::<C>(d)?;
        let mut fresh = Zeroizing::new([0; 32]);
        rng.fill(&mut *fresh)?;
        let (signature, _) = hazmat::sign_prehashed_rfc6979::<C, Sha512>(&d, digest, &*fresh);
        use ::ecdsa::elliptic_curve::Group as _;
        let public = ProjectivePoint::<C>::mul_by_generator(&d);
        hazmat::verify_prehashed(&public, digest, &signature).map_err(|_| CryptoError::Internal)?;
        let (r, s) = signature.split_bytes();
        Ok(EccSignature { r: r.to_vec(), s: s.to_vec() })
    })
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
