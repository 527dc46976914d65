//! The ephemeral key, and key agreement with it.
//!
//! One key per exchange, never stored, wiped when dropped. Nothing that arrives is
//! used as a point before it was found to be one. Generic over the curve: another one
//! is an `impl NamedCurve`.

use crate::entropy::{Entropy, EntropyError};
use alloc::vec::Vec;
use elliptic_curve::bigint::BitOps;
use elliptic_curve::ecdh::SharedSecret;
use elliptic_curve::sec1::{FromSec1Point, ModulusSize, Sec1Point, ToSec1Point};
use elliptic_curve::{CurveArithmetic, FieldBytes, PublicKey, SecretKey};
use libaproxy::v0_2::Curve;
use p521::elliptic_curve;
use zeroize::Zeroizing;

/// A curve with the arithmetic and the name it takes to use it here.
pub trait NamedCurve:
    CurveArithmetic<AffinePoint: FromSec1Point<Self> + ToSec1Point<Self>, FieldBytesSize: ModulusSize>
{
    /// Which curve it is.
    const CURVE: Curve;
}

impl NamedCurve for p256::NistP256 {
    const CURVE: Curve = Curve::P256;
}

impl NamedCurve for p384::NistP384 {
    const CURVE: Curve = Curve::P384;
}

impl NamedCurve for p521::NistP521 {
    const CURVE: Curve = Curve::P521;
}

/// A point in affine coordinates: big-endian, as long as the field where it is one of
/// ours, of any length where it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// x-coordinate.
    pub x: Vec<u8>,
    /// y-coordinate.
    pub y: Vec<u8>,
}

/// Why a public key that arrived is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// It is on another curve than the own key.
    #[error("ephemeral key on {found} instead of {expected}")]
    Curve {
        /// The own key's curve.
        expected: Curve,
        /// The curve of the key that arrived.
        found: Curve,
    },
    /// A coordinate has another length than the curve's field.
    #[error("ephemeral key with a coordinate of {found} bytes, {curve} has {expected}")]
    Length {
        /// The curve.
        curve: Curve,
        /// Length on this curve.
        expected: usize,
        /// Length that arrived.
        found: usize,
    },
    /// The coordinates do not belong to a point.
    #[error("ephemeral key is not a point on {0}")]
    NotOnCurve(Curve),
}

/// A key pair for one exchange.
pub struct EphemeralKey<C: NamedCurve> {
    secret: SecretKey<C>,
}

impl<C: NamedCurve> EphemeralKey<C> {
    /// How often a number out of range is thrown away. On the NIST curves one draw in
    /// 2^32 is; so many in a row are no accident.
    const DRAWS: usize = 8;

    /// A new key: a number drawn evenly from 1 to n - 1 by rejection (FIPS 186-5,
    /// section A.2.2).
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut drawn = Zeroizing::new(FieldBytes::<C>::default());
        let surplus_bits = 8 * drawn.len() - C::ORDER.as_ref().bits_vartime() as usize;
        for _ in 0..Self::DRAWS {
            entropy.fill(&mut drawn)?;
            drawn[0] &= 0xff >> surplus_bits;
            if let Ok(secret) = SecretKey::from_bytes(&drawn) {
                return Ok(Self { secret });
            }
        }
        Err(EntropyError::Unhealthy)
    }

    /// The public half: affine coordinates, big-endian, as long as the field.
    pub fn public(&self) -> Point {
        let point = self.secret.public_key().to_sec1_point(false);
        let (x, y) = point.as_bytes()[1..].split_at(FieldBytes::<C>::default().len());
        Point {
            x: x.into(),
            y: y.into(),
        }
    }

    /// The shared secret Z with the owner of `peer`: the x-coordinate of the product,
    /// as long as the field (SEC 1, section 3.3.1).
    pub fn agree(&self, peer: &Point) -> Result<SharedSecret<C>, PointError> {
        let point = Sec1Point::<C>::from_affine_coordinates(
            coordinate::<C>(&peer.x)?,
            coordinate::<C>(&peer.y)?,
            false,
        );
        let peer: PublicKey<C> = Option::from(PublicKey::from_sec1_point(&point))
            .ok_or(PointError::NotOnCurve(C::CURVE))?;
        Ok(self.secret.diffie_hellman(&peer))
    }
}

fn coordinate<C: NamedCurve>(bytes: &[u8]) -> Result<&FieldBytes<C>, PointError> {
    bytes.try_into().map_err(|_| PointError::Length {
        curve: C::CURVE,
        expected: FieldBytes::<C>::default().len(),
        found: bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU8, Ordering};
    use p521::NistP521;

    /// Gives out its strings one after the other, then fails.
    struct Script(&'static [u8], AtomicU8);

    impl Script {
        fn new(fills: &'static [u8]) -> Self {
            Self(fills, AtomicU8::new(0))
        }
    }

    impl Entropy for Script {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
            let turn = self.1.fetch_add(1, Ordering::Relaxed);
            let byte = self
                .0
                .get(usize::from(turn))
                .ok_or(EntropyError::Exhausted)?;
            buffer.fill(*byte);
            Ok(())
        }
    }

    fn key(fills: &'static [u8]) -> Result<EphemeralKey<NistP521>, EntropyError> {
        EphemeralKey::generate(&Script::new(fills))
    }

    #[test]
    fn numbers_out_of_range_are_thrown_away() {
        let drawn = key(&[0x00, 0xff, 0x55]).unwrap();
        assert_eq!(drawn.public(), key(&[0x55]).unwrap().public());
    }

    #[test]
    fn failing_entropy_is_an_error() {
        assert_eq!(key(&[]).err(), Some(EntropyError::Exhausted));
        assert_eq!(key(&[0xff, 0xff]).err(), Some(EntropyError::Exhausted));
    }

    #[test]
    fn stuck_entropy_is_an_error() {
        assert_eq!(key(&[0xff; 100]).err(), Some(EntropyError::Unhealthy));
        assert_eq!(key(&[0x00; 100]).err(), Some(EntropyError::Unhealthy));
    }

    #[test]
    fn both_sides_agree() {
        let (ours, theirs) = (key(&[0x11]).unwrap(), key(&[0x22]).unwrap());
        assert_eq!(
            ours.agree(&theirs.public()).unwrap().raw_secret_bytes(),
            theirs.agree(&ours.public()).unwrap().raw_secret_bytes()
        );
    }

    #[test]
    fn coordinates_of_another_length_are_refused() {
        let ours = key(&[0x11]).unwrap();
        for found in [0, 32, 65, 67, 1000] {
            let mut peer = ours.public();
            peer.y = vec![0; found];
            let error = PointError::Length {
                curve: Curve::P521,
                expected: 66,
                found,
            };
            assert_eq!(ours.agree(&peer).err(), Some(error));
            let peer = Point {
                x: peer.y,
                y: peer.x,
            };
            assert_eq!(ours.agree(&peer).err(), Some(error));
        }
    }

    #[test]
    fn coordinates_off_the_curve_are_refused() {
        let ours = key(&[0x11]).unwrap();
        let refused = |x: &[u8], y: &[u8]| {
            let peer = Point {
                x: x.into(),
                y: y.into(),
            };
            assert_eq!(
                ours.agree(&peer).err(),
                Some(PointError::NotOnCurve(Curve::P521))
            );
        };
        let Point { x, y } = ours.public();
        refused(&[0; 66], &[0; 66]);
        refused(&[0xff; 66], &[0xff; 66]);
        refused(&y, &x);
        for bit in [0, 7, 65 * 8] {
            let mut changed = x.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(&changed, &y);
        }
    }

    #[test]
    fn coordinates_beyond_the_field_are_refused() {
        // The point with x = 0 has the other name x = p, which must not be accepted.
        let ours = key(&[0x11]).unwrap();
        let mut p = [0xff; 66];
        p[0] = 0x01;
        let y_at_zero = y_of_x_zero();
        let at = |x: [u8; 66]| Point {
            x: x.into(),
            y: y_at_zero.into(),
        };
        assert!(ours.agree(&at([0; 66])).is_ok());
        assert_eq!(
            ours.agree(&at(p)).err(),
            Some(PointError::NotOnCurve(Curve::P521))
        );
    }

    /// A y with y^2 = b, by decompression of x = 0.
    fn y_of_x_zero() -> [u8; 66] {
        let mut compressed = [0; 67];
        compressed[0] = 0x02;
        let point = PublicKey::<NistP521>::from_sec1_bytes(&compressed)
            .unwrap()
            .to_sec1_point(false);
        point.as_bytes()[67..].try_into().unwrap()
    }
}
