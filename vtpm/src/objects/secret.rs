//! Secrets sent to a key: salts, seeds of duplicates and credentials (Part 1, B.10 and C.6).

use alloc::vec::Vec;

use crate::{
    constants::{alg, oa},
    context::{Context, Random, crypto_rc},
    crypto::{self, Bytes, Point, RsaPadding, RsaPrivate, RsaPublic},
    rc::{Rc, Result, ensure},
    state::object::Object,
    wire::{Marshal, Reader, Unmarshal, public::Parameters},
};

/// Longest encrypted secret: an RSA-3072 ciphertext.
pub const MAX: usize = crate::constants::limit::RSA_KEY;

fn label_bytes(label: &str) -> Vec<u8> {
    let mut bytes = label.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A new secret and its encryption to `key`.
///
/// # Errors
/// `TPM_RC_KEY` when the key is not asymmetric.
pub fn encrypt(context: &mut Context<'_>, key: &Object, label: &str) -> Result<(Bytes, Vec<u8>)> {
    let hash = key.public.name_alg.ok_or(Rc::KEY)?;
    match &key.public.parameters {
        Parameters::Rsa { .. } => {
            let secret = context.random(hash.size())?;
            let public = RsaPublic {
                n: key.public.unique.bytes(),
                e: key.public.exponent(),
            };
            let label = label_bytes(label);
            let padding = RsaPadding::Oaep {
                hash,
                label: &label,
            };
            let sent = context
                .crypto
                .rsa_encrypt(&public, padding, &secret, &mut Random(context.environment))
                .map_err(crypto_rc)?;
            Ok((secret, sent))
        }
        Parameters::Ecc { curve, .. } => {
            let public = key.public.unique.point()?;
            let (d, ephemeral) = context
                .crypto
                .ecc_generate(*curve, &mut Random(context.environment))
                .map_err(crypto_rc)?;
            let z = context
                .crypto
                .ecc_multiply(*curve, &d, public)
                .map_err(|_| Rc::ECC_POINT)?;
            let bits = hash.size() as u32 * 8;
            let x = padded(&public.x, curve.size());
            Ok((
                crypto::kdfe(hash, &z.x, label, &ephemeral.x, &x, bits),
                ephemeral.to_bytes(),
            ))
        }
        _ => Err(Rc::KEY),
    }
}

/// Left-pads a coordinate to the size of its curve.
#[must_use]
pub fn padded(number: &[u8], size: usize) -> Vec<u8> {
    let mut out = alloc::vec![0; size.saturating_sub(number.len())];
    out.extend_from_slice(number);
    out
}

/// The secret in `sent`, which was encrypted to `key`.
///
/// # Errors
/// `TPM_RC_ATTRIBUTES` when it is no decryption key; `TPM_RC_SIZE`, `TPM_RC_VALUE`,
/// `TPM_RC_ECC_POINT`, `TPM_RC_INSUFFICIENT` when it is no encryption to it; `TPM_RC_KEY`.
pub fn decrypt(context: &mut Context<'_>, key: &Object, label: &str, sent: &[u8]) -> Result<Bytes> {
    ensure(key.public.has(oa::DECRYPT), Rc::ATTRIBUTES)?;
    let hash = key.public.name_alg.ok_or(Rc::KEY)?;
    let secret = key.secret().ok_or(Rc::KEY)?;
    match &key.public.parameters {
        Parameters::Rsa { .. } => {
            let modulus = key.public.unique.bytes();
            ensure(sent.len() == modulus.len(), Rc::SIZE)?;
            let private = RsaPrivate {
                n: modulus,
                e: key.public.exponent(),
                p: secret,
            };
            let label = label_bytes(label);
            // A decryption key may have chosen a scheme, which must be OAEP (Part 1, B.10.2).
            let scheme = key.public.scheme();
            ensure(matches!(scheme.id(), alg::NULL | alg::OAEP), Rc::SCHEME)?;
            let hash = scheme.hash().unwrap_or(hash);
            let padding = RsaPadding::Oaep {
                hash,
                label: &label,
            };
            let plain = context
                .crypto
                .rsa_decrypt(&private, padding, sent, &mut Random(context.environment))
                .map_err(crypto_rc)?;
            ensure(plain.len() <= hash.size(), Rc::VALUE)?;
            Ok(plain)
        }
        Parameters::Ecc { curve, .. } => {
            let mut reader = Reader::new(sent);
            let point = Point::unmarshal(&mut reader)?;
            ensure(reader.left().is_empty(), Rc::SIZE)?;
            ensure(context.crypto.ecc_on_curve(*curve, &point), Rc::ECC_POINT)?;
            let z = context
                .crypto
                .ecc_multiply(*curve, secret, &point)
                .map_err(|_| Rc::ECC_POINT)?;
            let own = key.public.unique.point()?;
            let bits = hash.size() as u32 * 8;
            let (u, v) = (padded(&point.x, curve.size()), padded(&own.x, curve.size()));
            Ok(crypto::kdfe(hash, &z.x, label, &u, &v, bits))
        }
        _ => Err(Rc::KEY),
    }
}
