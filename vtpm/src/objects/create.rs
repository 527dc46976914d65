//! Making keys and sealed data (Part 1, 27.2 to 27.4).
//!
//! Always true: the random numbers of a primary object come only from the seed of its
//! hierarchy and its template, so that the same template makes the same key again.

use alloc::vec::Vec;

use crate::{
    constants::{alg, oa, rh},
    context::{Context, Random},
    crypto::{self, Bytes, Crypto, CryptoError, HashAlg, KdfRng, Rng},
    objects,
    rc::{Rc, Result, ensure},
    state::object::Object,
    wire::{
        Marshal, Put,
        algorithms::{Scheme, SymDef},
        public::{Parameters, Public, Sensitive, SensitiveCreate, Unique},
        structures::PcrSelections,
        without_trailing_zeros,
    },
};

fn failed(error: CryptoError) -> Rc {
    match error {
        CryptoError::Value => Rc::RANGE,
        _ => Rc::FAILURE,
    }
}

fn bytes(rng: &mut dyn Rng, size: usize) -> Result<Bytes> {
    let mut bytes = Bytes::new(alloc::vec![0; size]);
    rng.fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Makes the sensitive area, and completes the public area with what follows from it.
///
/// # Errors
/// `TPM_RC_KEY_SIZE`, `TPM_RC_SIZE` for given data that does not fit the template,
/// `TPM_RC_RANGE` for a public exponent that is not supported.
fn fill(
    crypto: &dyn Crypto,
    public: &mut Public,
    given: &SensitiveCreate,
    rng: &mut dyn Rng,
) -> Result<Sensitive> {
    let mut sensitive = fill_secret(crypto, public, given, rng)?;
    fill_seed(public, &mut sensitive, rng)?;
    Ok(sensitive)
}

/// The first half of [`fill`]: the secret.
fn fill_secret(
    crypto: &dyn Crypto,
    public: &mut Public,
    given: &SensitiveCreate,
    rng: &mut dyn Rng,
) -> Result<Sensitive> {
    let hash = public.name_alg.ok_or(Rc::HASH)?;
    let mut sensitive = Sensitive {
        kind: public.kind(),
        auth: Bytes::new(without_trailing_zeros(&given.auth).to_vec()),
        seed: Bytes::default(),
        secret: Bytes::default(),
    };
    let exponent = public.exponent();
    // Data for a primary object that makes its own secret goes into its derivation only.
    let generate = given.data.is_empty() || public.has(oa::SENSITIVE_DATA_ORIGIN);
    match &mut public.parameters {
        Parameters::Rsa { bits, .. } => {
            let (modulus, prime) = crypto.rsa_generate(*bits, exponent, rng).map_err(failed)?;
            public.unique = Unique::Bytes(modulus);
            sensitive.secret = prime;
        }
        Parameters::Ecc { curve, .. } => {
            let (d, point) = crypto.ecc_generate(*curve, rng).map_err(failed)?;
            public.unique = Unique::Point(point);
            sensitive.secret = d;
        }
        Parameters::Symmetric(SymDef::Aes { bits, .. }) => {
            let size = usize::from(*bits / 8);
            sensitive.secret = if generate {
                bytes(rng, size)?
            } else {
                ensure(given.data.len() == size, Rc::KEY_SIZE)?;
                given.data.clone()
            };
        }
        Parameters::Symmetric(_) => return Err(Rc::SYMMETRIC),
        Parameters::KeyedHash(scheme) => {
            let block = scheme.hash().map_or(usize::MAX, HashAlg::block_size);
            sensitive.secret = if generate {
                bytes(rng, scheme.hash().unwrap_or(hash).size())?
            } else {
                ensure(given.data.len() <= block, Rc::SIZE)?;
                given.data.clone()
            };
        }
    }
    Ok(sensitive)
}

/// The second half of [`fill`]: the seed, from which a parent protects its children and which
/// blinds the digest of what has no public key.
fn fill_seed(public: &mut Public, sensitive: &mut Sensitive, rng: &mut dyn Rng) -> Result<()> {
    let size = public.name_alg.ok_or(Rc::HASH)?.size();
    if matches!(sensitive.kind, alg::KEYEDHASH | alg::SYMCIPHER) {
        sensitive.seed = bytes(rng, size)?;
        public.unique = Unique::Bytes(objects::check::unique_digest(public, sensitive));
    } else if public.has(oa::RESTRICTED | oa::DECRYPT) {
        sensitive.seed = bytes(rng, size)?;
    }
    Ok(())
}

/// Makes a primary object of `hierarchy`.
///
/// # Errors
/// See [`fill`].
pub fn primary(
    context: &mut Context<'_>,
    hierarchy: u32,
    mut public: Public,
    given: SensitiveCreate,
) -> Result<Object> {
    let template = crypto::hash(HashAlg::Sha512, &[&public.to_bytes(), &given.data]);
    let seed = context.state.seed(hierarchy);
    let mut rng = KdfRng::new(HashAlg::Sha512, seed, "Primary Object Creation", &template);
    let mut sensitive = fill_secret(context.crypto, &mut public, &given, &mut rng)?;
    if hierarchy == rh::ENDORSEMENT {
        // The endorsement seed outlives its owner. The children of a former one must not load
        // again, so what protects them also hangs on secrets that a clear replaces.
        let seeds = &context.state.seeds;
        let proofs = crypto::concat(&[&seeds.storage_proof, &seeds.endorsement_proof]);
        let own = bytes(&mut rng, HashAlg::Sha512.size())?;
        rng = KdfRng::new(HashAlg::Sha512, &own, "Primary Object Seed", &proofs);
    }
    fill_seed(&mut public, &mut sensitive, &mut rng)?;
    let mut object = objects::assemble(public, Some(sensitive), None, hierarchy);
    object.primary = true;
    Ok(object)
}

/// Makes an ordinary object below `parent`.
///
/// # Errors
/// See [`fill`].
pub fn ordinary(
    context: &mut Context<'_>,
    parent: &Object,
    mut public: Public,
    given: &SensitiveCreate,
) -> Result<Object> {
    let mut rng = Random(context.environment);
    let sensitive = fill(context.crypto, &mut public, given, &mut rng)?;
    Ok(objects::assemble(
        public,
        Some(sensitive),
        Some(parent),
        parent.hierarchy,
    ))
}

/// Makes a derived object: all of it follows from the parent's secret, label and context.
///
/// # Errors
/// See [`fill`]; `TPM_RC_TYPE` for RSA, which is not derived.
pub fn derived(
    context: &mut Context<'_>,
    parent: &Object,
    mut public: Public,
    derive: (&[u8], &[u8]),
    given: &SensitiveCreate,
) -> Result<Object> {
    let hash = match parent.public.parameters {
        Parameters::KeyedHash(Scheme::Xor(hash, _)) => hash,
        _ => return Err(Rc::TYPE),
    };
    let mut input = public.parameters.to_bytes();
    input.sized(derive.0);
    input.sized(derive.1);
    let secret = parent.secret().ok_or(Rc::KEY)?;
    let mut rng = KdfRng::new(hash, secret, "Derived Object Creation", &input);
    let given = SensitiveCreate {
        auth: given.auth.clone(),
        data: Bytes::default(),
    };
    let sensitive = fill(context.crypto, &mut public, &given, &mut rng)?;
    Ok(objects::assemble(
        public,
        Some(sensitive),
        Some(parent),
        parent.hierarchy,
    ))
}

/// `TPMS_CREATION_DATA`: the circumstances of a creation.
#[must_use]
pub fn creation_data(
    context: &Context<'_>,
    public: &Public,
    parent: u32,
    outside: &[u8],
    pcrs: &PcrSelections,
) -> Vec<u8> {
    let mut out = Vec::new();
    let hash = public.name_alg.unwrap_or(HashAlg::Sha256);
    let (filtered, digest) = context.state.pcr_digest(hash, pcrs);
    out.put(&filtered);
    out.sized(&digest);
    out.put(&(1u8 << context.locality.min(4)));
    match context.state.object(parent) {
        Ok(object) => {
            out.put(&object.public.name_alg.map_or(alg::NULL, HashAlg::id));
            out.sized(&object.name);
            out.sized(&object.qualified);
        }
        Err(_) => {
            out.put(&alg::NULL);
            out.sized(&parent.to_be_bytes());
            out.sized(&parent.to_be_bytes());
        }
    }
    out.sized(outside);
    out
}

/// Ticket of a creation, which proves to `TPM2_CertifyCreation` that this TPM made the object.
#[must_use]
pub fn creation_ticket(
    context: &Context<'_>,
    hierarchy: u32,
    name: &[u8],
    creation_hash: &[u8],
) -> crate::wire::structures::Ticket {
    let tag = crate::constants::st::CREATION;
    let digest = context.proof_hmac(hierarchy, &[&tag.to_be_bytes(), name, creation_hash]);
    crate::wire::structures::Ticket {
        tag,
        hierarchy,
        digest,
    }
}
