//! The public key of the TEE, to which the secret is encrypted (`runtime-data.tee-pubkey`).
//!
//! A [`TeeKey`] is a point that was checked to be on its curve; coordinates of another width than
//! the field's are refused, because REPORT_DATA binds the fixed-width bytes.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kbs_types::TeePubKey;
use p521::PublicKey;
use thiserror::Error;

/// Key agreement and key wrapping of the JWE (RFC 7518, section 4.6).
pub const ALG: &str = "ECDH-ES+A256KW";

/// Name of the only supported curve (RFC 7518, section 6.2.1.1).
pub const CURVE: &str = "P-521";

/// Width of a coordinate on P-521 in bytes.
pub const COORDINATE: usize = 66;

/// Why a public key cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// RSA, or a post-quantum key.
    #[error("tee-pubkey of type {0} is not supported: use an EC key on {CURVE}")]
    Type(&'static str),
    /// Another elliptic curve.
    #[error("curve {0} is not supported: use {CURVE}")]
    Curve(String),
    /// Another key agreement.
    #[error("algorithm {0} is not supported: use {ALG}")]
    Algorithm(String),
    /// Not base64url, padded, or of the wrong length.
    #[error("coordinate {0} is not {COORDINATE} bytes of unpadded base64url")]
    Coordinate(char),
    /// The coordinates do not satisfy the curve equation.
    #[error("the coordinates are not a point on {CURVE}")]
    NotOnCurve,
}

/// A checked public key of the TEE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeeKey {
    point: PublicKey,
    x: [u8; COORDINATE],
    y: [u8; COORDINATE],
}

impl TeeKey {
    /// Checks a JSON Web Key as it came.
    pub fn from_jwk(jwk: &TeePubKey) -> Result<Self, KeyError> {
        let (crv, alg, x, y) = match jwk {
            TeePubKey::EC { crv, alg, x, y } => (crv, alg, x, y),
            TeePubKey::RSA { .. } => return Err(KeyError::Type("RSA")),
            TeePubKey::AKP { .. } => return Err(KeyError::Type("AKP")),
        };
        if crv != CURVE {
            return Err(KeyError::Curve(crv.clone()));
        }
        if alg != ALG {
            return Err(KeyError::Algorithm(alg.clone()));
        }
        let (x, y) = (coordinate('x', x)?, coordinate('y', y)?);
        let mut sec1 = [0; 1 + 2 * COORDINATE];
        sec1[0] = 4; // uncompressed point (SEC 1, section 2.3.3)
        sec1[1..][..COORDINATE].copy_from_slice(&x);
        sec1[1 + COORDINATE..].copy_from_slice(&y);
        let point = PublicKey::from_sec1_bytes(&sec1).map_err(|_| KeyError::NotOnCurve)?;
        Ok(Self { point, x, y })
    }

    /// The point, for key agreement.
    pub fn point(&self) -> &PublicKey {
        &self.point
    }

    /// x-coordinate, big-endian, fixed width.
    pub fn x(&self) -> &[u8; COORDINATE] {
        &self.x
    }

    /// y-coordinate, big-endian, fixed width.
    pub fn y(&self) -> &[u8; COORDINATE] {
        &self.y
    }
}

fn coordinate(name: char, text: &str) -> Result<[u8; COORDINATE], KeyError> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(KeyError::Coordinate(name))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use p521::elliptic_curve::sec1::ToSec1Point;
    use p521::{SecretKey, elliptic_curve::Generate};
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

    pub(crate) fn jwk(key: &PublicKey) -> TeePubKey {
        let sec1 = key.to_sec1_point(false);
        let (x, y) = sec1.as_bytes()[1..].split_at(COORDINATE);
        TeePubKey::EC {
            crv: CURVE.into(),
            alg: ALG.into(),
            x: BASE64_URL_SAFE_NO_PAD.encode(x),
            y: BASE64_URL_SAFE_NO_PAD.encode(y),
        }
    }

    pub(crate) fn key_pair(seed: u8) -> (SecretKey, TeeKey) {
        let secret = SecretKey::generate_from_rng(&mut CountingRng::new(seed));
        let key = TeeKey::from_jwk(&jwk(&secret.public_key())).unwrap();
        (secret, key)
    }

    fn with(change: impl Fn(&mut String, &mut String, &mut String, &mut String)) -> KeyError {
        let mut key = jwk(&key_pair(1).0.public_key());
        if let TeePubKey::EC { crv, alg, x, y } = &mut key {
            change(crv, alg, x, y);
        }
        TeeKey::from_jwk(&key).unwrap_err()
    }

    #[test]
    fn coordinates_keep_their_fixed_width() {
        let (secret, key) = key_pair(1);
        let sec1 = secret.public_key().to_sec1_point(false);
        assert_eq!([&key.x()[..], &key.y()[..]].concat(), sec1.as_bytes()[1..]);
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
        for curve in ["P-256", "P-384", "p-521", ""] {
            let e = with(|crv, _, _, _| *crv = curve.into());
            assert_eq!(e, KeyError::Curve(curve.into()));
        }
        let e = with(|_, alg, _, _| *alg = "ECDH-ES".into());
        assert_eq!(e, KeyError::Algorithm("ECDH-ES".into()));
    }

    #[test]
    fn coordinate_of_another_width_or_alphabet_is_refused() {
        for x in ["", "AQ", "A", "+/+/"] {
            assert_eq!(
                with(|_, _, cx, _| *cx = x.into()),
                KeyError::Coordinate('x')
            );
        }
        let e = with(|_, _, _, y| *y = BASE64_URL_SAFE_NO_PAD.encode([1; 65]));
        assert_eq!(e, KeyError::Coordinate('y'));
        let e = with(|_, _, _, y| *y = BASE64_URL_SAFE_NO_PAD.encode([1; 67]));
        assert_eq!(e, KeyError::Coordinate('y'));
    }

    #[test]
    fn point_off_the_curve_is_refused() {
        let e = with(|_, _, _, y| *y = BASE64_URL_SAFE_NO_PAD.encode([0; 66]));
        assert_eq!(e, KeyError::NotOnCurve);
        let e = with(|_, _, x, _| *x = BASE64_URL_SAFE_NO_PAD.encode([0xff; 66]));
        assert_eq!(e, KeyError::NotOnCurve);
    }
}
