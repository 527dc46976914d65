//! Signatures with any key and scheme (Part 1, B and C; Part 3, 20).

use alloc::vec::Vec;

use crate::{
    commit,
    constants::{alg, oa},
    context::{Context, Random, crypto_rc},
    crypto::{self, EccSignature, HashAlg, RsaPrivate, RsaPublic, RsaScheme, ct_eq},
    objects,
    rc::{Numbered, Rc, Result, ensure},
    state::object::Object,
    wire::{
        Reader,
        algorithms::{self, Scheme, SymDef},
        public::Parameters,
        signature::Signature,
    },
};

/// The scheme to sign with: the key's own, or the requested one where the key leaves it open.
///
/// # Errors
/// `TPM_RC_SCHEME` when they contradict each other or the key cannot do it.
pub fn select(key: &Object, requested: Scheme) -> Result<Scheme> {
    let own = key.public.scheme();
    // A scheme of a key that both signs and decrypts is null; XOR is no signing scheme.
    let own = if matches!(own, Scheme::Xor(..)) {
        Scheme::Null
    } else {
        own
    };
    let scheme = match (own, requested) {
        (own, Scheme::Null) => own,
        (Scheme::Null, requested) => requested,
        (Scheme::Ecdaa(own, _), Scheme::Ecdaa(hash, count)) if own == hash => {
            Scheme::Ecdaa(hash, count)
        }
        (own, requested) if own == requested => own,
        _ => return Err(Rc::SCHEME),
    };
    let fits = match key.public.parameters {
        Parameters::Rsa { .. } => matches!(scheme.id(), alg::RSASSA | alg::RSAPSS),
        Parameters::Ecc { .. } => {
            matches!(scheme.id(), alg::ECDSA | alg::ECDAA | alg::ECSCHNORR)
                && (scheme.id() != alg::ECDAA || matches!(requested, Scheme::Ecdaa(..)))
        }
        Parameters::KeyedHash(_) => scheme.id() == alg::HMAC,
        Parameters::Symmetric(_) => false,
    };
    ensure(fits, Rc::SCHEME)?;
    Ok(scheme)
}

/// May the key sign? A symmetric cipher's key with the attribute encrypts.
#[must_use]
pub fn is_signing(key: &Object) -> bool {
    key.public.has(oa::SIGN) && key.public.kind() != alg::SYMCIPHER
}

/// Checks a signing handle and its scheme; `None` for the null key.
///
/// # Errors
/// `TPM_RC_KEY` about handle `blame_handle`, `TPM_RC_SCHEME` about parameter `blame_scheme`.
pub fn prepare(
    key: Option<&Object>,
    requested: Scheme,
    blame_handle: u32,
    blame_scheme: u32,
) -> Result<Scheme> {
    let Some(key) = key else {
        return Ok(Scheme::Null);
    };
    ensure(is_signing(key), Rc::KEY).h(blame_handle)?;
    select(key, requested).p(blame_scheme)
}

fn rsa_scheme(id: u16, hash: HashAlg) -> Result<RsaScheme> {
    match id {
        alg::RSASSA => Ok(RsaScheme::Rsassa(hash)),
        alg::RSAPSS => Ok(RsaScheme::Pss(hash)),
        _ => Err(Rc::SCHEME),
    }
}

/// Signs a digest. The scheme comes from [`select`].
///
/// # Errors
/// `TPM_RC_VALUE` when the key is too small for the digest, `TPM_RC_SCHEME`, `TPM_RC_FAILURE`.
pub fn sign(
    context: &mut Context<'_>,
    key: &Object,
    scheme: Scheme,
    digest: &[u8],
) -> Result<Signature> {
    let secret = key.secret().ok_or(Rc::KEY)?;
    let hash = scheme.hash().ok_or(Rc::SCHEME)?;
    let id = scheme.id();
    let failed = |error| match crypto_rc(error) {
        Rc::SIGNATURE => Rc::FAILURE,
        rc => rc,
    };
    match &key.public.parameters {
        Parameters::Rsa { .. } => {
            let private = RsaPrivate {
                n: key.public.unique.bytes(),
                e: key.public.exponent(),
                p: secret,
            };
            let value = context
                .crypto
                .rsa_sign(
                    &private,
                    rsa_scheme(id, hash)?,
                    digest,
                    &mut Random(context.environment),
                )
                .map_err(failed)?;
            Ok(Signature::Rsa {
                scheme: id,
                hash,
                value,
            })
        }
        Parameters::Ecc { curve, .. } => {
            let EccSignature { r, s } = match scheme {
                Scheme::Ecdaa(_, count) => commit::sign(context, key, *curve, hash, count, digest)?,
                Scheme::Hash(alg::ECDSA, _) => context
                    .crypto
                    .ecdsa_sign(*curve, secret, digest, &mut Random(context.environment))
                    .map_err(failed)?,
                Scheme::Hash(alg::ECSCHNORR, _) => context
                    .crypto
                    .ecschnorr_sign(
                        *curve,
                        secret,
                        hash,
                        digest,
                        &mut Random(context.environment),
                    )
                    .map_err(failed)?,
                _ => return Err(Rc::SCHEME),
            };
            Ok(Signature::Ecc {
                scheme: id,
                hash,
                r,
                s,
            })
        }
        Parameters::KeyedHash(_) => Ok(Signature::Hmac {
            hash,
            value: crypto::hmac(hash, secret, &[digest]),
        }),
        Parameters::Symmetric(_) => Err(Rc::SCHEME),
    }
}

/// Verifies a signature over a digest.
///
/// # Errors
/// `TPM_RC_SIGNATURE` when it is wrong, `TPM_RC_SCHEME` when the key has no such scheme,
/// `TPM_RC_HANDLE` for an HMAC key of which only the public area is loaded.
pub fn verify(
    context: &Context<'_>,
    key: &Object,
    digest: &[u8],
    signature: &Signature,
) -> Result<()> {
    let wrong = |_| Rc::SIGNATURE;
    match (&key.public.parameters, signature) {
        (
            Parameters::Rsa { .. },
            Signature::Rsa {
                scheme,
                hash,
                value,
            },
        ) => {
            let public = RsaPublic {
                n: key.public.unique.bytes(),
                e: key.public.exponent(),
            };
            let scheme = rsa_scheme(*scheme, *hash)?;
            context
                .crypto
                .rsa_verify(&public, scheme, digest, value)
                .map_err(wrong)
        }
        (Parameters::Ecc { curve, .. }, Signature::Ecc { scheme, hash, r, s }) => {
            let point = key.public.unique.point()?;
            let pair = EccSignature {
                r: r.clone(),
                s: s.clone(),
            };
            match *scheme {
                alg::ECDSA => context
                    .crypto
                    .ecdsa_verify(*curve, point, digest, &pair)
                    .map_err(wrong),
                alg::ECSCHNORR => context
                    .crypto
                    .ecschnorr_verify(*curve, point, *hash, digest, &pair)
                    .map_err(wrong),
                _ => Err(Rc::SCHEME),
            }
        }
        // Whatever the signature is: what is not loaded cannot verify it.
        (Parameters::KeyedHash(_), _) if key.secret().is_none() => Err(Rc::HANDLE),
        (Parameters::KeyedHash(own), Signature::Hmac { hash, value }) => {
            let secret = key.secret().ok_or(Rc::HANDLE)?;
            ensure(own.is_null() || own.hash() == Some(*hash), Rc::SIGNATURE)?;
            let expected: Vec<u8> = crypto::hmac(*hash, secret, &[digest]);
            ensure(ct_eq(&expected, value), Rc::SIGNATURE)
        }
        _ => Err(Rc::SCHEME),
    }
}

/// Is the digest one that a restricted key may sign: did this TPM compute it itself?
///
/// # Errors
/// `TPM_RC_TICKET`
pub fn check_hash_ticket(
    context: &Context<'_>,
    ticket: &crate::wire::structures::Ticket,
    hash: HashAlg,
    digest: &[u8],
) -> Result<()> {
    let own = hash_ticket(context, ticket.hierarchy, hash, digest);
    ensure(ct_eq(&own.digest, &ticket.digest), Rc::TICKET)
}

/// Ticket that this TPM computed the digest, over something that is no structure of its own.
#[must_use]
pub fn hash_ticket(
    context: &Context<'_>,
    hierarchy: u32,
    hash: HashAlg,
    digest: &[u8],
) -> crate::wire::structures::Ticket {
    let tag = crate::constants::st::HASHCHECK;
    let parts: &[&[u8]] = &[&tag.to_be_bytes(), &hash.id().to_be_bytes(), digest];
    crate::wire::structures::Ticket {
        tag,
        hierarchy,
        digest: context.proof_hmac(hierarchy, parts),
    }
}

/// `TPMI_ALG_MAC_SCHEME+`: the hash of an HMAC; block cipher MACs are not implemented.
pub fn mac_scheme(reader: &mut Reader<'_>) -> Result<Option<HashAlg>> {
    algorithms::hash_or_null(reader).map_err(|rc| if rc == Rc::HASH { Rc::SYMMETRIC } else { rc })
}

/// Secret of a key that must be an HMAC key, and the hash to use.
///
/// # Errors
/// `TPM_RC_TYPE`, `TPM_RC_KEY`, `TPM_RC_ATTRIBUTES` about the handle; `TPM_RC_VALUE` and
/// `TPM_RC_SCHEME` about parameter `blame`.
pub fn hmac_key(key: &Object, requested: Option<HashAlg>, blame: u32) -> Result<HashAlg> {
    let scheme = match key.public.parameters {
        Parameters::KeyedHash(scheme) => scheme,
        // A block cipher has no MAC scheme here: nothing fits its mode, nor stands in for it.
        Parameters::Symmetric(sym) => {
            let free = matches!(
                sym,
                SymDef::Aes {
                    mode: alg::NULL,
                    ..
                }
            ) && requested.is_some();
            return Err(if free { Rc::SCHEME } else { Rc::VALUE }.parameter(blame));
        }
        _ => return Err(Rc::TYPE.handle(1)),
    };
    let hash = match (scheme.hash(), requested) {
        (Some(own), None) => own,
        (None, Some(requested)) => requested,
        (Some(own), Some(requested)) if own == requested => own,
        _ => return Err(Rc::VALUE.parameter(blame)),
    };
    ensure(!key.public.has(oa::RESTRICTED), Rc::ATTRIBUTES).h(1)?;
    ensure(key.public.has(oa::SIGN), Rc::KEY).h(1)?;
    objects::sensitive(key)?;
    Ok(hash)
}
