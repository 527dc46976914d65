//! Elliptic curves: key generation and arithmetic on numbers and points.
//!
//! Always true: a point that came in was checked to be on its curve before it is multiplied;
//! infinity never goes out.

use alloc::vec;

use ecdsa::{
    EcdsaCurve,
    elliptic_curve::{
        AffinePoint, Field as _, FieldBytes, Group as _, NonZeroScalar, PrimeField as _,
        ProjectivePoint, Scalar, ops::LinearCombination as _, point::AffineCoordinates as _,
    },
};
use primeorder::PrimeCurveParams;
use zeroize::Zeroizing;

use super::{Bytes, CryptoError, Curve, CurveParameters, Point, Result, Rng};

/// What the generic functions need from a curve.
pub(super) trait Supported: EcdsaCurve + PrimeCurveParams {}
impl<C: EcdsaCurve + PrimeCurveParams> Supported for C {}

/// Runs `$body` with the type `$C` of a [`Curve`], each in a frame of its own on the stack: those
/// of all curves together, as an optimiser puts them into one, would take 17 KB.
macro_rules! with_curve {
    ($curve:expr, $C:ident => $body:expr) => {
        match $curve {
            $crate::crypto::Curve::P256 => {
                type $C = p256::NistP256;
                $crate::crypto::ecc::apart(|| $body)
            }
            $crate::crypto::Curve::P384 => {
                type $C = p384::NistP384;
                $crate::crypto::ecc::apart(|| $body)
            }
            $crate::crypto::Curve::P521 => {
                type $C = p521::NistP521;
                $crate::crypto::ecc::apart(|| $body)
            }
            $crate::crypto::Curve::BnP256 => {
                type $C = $crate::crypto::bn_p256::BnP256;
                $crate::crypto::ecc::apart(|| $body)
            }
        }
    };
}
pub(super) use with_curve;

/// A call that is never merged into its caller.
#[inline(never)]
pub(super) fn apart<T>(action: impl FnOnce() -> T) -> T {
    action()
}

/// Longest number that is reduced, in bytes.
const LONGEST: usize = 256;

/// Draws before the random source is called broken. A number is too large once in 2³² times
/// on the smaller curves and never after masking on the largest.
const TRIES: usize = 64;

/// Bytes of a field element or scalar from a number of any length.
pub(super) fn field_bytes<C: Supported>(number: &[u8]) -> Result<FieldBytes<C>> {
    let mut bytes = FieldBytes::<C>::default();
    let zeros = number.len().saturating_sub(bytes.len());
    let (zeros, rest) = number.split_at(zeros);
    if zeros.iter().any(|&byte| byte != 0) {
        return Err(CryptoError::Value);
    }
    let start = bytes.len() - rest.len();
    bytes[start..].copy_from_slice(rest);
    Ok(bytes)
}

/// A number below the order.
fn scalar<C: Supported>(number: &[u8]) -> Result<Zeroizing<Scalar<C>>> {
    let bytes = Zeroizing::new(field_bytes::<C>(number)?);
    let scalar = Scalar::<C>::from_repr(*bytes).into_option();
    scalar.map(Zeroizing::new).ok_or(CryptoError::Value)
}

/// A number from 1 to the order less 1.
pub(super) fn private<C: Supported>(number: &[u8]) -> Result<Zeroizing<NonZeroScalar<C>>> {
    let private = NonZeroScalar::<C>::new(*scalar::<C>(number)?).into_option();
    private.map(Zeroizing::new).ok_or(CryptoError::Value)
}

/// A number of any size modulo the order.
pub(super) fn reduce<C: Supported>(number: &[u8]) -> Result<Zeroizing<Scalar<C>>> {
    // Leading zeros of a secret are not to be seen in the time it takes.
    let (zeros, number) = number.split_at(number.len().saturating_sub(LONGEST));
    if zeros.iter().any(|&byte| byte != 0) {
        return Err(CryptoError::Value);
    }
    let step = Scalar::<C>::from(256);
    let mut sum = Zeroizing::new(Scalar::<C>::ZERO);
    for &byte in number {
        *sum = *sum * step + Scalar::<C>::from(u64::from(byte));
    }
    Ok(sum)
}

/// A point that is on the curve.
pub(super) fn affine<C: Supported>(point: &Point) -> Result<AffinePoint<C>> {
    let (x, y) = (field_bytes::<C>(&point.x)?, field_bytes::<C>(&point.y)?);
    AffinePoint::<C>::from_coordinates(&x, &y)
        .into_option()
        .ok_or(CryptoError::Value)
}

pub(super) fn to_point<C: Supported>(point: ProjectivePoint<C>) -> Result<Point> {
    if bool::from(point.is_identity()) {
        return Err(CryptoError::Value);
    }
    let affine = point.to_affine();
    Ok(Point {
        x: affine.x().to_vec(),
        y: affine.y().to_vec(),
    })
}

/// Draws a number from 1 to the order less 1 by rejection (FIPS 186-5, A.2.2).
pub(super) fn draw<C: Supported>(
    bits: u16,
    rng: &mut dyn Rng,
) -> Result<Zeroizing<NonZeroScalar<C>>> {
    let mut bytes = Zeroizing::new(FieldBytes::<C>::default());
    let unused = 8 * bytes.len() - usize::from(bits);
    for _ in 0..TRIES {
        rng.fill(&mut bytes)?;
        bytes[0] &= 0xFF >> unused;
        if let Ok(found) = private::<C>(&bytes) {
            return Ok(found);
        }
    }
    Err(CryptoError::Random)
}

/// See [`super::Crypto::ecc_generate`].
pub(super) fn generate(curve: Curve, rng: &mut dyn Rng) -> Result<(Bytes, Point)> {
    with_curve!(curve, C => {
        let d = draw::<C>(curve.bits(), rng)?;
        let point = to_point::<C>(ProjectivePoint::<C>::mul_by_generator(&d))?;
        Ok((Bytes::new(d.to_repr().to_vec()), point))
    })
}

/// See [`super::Crypto::ecc_public`].
pub(super) fn public(curve: Curve, d: &[u8]) -> Result<Point> {
    with_curve!(curve, C => {
        let d = private::<C>(d)?;
        to_point::<C>(ProjectivePoint::<C>::mul_by_generator(&d))
    })
}

/// See [`super::Crypto::ecc_on_curve`].
pub(super) fn on_curve(curve: Curve, point: &Point) -> bool {
    with_curve!(curve, C => affine::<C>(point).is_ok())
}

/// See [`super::Crypto::ecc_multiply`].
pub(super) fn multiply(curve: Curve, d: &[u8], point: &Point) -> Result<Point> {
    with_curve!(curve, C => {
        let point = ProjectivePoint::<C>::from(affine::<C>(point)?);
        to_point::<C>(point * *scalar::<C>(d)?)
    })
}

/// See [`super::Crypto::ecc_multiply_add`].
pub(super) fn multiply_add(
    curve: Curve,
    (a, p): (&[u8], &Point),
    (b, q): (&[u8], &Point),
) -> Result<Point> {
    with_curve!(curve, C => {
        let terms = Zeroizing::new([
            (ProjectivePoint::<C>::from(affine::<C>(p)?), *scalar::<C>(a)?),
            (ProjectivePoint::<C>::from(affine::<C>(q)?), *scalar::<C>(b)?),
        ]);
        to_point::<C>(ProjectivePoint::<C>::lincomb(&*terms))
    })
}

/// See [`super::Crypto::ecc_scalar_multiply_add`].
pub(super) fn scalar_multiply_add(curve: Curve, a: &[u8], b: &[u8], c: &[u8]) -> Result<Bytes> {
    with_curve!(curve, C => {
        let (a, b, c) = (reduce::<C>(a)?, reduce::<C>(b)?, reduce::<C>(c)?);
        let sum = Zeroizing::new(*a * *b + *c);
        Ok(Bytes::new(sum.to_repr().to_vec()))
    })
}

/// See [`super::Crypto::ecc_parameters`].
pub(super) fn parameters(curve: Curve) -> CurveParameters {
    /// The modulus of a field: one more than its largest element, which is even.
    fn modulus<F: ecdsa::elliptic_curve::PrimeField>() -> vec::Vec<u8> {
        let mut bytes = (-F::ONE).to_repr().as_ref().to_vec();
        if let Some(last) = bytes.last_mut() {
            *last |= 1;
        }
        bytes
    }
    fn of<C: Supported>() -> CurveParameters {
        let (x, y) = C::GENERATOR;
        CurveParameters {
            p: modulus::<C::FieldElement>(),
            a: C::EQUATION_A.to_repr().to_vec(),
            b: C::EQUATION_B.to_repr().to_vec(),
            g: Point {
                x: x.to_repr().to_vec(),
                y: y.to_repr().to_vec(),
            },
            n: modulus::<Scalar<C>>(),
        }
    }
    with_curve!(curve, C => of::<C>())
}
