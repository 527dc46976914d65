//! Which public and sensitive areas make sense (Part 1, 25 to 27; Part 2, 8.3 and 12.2).

use crate::{
    constants::{alg, oa},
    context::{Context, crypto_rc},
    crypto::{self, CryptoError, RsaPrivate, ct_eq},
    rc::{Rc, Result, ensure},
    state::object::Object,
    wire::{
        algorithms::{Scheme, SymDef},
        public::{Parameters, Public, Sensitive},
    },
};

/// Attributes and parameters of an object under `parent` (none for a primary object).
///
/// # Errors
/// `TPM_RC_ATTRIBUTES`, `TPM_RC_SIZE` and those of [`schemes`], without number.
pub fn public(public: &Public, parent: Option<&Object>) -> Result<()> {
    let hash = public.name_alg.ok_or(Rc::HASH)?;
    ensure(
        public.policy.is_empty() || public.policy.len() == hash.size(),
        Rc::SIZE,
    )?;
    let parent_fixed = parent.is_none_or(|parent| parent.public.has(oa::FIXED_TPM));
    let fixed = public.has(oa::FIXED_TPM);
    let attributes = |fits| ensure(fits, Rc::ATTRIBUTES);
    attributes(if parent_fixed {
        fixed == public.has(oa::FIXED_PARENT)
    } else {
        !fixed
    })?;
    let sign = public.has(oa::SIGN);
    if sign == public.has(oa::DECRYPT) {
        attributes(!public.has(oa::RESTRICTED))?;
        attributes(sign || public.kind() == alg::KEYEDHASH)?;
    }
    attributes(!(fixed && public.has(oa::ENCRYPTED_DUPLICATION)))?;
    if let Some(parent) = parent {
        let same =
            public.has(oa::ENCRYPTED_DUPLICATION) == parent.public.has(oa::ENCRYPTED_DUPLICATION);
        attributes(parent_fixed || same)?;
        if parent.is_derivation_parent() {
            attributes(public.has(oa::FIXED_PARENT))?;
        }
    }
    schemes(public, parent)
}

/// Schemes and symmetric algorithm of a public area.
///
/// # Errors
/// `TPM_RC_SCHEME`, `TPM_RC_SYMMETRIC`, `TPM_RC_KDF`, `TPM_RC_MODE`, `TPM_RC_HASH`,
/// `TPM_RC_VALUE`
pub fn schemes(public: &Public, parent: Option<&Object>) -> Result<()> {
    let sign = public.has(oa::SIGN);
    let decrypt = public.has(oa::DECRYPT);
    let restricted = public.has(oa::RESTRICTED);
    match public.parameters {
        Parameters::Symmetric(_) => {}
        Parameters::KeyedHash(scheme) => {
            if sign == decrypt {
                return ensure(scheme.is_null(), Rc::SCHEME);
            }
            if sign {
                return ensure(matches!(scheme, Scheme::Hash(alg::HMAC, _)), Rc::SCHEME);
            }
            let Scheme::Xor(_, kdf) = scheme else {
                return Err(Rc::SCHEME);
            };
            return ensure(!restricted || kdf == alg::KDF1_SP800_108, Rc::SCHEME);
        }
        Parameters::Rsa {
            symmetric, scheme, ..
        }
        | Parameters::Ecc {
            symmetric, scheme, ..
        } => {
            let fits = if sign == decrypt {
                scheme.is_null()
            } else if sign {
                (scheme.is_null() && !restricted) || is_signing(scheme.id())
            } else if restricted {
                scheme.is_null()
            } else {
                scheme.is_null() || matches!(scheme.id(), alg::RSAES | alg::OAEP | alg::ECDH)
            };
            ensure(fits, Rc::SCHEME)?;
            let storage = restricted && decrypt;
            ensure((symmetric != SymDef::Null) == storage, Rc::SYMMETRIC)?;
            if let Parameters::Ecc { kdf, .. } = public.parameters {
                ensure(kdf.is_null(), Rc::KDF)?;
            }
        }
    }
    if restricted && decrypt {
        // Children are wrapped in CFB mode whatever mode is named, as the reference does.
        ensure(
            matches!(public.symmetric(), SymDef::Aes { .. }),
            Rc::SYMMETRIC,
        )?;
        if let Some(parent) = parent
            && public.has(oa::FIXED_PARENT)
        {
            ensure(public.name_alg == parent.public.name_alg, Rc::HASH)?;
            ensure(
                public.symmetric() == parent.public.symmetric(),
                Rc::SYMMETRIC,
            )?;
        }
    }
    Ok(())
}

/// Is it an asymmetric signing scheme?
#[must_use]
pub fn is_signing(id: u16) -> bool {
    matches!(
        id,
        alg::RSASSA | alg::RSAPSS | alg::ECDSA | alg::ECDAA | alg::ECSCHNORR
    )
}

/// Attributes of an object to be created with `size` bytes of data from the caller.
///
/// # Errors
/// `TPM_RC_ATTRIBUTES` and those of [`public`].
pub fn creation(area: &Public, parent: Option<&Object>, size: usize) -> Result<()> {
    let origin = area.has(oa::SENSITIVE_DATA_ORIGIN);
    let attributes = |fits| ensure(fits, Rc::ATTRIBUTES);
    attributes(origin || size != 0)?;
    attributes(parent.is_none() || !origin || size == 0)?;
    match area.kind() {
        alg::KEYEDHASH => {
            attributes(area.has(oa::SIGN) || area.has(oa::DECRYPT) || !origin)?;
        }
        alg::SYMCIPHER => attributes(!area.has(oa::RESTRICTED) || origin)?,
        _ => attributes(origin)?,
    }
    public(area, parent)
}

/// Whether the public key and the sensitive area fit together (Part 1, 27.7). The numbers are
/// those of the parameters to blame.
///
/// # Errors
/// `TPM_RC_KEY`, `TPM_RC_ECC_POINT`, `TPM_RC_TYPE`, `TPM_RC_SIZE`, `TPM_RC_KEY_SIZE`,
/// `TPM_RC_BINDING`
pub fn keys(
    context: &Context<'_>,
    public: &Public,
    sensitive: Option<&Sensitive>,
    blame_public: u32,
    blame_sensitive: u32,
) -> Result<()> {
    let digest = public.name_alg.map_or(0, |hash| hash.size());
    let in_public = |rc: Rc| rc.parameter(blame_public);
    let in_sensitive = |rc: Rc| rc.parameter(blame_sensitive);
    if let Some(sensitive) = sensitive {
        ensure(sensitive.kind == public.kind(), in_sensitive(Rc::TYPE))?;
        ensure(
            sensitive.auth.len() <= digest || digest == 0,
            in_sensitive(Rc::SIZE),
        )?;
    }
    match &public.parameters {
        Parameters::Rsa { bits, .. } => {
            let modulus = public.unique.bytes();
            let size = usize::from(bits / 8);
            let top = modulus.first().is_some_and(|byte| byte & 0x80 != 0);
            ensure(modulus.len() == size && top, in_public(Rc::KEY))?;
            let exponent = public.exponent();
            ensure(exponent > 0xFFFF && exponent % 2 == 1, in_public(Rc::VALUE))?;
            if let Some(sensitive) = sensitive {
                let top = sensitive
                    .secret
                    .first()
                    .is_some_and(|byte| byte & 0x80 != 0);
                ensure(
                    sensitive.secret.len() * 2 == size && top,
                    in_sensitive(Rc::KEY_SIZE),
                )?;
                let key = RsaPrivate {
                    n: modulus,
                    e: public.exponent(),
                    p: &sensitive.secret,
                };
                context.crypto.rsa_check(&key).map_err(|error| {
                    if error == CryptoError::Key {
                        Rc::BINDING
                    } else {
                        in_sensitive(crypto_rc(error))
                    }
                })?;
            }
        }
        Parameters::Ecc { curve, .. } => {
            let point = public.unique.point()?;
            let whole = point.x.len() == curve.size() && point.y.len() == curve.size();
            ensure(whole, in_public(Rc::KEY))?;
            if sensitive.is_none() && digest != 0 {
                ensure(
                    context.crypto.ecc_on_curve(*curve, point),
                    in_public(Rc::ECC_POINT),
                )?;
            }
            if let Some(sensitive) = sensitive.filter(|_| digest != 0) {
                let own = context.crypto.ecc_public(*curve, &sensitive.secret);
                let own = own.map_err(|_| Rc::KEY_SIZE)?;
                ensure(
                    ct_eq(&own.x, &point.x) && ct_eq(&own.y, &point.y),
                    Rc::BINDING,
                )?;
            }
        }
        Parameters::Symmetric(sym) => {
            if let (Some(sensitive), SymDef::Aes { bits, .. }) = (sensitive, sym) {
                ensure(
                    sensitive.secret.len() == usize::from(bits / 8),
                    in_sensitive(Rc::KEY_SIZE),
                )?;
            }
            digest_binds(public, sensitive, digest, blame_public, blame_sensitive)?;
        }
        Parameters::KeyedHash(scheme) => {
            if let (Some(sensitive), Some(hash)) = (sensitive, scheme.hash()) {
                let fits = sensitive.secret.len() <= hash.block_size();
                ensure(fits, in_sensitive(Rc::KEY_SIZE))?;
            }
            digest_binds(public, sensitive, digest, blame_public, blame_sensitive)?;
        }
    }
    if let Some(sensitive) = sensitive
        && public.has(oa::RESTRICTED | oa::DECRYPT)
        && matches!(public.kind(), alg::RSA | alg::ECC)
        && digest != 0
    {
        let seed = sensitive.seed.len();
        ensure(
            (digest / 2..=digest).contains(&seed),
            in_sensitive(Rc::SIZE),
        )?;
    }
    Ok(())
}

/// The digest in the public area of a symmetric or keyed-hash object.
fn digest_binds(
    public: &Public,
    sensitive: Option<&Sensitive>,
    digest: usize,
    blame_public: u32,
    blame_sensitive: u32,
) -> Result<()> {
    // Without a hash nothing binds the two.
    ensure(
        public.unique.bytes().len() == digest || (sensitive.is_some() && digest == 0),
        Rc::KEY.parameter(blame_public),
    )?;
    let Some(sensitive) = sensitive.filter(|_| digest != 0) else {
        return Ok(());
    };
    ensure(
        sensitive.seed.len() == digest,
        Rc::KEY_SIZE.parameter(blame_sensitive),
    )?;
    let own = unique_digest(public, sensitive);
    ensure(ct_eq(&own, public.unique.bytes()), Rc::BINDING)
}

/// What binds the public area of a symmetric or keyed-hash object to its sensitive area.
#[must_use]
pub fn unique_digest(public: &Public, sensitive: &Sensitive) -> alloc::vec::Vec<u8> {
    public
        .name_alg
        .map(|hash| crypto::hash(hash, &[&sensitive.seed, &sensitive.secret]))
        .unwrap_or_default()
}
