//! The resource response: a flattened JWE (RFC 7516, section 7.2.2), ECDH-ES+A256KW with A256GCM.
//!
//! Every [`seal`] makes a fresh ephemeral key, content encryption key and IV. The additional
//! authenticated data is always the ASCII of the `protected` string that travels, so no one has to
//! serialise the header a second time.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use aes_kw::KwAes256;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use p521::elliptic_curve::ecdh::{EphemeralSecret, diffie_hellman};
use p521::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p521::elliptic_curve::{
    AffinePoint, CurveArithmetic, FieldBytesSize, Generate, PublicKey, SecretKey,
};
use rand_core::TryCryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::tee_key::{ALG, Curve, Point, TeeKey};

const ENC: &str = "A256GCM";
const KEY_SIZE: usize = 32;
const WRAPPED_SIZE: usize = KEY_SIZE + aes_kw::IV_LEN;
const IV_SIZE: usize = 12;
const TAG_SIZE: usize = 16;

/// The curves as types, for code that is the same on all of them.
pub trait NamedCurve: CurveArithmetic {
    /// Which one it is.
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

/// Why a secret could not be sealed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// The operating system gave no random bytes.
    #[error("the random source of the operating system failed")]
    Random,
    /// A cipher refused its input, which fixed sizes rule out.
    #[error("encryption failed")]
    Cipher,
}

/// Why a JWE could not be opened.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// A part is no unpadded base64url, or the header is no JSON of the expected form.
    #[error("malformed JWE: {0}")]
    Malformed(&'static str),
    /// Another algorithm or curve than this module speaks.
    #[error("the JWE uses other algorithms")]
    Algorithm,
    /// Made for another key, or changed on the way.
    #[error("the JWE does not decrypt under this key")]
    Authentication,
}

/// The five strings of the response, each unpadded base64url.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Jwe {
    /// Protected header.
    pub protected: String,
    /// Content encryption key, wrapped (RFC 3394).
    pub encrypted_key: String,
    /// Initialisation vector, 12 bytes.
    pub iv: String,
    /// The encrypted secret.
    pub ciphertext: String,
    /// Authentication tag, 16 bytes.
    pub tag: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    enc: String,
    epk: Epk,
}

#[derive(Serialize, Deserialize)]
struct Epk {
    crv: String,
    kty: String,
    x: String,
    y: String,
}

/// The sender's half of a key agreement: the protected header with the ephemeral key, and the key
/// encryption key.
struct Agreement {
    protected: String,
    kek: Zeroizing<[u8; KEY_SIZE]>,
}

fn agree<C, R>(recipient: &PublicKey<C>, rng: &mut R) -> Result<Agreement, SealError>
where
    C: NamedCurve,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
    R: TryCryptoRng,
{
    let ephemeral =
        EphemeralSecret::<C>::try_generate_from_rng(rng).map_err(|_| SealError::Random)?;
    let z = ephemeral.diffie_hellman(recipient);
    let epk = ephemeral.public_key().to_sec1_point(false);
    Ok(Agreement {
        protected: encode_header(C::CURVE, &epk.as_bytes()[1..]),
        kek: key_encryption_key(z.raw_secret_bytes()),
    })
}

/// Encrypts `secret` so that only the owner of `recipient` can read it.
pub fn seal<R: TryCryptoRng>(
    recipient: &TeeKey,
    secret: &[u8],
    rng: &mut R,
) -> Result<Jwe, SealError> {
    let Agreement { protected, kek } = match recipient.point() {
        Point::P256(key) => agree(key, rng)?,
        Point::P384(key) => agree(key, rng)?,
        Point::P521(key) => agree(key, rng)?,
    };
    let mut cek = Zeroizing::new([0; KEY_SIZE]);
    let mut iv = [0; IV_SIZE];
    rng.try_fill_bytes(&mut *cek)
        .and_then(|()| rng.try_fill_bytes(&mut iv))
        .map_err(|_| SealError::Random)?;

    let mut wrapped = [0; WRAPPED_SIZE];
    KwAes256::new((&*kek).into())
        .wrap_key(&*cek, &mut wrapped)
        .map_err(|_| SealError::Cipher)?;

    let mut buffer = Zeroizing::new(secret.to_vec());
    let tag = Aes256Gcm::new((&*cek).into())
        .encrypt_inout_detached(
            &Nonce::from(iv),
            protected.as_bytes(),
            buffer.as_mut_slice().into(),
        )
        .map_err(|_| SealError::Cipher)?;

    Ok(Jwe {
        protected,
        encrypted_key: BASE64_URL_SAFE_NO_PAD.encode(wrapped),
        iv: BASE64_URL_SAFE_NO_PAD.encode(iv),
        ciphertext: BASE64_URL_SAFE_NO_PAD.encode(&*buffer),
        tag: BASE64_URL_SAFE_NO_PAD.encode(tag),
    })
}

/// Decrypts what [`seal`] or another KBS made for the owner of `key`: the receiving side, for tests
/// and tools.
pub fn open<C>(key: &SecretKey<C>, jwe: &Jwe) -> Result<Zeroizing<Vec<u8>>, OpenError>
where
    C: NamedCurve,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let header: Header = serde_json::from_slice(&decode(&jwe.protected, "protected")?)
        .map_err(|_| OpenError::Malformed("protected"))?;
    if header.alg != ALG
        || header.enc != ENC
        || header.epk.crv != C::CURVE.name()
        || header.epk.kty != "EC"
    {
        return Err(OpenError::Algorithm);
    }
    let x = decode(&header.epk.x, "epk.x")?;
    let y = decode(&header.epk.y, "epk.y")?;
    if x.len() != C::CURVE.width() || y.len() != C::CURVE.width() {
        return Err(OpenError::Malformed("epk"));
    }
    let epk = PublicKey::<C>::from_sec1_bytes(&[&[4], &x[..], &y[..]].concat())
        .map_err(|_| OpenError::Malformed("epk"))?;
    let wrapped = decode_exactly::<WRAPPED_SIZE>(&jwe.encrypted_key, "encrypted_key")?;
    let iv = decode_exactly::<IV_SIZE>(&jwe.iv, "iv")?;
    let tag = decode_exactly::<TAG_SIZE>(&jwe.tag, "tag")?;

    let z = diffie_hellman(key.to_nonzero_scalar(), epk.as_affine());
    let kek = key_encryption_key(z.raw_secret_bytes());
    let mut cek = Zeroizing::new([0; KEY_SIZE]);
    KwAes256::new((&*kek).into())
        .unwrap_key(&wrapped, &mut *cek)
        .map_err(|_| OpenError::Authentication)?;

    let mut buffer = Zeroizing::new(decode(&jwe.ciphertext, "ciphertext")?);
    Aes256Gcm::new((&*cek).into())
        .decrypt_inout_detached(
            &Nonce::from(iv),
            jwe.protected.as_bytes(),
            buffer.as_mut_slice().into(),
            &Tag::from(tag),
        )
        .map_err(|_| OpenError::Authentication)?;
    Ok(buffer)
}

/// Concat KDF (NIST SP 800-56A) as RFC 7518, section 4.6.2 uses it: one round of SHA-256, PartyUInfo
/// and PartyVInfo empty, no SuppPrivInfo.
fn key_encryption_key(z: &[u8]) -> Zeroizing<[u8; KEY_SIZE]> {
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let digest = Sha256::new()
        .chain_update(1u32.to_be_bytes())
        .chain_update(z)
        .chain_update(length(ALG.len()))
        .chain_update(ALG)
        .chain_update(length(0))
        .chain_update(length(0))
        .chain_update(length(8 * KEY_SIZE))
        .finalize();
    Zeroizing::new(digest.into())
}

fn encode_header(curve: Curve, coordinates: &[u8]) -> String {
    let (x, y) = coordinates.split_at(curve.width());
    // `alg` and `enc` first, then the members of `epk` in alphabetical order: some clients
    // re-serialise the header that way for the additional authenticated data.
    let json = format!(
        r#"{{"alg":"{ALG}","enc":"{ENC}","epk":{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}}}"#,
        curve.name(),
        BASE64_URL_SAFE_NO_PAD.encode(x),
        BASE64_URL_SAFE_NO_PAD.encode(y)
    );
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, OpenError> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| OpenError::Malformed(part))
}

fn decode_exactly<const N: usize>(text: &str, part: &'static str) -> Result<[u8; N], OpenError> {
    decode(text, part)?
        .try_into()
        .map_err(|_| OpenError::Malformed(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tee_key::tests::{CountingRng, key_pair, p256_pair, p384_pair};

    /// A response of a real KBS (Trustee) to a key with the private scalar 0x2222.
    fn trustee() -> (p521::SecretKey, Jwe) {
        let mut d = [0; 66];
        d[64..].copy_from_slice(&[0x22, 0x22]);
        let json = include_str!("../tests/vectors/trustee-jwe-p521.json");
        (
            p521::SecretKey::from_slice(&d).unwrap(),
            serde_json::from_str(json).unwrap(),
        )
    }

    #[test]
    fn response_of_trustee_opens() {
        let (key, jwe) = trustee();
        let expected: Vec<u8> = (0..32).collect();
        assert_eq!(*open(&key, &jwe).unwrap(), expected);
    }

    #[test]
    fn sealed_secret_opens_under_its_key_only() {
        let (secret_key, key) = key_pair(1);
        let jwe = seal(&key, b"a secret of some length", &mut CountingRng::new(2)).unwrap();
        assert_eq!(
            **open(&secret_key, &jwe).unwrap(),
            *b"a secret of some length"
        );
        let other = open(&key_pair(3).0, &jwe).unwrap_err();
        assert_eq!(other, OpenError::Authentication);
    }

    #[test]
    fn every_curve_seals_and_opens() {
        let rng = &mut CountingRng::new(4);
        let (secret, key) = p256_pair(1);
        assert_eq!(
            **open(&secret, &seal(&key, b"256", rng).unwrap()).unwrap(),
            *b"256"
        );
        let (secret, key) = p384_pair(1);
        let jwe = seal(&key, b"384", rng).unwrap();
        assert_eq!(**open(&secret, &jwe).unwrap(), *b"384");
        let other_curve = open(&p256_pair(1).0, &jwe).unwrap_err();
        assert_eq!(other_curve, OpenError::Algorithm);
    }

    #[test]
    fn header_has_the_documented_form() {
        let jwe = seal(&key_pair(1).1, &[7; 32], &mut CountingRng::new(2)).unwrap();
        let header = String::from_utf8(decode(&jwe.protected, "").unwrap()).unwrap();
        assert!(header.starts_with(
            r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-521","kty":"EC","x":""#
        ));
        let size = serde_json::to_string(&jwe).unwrap().len();
        assert_eq!(size, 554, "the size that a real KBS has for 32 bytes");
    }

    #[test]
    fn any_changed_part_is_refused() {
        let (secret_key, key) = key_pair(1);
        let jwe = seal(&key, &[7; 32], &mut CountingRng::new(2)).unwrap();
        let flip = |text: &str| {
            let mut bytes = decode(text, "").unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        };
        let changes: [fn(&mut Jwe) -> &mut String; 4] = [
            |j| &mut j.encrypted_key,
            |j| &mut j.iv,
            |j| &mut j.ciphertext,
            |j| &mut j.tag,
        ];
        for part in changes {
            let mut changed = jwe.clone();
            let text = part(&mut changed);
            *text = flip(text);
            let refused = open(&secret_key, &changed).unwrap_err();
            assert_eq!(refused, OpenError::Authentication);
        }
        // A space in the header changes nothing but the authenticated data.
        let mut changed = jwe.clone();
        let mut header = decode(&jwe.protected, "").unwrap();
        header.push(b' ');
        changed.protected = BASE64_URL_SAFE_NO_PAD.encode(header);
        let refused = open(&secret_key, &changed).unwrap_err();
        assert_eq!(refused, OpenError::Authentication);
    }

    #[test]
    fn nothing_repeats_between_two_responses() {
        let (key, mut rng) = (key_pair(1).1, CountingRng::new(2));
        let one = seal(&key, &[7; 32], &mut rng).unwrap();
        let two = seal(&key, &[7; 32], &mut rng).unwrap();
        assert_ne!(one.protected, two.protected);
        assert_ne!(one.encrypted_key, two.encrypted_key);
        assert_ne!(one.iv, two.iv);
        assert_ne!(one.ciphertext, two.ciphertext);
    }
}
