//! The public key of the TEE, to which the secret is encrypted (`runtime-data.tee-pubkey`).
//!
//! A [`TeeKey`] is a point that was checked to be on its curve; coordinates of another width than
//! the field's are refused, because REPORT_DATA binds the fixed-width bytes.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kbs_types::TeePubKey;
use thiserror::Error;

/// Key agreement and key wrapping of the JWE (RFC 7518, section 4.6).
pub const ALG: &str = "ECDH-ES+A256KW";

/// A curve of FIPS 186-5 by its name in a JSON Web Key (RFC 7518, section 6.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// 32-byte coordinates.
    P256,
    /// 48-byte coordinates.
    P384,
    /// 66-byte coordinates.
    P521,
}

impl Curve {
    /// Every curve, in the order in which the server offers them.
    pub const OFFERED: [Self; 3] = [Self::P384, Self::P521, Self::P256];

    /// The name in a JSON Web Key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Width of a coordinate in bytes.
    pub const fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The curve of this name; case matters.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::OFFERED.into_iter().find(|curve| curve.name() == name)
    }
}

/// Why a public key cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// RSA, or a post-quantum key.
    #[error("tee-pubkey of type {0} is not supported: use an EC key")]
    Type(&'static str),
    /// Another elliptic curve.
    #[error("curve {0} is not supported: use P-256, P-384 or P-521")]
    Curve(String),
    /// Another key agreement.
    #[error("algorithm {0} is not supported: use {ALG}")]
    Algorithm(String),
    /// Not base64url, padded, or of the wrong length.
    #[error("coordinate {name} is not {width} bytes of unpadded base64url")]
    Coordinate {
        /// `x` or `y`.
        name: char,
        /// Width of a coordinate on this curve in bytes.
        width: usize,
    },
    /// The coordinates do not satisfy the curve equation.
    #[error("the coordinates are not a point on {}", .0.name())]
    NotOnCurve(Curve),
}

/// A checked point on one of the curves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// On P-256.
    P256(p256::PublicKey),
    /// On P-384.
    P384(p384::PublicKey),
    /// On P-521.
    P521(p521::PublicKey),
}

/// A checked public key of the TEE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeeKey {
    curve: Curve,
    point: Point,
    /// x and y, each of the curve's width.
    coordinates: Vec<u8>,
}

impl TeeKey {
    /// Checks a JSON Web Key as it came.
    pub fn from_jwk(jwk: &TeePubKey) -> Result<Self, KeyError> {
        let (crv, alg, x, y) = match jwk {
            TeePubKey::EC { crv, alg, x, y } => (crv, alg, x, y),
            TeePubKey::RSA { .. } => return Err(KeyError::Type("RSA")),
            TeePubKey::AKP { .. } => return Err(KeyError::Type("AKP")),
        };
        let curve = Curve::from_name(crv).ok_or_else(|| KeyError::Curve(crv.clone()))?;
        if alg != ALG {
            return Err(KeyError::Algorithm(alg.clone()));
        }
        let x = coordinate(curve, 'x', x)?;
        let y = coordinate(curve, 'y', y)?;
        let sec1 = [&[4], &x[..], &y[..]].concat(); // uncompressed (SEC 1, section 2.3.3)
        let not_on_curve = |_| KeyError::NotOnCurve(curve);
        let point = match curve {
            Curve::P256 => p256::PublicKey::from_sec1_bytes(&sec1).map(Point::P256),
            Curve::P384 => p384::PublicKey::from_sec1_bytes(&sec1).map(Point::P384),
            Curve::P521 => p521::PublicKey::from_sec1_bytes(&sec1).map(Point::P521),
        }
        .map_err(not_on_curve)?;
        Ok(Self {
            curve,
            point,
            coordinates: [x, y].concat(),
        })
    }

    /// The curve the key is on.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The point, for key agreement.
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// x and y, big-endian, each in fixed width.
    pub fn coordinates(&self) -> &[u8] {
        &self.coordinates
    }

    /// x-coordinate, big-endian, fixed width.
    pub fn x(&self) -> &[u8] {
        &self.coordinates[..self.curve.width()]
    }

    /// y-coordinate, big-endian, fixed width.
    pub fn y(&self) -> &[u8] {
        &self.coordinates[self.curve.width()..]
    }

    /// The JSON Web Key in the canonical form of RFC 8785: members sorted, no spaces. Every value is
    /// plain ASCII, so nothing has to be escaped.
    pub fn canonical_jwk(&self) -> String {
        format!(
            r#"{{"alg":"{ALG}","crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
            self.curve.name(),
            BASE64_URL_SAFE_NO_PAD.encode(self.x()),
            BASE64_URL_SAFE_NO_PAD.encode(self.y())
        )
    }
}

fn coordinate(curve: Curve, name: char, text: &str) -> Result<Vec<u8>, KeyError> {
    let width = curve.width();
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .filter(|bytes| bytes.len() == width)
        .ok_or(KeyError::Coordinate { name, width })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use p521::elliptic_curve::Generate;
    use p521::elliptic_curve::sec1::ToSec1Point;
    use std::convert::Infallible;

    /// A "random" source for tests: SHA-512 of a seed and a counter, equal from run to run.
    pub(crate) struct CountingRng(u8, u64);

    impl CountingRng {
        pub(crate) fn new(seed: u8) -> Self {
            Self(seed, 0)
        }
    }

    impl rand_core::TryRng for CountingRng {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            let mut b = [0; 4];
            self.try_fill_bytes(&mut b).map(|()| u32::from_le_bytes(b))
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            let mut b = [0; 8];
            self.try_fill_bytes(&mut b).map(|()| u64::from_le_bytes(b))
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            use sha2::Digest;
            for chunk in out.chunks_mut(64) {
                self.1 += 1;
                let block = sha2::Sha512::new()
                    .chain_update([self.0])
                    .chain_update(self.1.to_le_bytes())
                    .finalize();
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
            Ok(())
        }
    }

    impl rand_core::TryCryptoRng for CountingRng {}

    fn jwk_of(curve: Curve, sec1: &[u8]) -> TeePubKey {
        let (x, y) = sec1[1..].split_at(curve.width());
        TeePubKey::EC {
            crv: curve.name().into(),
            alg: ALG.into(),
            x: BASE64_URL_SAFE_NO_PAD.encode(x),
            y: BASE64_URL_SAFE_NO_PAD.encode(y),
        }
    }

    pub(crate) fn jwk(key: &p521::PublicKey) -> TeePubKey {
        jwk_of(Curve::P521, key.to_sec1_point(false).as_bytes())
    }

    pub(crate) fn key_pair(seed: u8) -> (p521::SecretKey, TeeKey) {
        let secret = p521::SecretKey::generate_from_rng(&mut CountingRng::new(seed));
        let key = TeeKey::from_jwk(&jwk(&secret.public_key())).unwrap();
        (secret, key)
    }

    pub(crate) fn p384_pair(seed: u8) -> (p384::SecretKey, TeeKey) {
        let secret = p384::SecretKey::generate_from_rng(&mut CountingRng::new(seed));
        let sec1 = secret.public_key().to_sec1_point(false);
        let key = TeeKey::from_jwk(&jwk_of(Curve::P384, sec1.as_bytes())).unwrap();
        (secret, key)
    }

    pub(crate) fn p256_pair(seed: u8) -> (p256::SecretKey, TeeKey) {
        let secret = p256::SecretKey::generate_from_rng(&mut CountingRng::new(seed));
        let sec1 = secret.public_key().to_sec1_point(false);
        let key = TeeKey::from_jwk(&jwk_of(Curve::P256, sec1.as_bytes())).unwrap();
        (secret, key)
    }

    fn with(change: impl Fn(&mut String, &mut String, &mut String, &mut String)) -> KeyError {
        let mut key = jwk(&key_pair(1).0.public_key());
        if let TeePubKey::EC { crv, alg, x, y } = &mut key {
            change(crv, alg, x, y);
        }
        TeeKey::from_jwk(&key).unwrap_err()
    }

    fn coordinate_error(name: char) -> KeyError {
        KeyError::Coordinate { name, width: 66 }
    }

    #[test]
    fn coordinates_keep_their_fixed_width() {
        let (secret, key) = key_pair(1);
        let sec1 = secret.public_key().to_sec1_point(false);
        assert_eq!([key.x(), key.y()].concat(), sec1.as_bytes()[1..]);
        assert_eq!((key.x().len(), key.y().len()), (66, 66));
        assert_eq!(p384_pair(1).1.x().len(), 48);
        assert_eq!(p256_pair(1).1.y().len(), 32);
    }

    #[test]
    fn other_key_types_and_curves_are_refused_by_name() {
        let rsa = TeePubKey::RSA {
            alg: "RSA-OAEP-256".into(),
            k_mod: "AQAB".into(),
            k_exp: "AQAB".into(),
        };
        assert_eq!(TeeKey::from_jwk(&rsa), Err(KeyError::Type("RSA")));
        let akp = TeePubKey::AKP {
            alg: "ML-KEM-768".into(),
            public_key: "AQAB".into(),
        };
        assert_eq!(TeeKey::from_jwk(&akp), Err(KeyError::Type("AKP")));
        for curve in ["secp256k1", "Ed25519", "p-521", ""] {
            let e = with(|crv, _, _, _| *crv = curve.into());
            assert_eq!(e, KeyError::Curve(curve.into()));
        }
        let e = with(|_, alg, _, _| *alg = "ECDH-ES".into());
        assert_eq!(e, KeyError::Algorithm("ECDH-ES".into()));
    }

    #[test]
    fn coordinate_of_another_width_or_alphabet_is_refused() {
        for x in ["", "AQ", "A", "+/+/"] {
            assert_eq!(with(|_, _, cx, _| *cx = x.into()), coordinate_error('x'));
        }
        for width in [32, 48, 65, 67] {
            let e = with(|_, _, _, y| *y = BASE64_URL_SAFE_NO_PAD.encode(vec![1; width]));
            assert_eq!(e, coordinate_error('y'));
        }
        // A point of one curve under the name of another has the wrong width.
        let e = with(|crv, _, _, _| *crv = "P-384".into());
        assert_eq!(
            e,
            KeyError::Coordinate {
                name: 'x',
                width: 48
            }
        );
    }

    #[test]
    fn point_off_the_curve_is_refused() {
        let e = with(|_, _, _, y| *y = BASE64_URL_SAFE_NO_PAD.encode([0; 66]));
        assert_eq!(e, KeyError::NotOnCurve(Curve::P521));
        let e = with(|_, _, x, _| *x = BASE64_URL_SAFE_NO_PAD.encode([0xff; 66]));
        assert_eq!(e, KeyError::NotOnCurve(Curve::P521));
    }

    #[test]
    fn canonical_form_is_sorted_and_without_spaces() {
        let (_, key) = p256_pair(1);
        let value: serde_json::Value = serde_json::from_str(&key.canonical_jwk()).unwrap();
        let names: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(names, ["alg", "crv", "kty", "x", "y"]);
        assert!(!key.canonical_jwk().contains(' '));
    }
}
