//! Commitments for ECDAA and for two-phase key exchange (Part 1, C.2).
//!
//! Always true: the secret number of a commitment is derived from a nonce that a TPM Reset
//! replaces and a counter that never repeats, and it is used at most once.

use crate::{
    constants::limit,
    context::{Context, crypto_rc},
    crypto::{self, Bytes, Curve, EccSignature, HashAlg},
    objects,
    rc::{Rc, Result, ensure},
    state::object::Object,
};

const SLOTS: u64 = 64;

fn number(context: &Context<'_>, curve: Curve, name: &[u8], counter: u64) -> Result<Bytes> {
    let bits = (curve.size() as u32 + 8) * 8;
    let wide = crypto::kdfa(
        HashAlg::Sha256,
        &context.state.reset.commit_nonce,
        "ECDAA Commit",
        name,
        &counter.to_be_bytes(),
        bits,
    );
    context
        .crypto
        .ecc_scalar_multiply_add(curve, &wide, &[1], &[])
        .map_err(crypto_rc)
}

/// A new commitment: its secret number, and the counter that names it.
///
/// # Errors
/// `TPM_RC_FAILURE`
pub fn begin(context: &mut Context<'_>, curve: Curve, name: &[u8]) -> Result<(Bytes, u16)> {
    let counter = context.state.reset.commit_counter;
    let secret = number(context, curve, name, counter)?;
    let reset = context.state.reset_mut();
    reset.commit_open.resize((SLOTS / 8) as usize, 0);
    let slot = counter % SLOTS;
    if let Some(byte) = reset.commit_open.get_mut((slot / 8) as usize) {
        *byte |= 1 << (slot % 8);
    }
    reset.commit_counter = reset.commit_counter.wrapping_add(1);
    Ok((secret, counter as u16))
}

/// Takes the secret number of an open commitment; it is then closed.
///
/// # Errors
/// `TPM_RC_VALUE` when there is no such commitment.
pub fn take(context: &mut Context<'_>, curve: Curve, name: &[u8], count: u16) -> Result<Bytes> {
    let next = context.state.reset.commit_counter;
    let back = u64::from((next as u16).wrapping_sub(count));
    ensure(back != 0 && back <= SLOTS && back <= next, Rc::VALUE)?;
    let counter = next - back;
    let slot = counter % SLOTS;
    let byte = context
        .state
        .reset_mut()
        .commit_open
        .get_mut((slot / 8) as usize)
        .ok_or(Rc::VALUE)?;
    let bit = 1 << (slot % 8);
    ensure(*byte & bit != 0, Rc::VALUE)?;
    *byte &= !bit;
    number(context, curve, name, counter)
}

/// ECDAA signature with an open commitment (Part 1, C.4.2).
///
/// # Errors
/// `TPM_RC_VALUE` when there is no such commitment.
pub fn sign(
    context: &mut Context<'_>,
    key: &Object,
    curve: Curve,
    hash: HashAlg,
    count: u16,
    digest: &[u8],
) -> Result<EccSignature> {
    let secret = take(context, curve, &key.name, count)?;
    let d = &objects::sensitive(key)?.secret;
    let nonce = context.random(curve.size())?;
    let nonce = context
        .crypto
        .ecc_scalar_multiply_add(curve, &nonce, &[1], &[])
        .map_err(crypto_rc)?;
    let t = crypto::hash(hash, &[&nonce, digest]);
    let s = context
        .crypto
        .ecc_scalar_multiply_add(curve, &t, d, &secret)
        .map_err(crypto_rc)?;
    // The commitment k·G is public, so a wrong s would tell about d: s·G = t·Q + k·G or nothing.
    let public = key.public.unique.point()?;
    let t = context
        .crypto
        .ecc_scalar_multiply_add(curve, &t, &[1], &[])
        .map_err(crypto_rc)?;
    let whole = context.crypto.ecc_public(curve, &s).and_then(|left| {
        let generator = context.crypto.ecc_public(curve, &[1])?;
        let right = (context.crypto).ecc_multiply_add(curve, &t, public, &secret, &generator)?;
        Ok(left == right)
    });
    ensure(whole == Ok(true), Rc::FAILURE)?;
    Ok(EccSignature {
        r: nonce.to_vec(),
        s: s.to_vec(),
    })
}

const _: () = assert!(SLOTS as usize <= limit::CONTEXT);
