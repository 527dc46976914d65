//! Attestation structures (Part 1, 31; Part 2, 10.12).

use alloc::vec::Vec;

use crate::{
    capabilities,
    constants::{GENERATED, rh},
    context::{CONTEXT_HASH, Context},
    crypto,
    params::Reply,
    rc::{Rc, Result},
    signing,
    state::object::Object,
    wire::{Put, algorithms::Scheme, signature::Signature},
};

/// An anonymous signer does not say its name, and signs the caller's data beside the structure
/// (Part 3, 18.1).
#[must_use]
pub fn is_anonymous(scheme: Scheme) -> bool {
    matches!(scheme, Scheme::Ecdaa(..))
}

/// A `TPMS_ATTEST` with everything but its last part.
#[must_use]
pub fn begin(
    context: &Context<'_>,
    tag: u16,
    key: Option<&Object>,
    scheme: Scheme,
    extra: &[u8],
) -> Vec<u8> {
    let mut clock = context.state.clock_info();
    let mut firmware = capabilities::FIRMWARE_VERSION;
    let null = rh::NULL.to_be_bytes();
    let signer: &[u8] = key.map_or(&null, |key| &key.qualified);
    // Counters that identify the TPM stay hidden from keys of users.
    if !key.is_some_and(|key| matches!(key.hierarchy, rh::ENDORSEMENT | rh::PLATFORM)) {
        let proof = &context.state.seeds.storage_proof;
        let hide = crypto::kdfa(CONTEXT_HASH, proof, "OBFUSCATE", signer, &[], 128);
        let word = |at: usize| -> u32 {
            hide.get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_be_bytes)
        };
        firmware = firmware.wrapping_add(u64::from(word(0)) << 32 | u64::from(word(4)));
        clock.reset_count = clock.reset_count.wrapping_add(word(8));
        clock.restart_count = clock.restart_count.wrapping_add(word(12));
    }
    let mut out = Vec::new();
    out.put(&GENERATED);
    out.put(&tag);
    if is_anonymous(scheme) {
        out.sized(&[]);
        out.sized(&[]);
    } else {
        out.sized(signer);
        out.sized(extra);
    }
    out.put(&clock);
    out.put(&firmware);
    out
}

/// Signs the structure and answers with it and the signature.
///
/// # Errors
/// Those of [`signing::sign`].
pub fn finish(
    context: &mut Context<'_>,
    key: Option<&Object>,
    scheme: Scheme,
    extra: &[u8],
    attest: &[u8],
    reply: &mut Reply,
) -> Result<()> {
    let signature = match key {
        None => Signature::Null,
        Some(key) => {
            let hash = scheme.hash().ok_or(Rc::SCHEME)?;
            let mut digest = crypto::hash(hash, &[attest]);
            if is_anonymous(scheme) && !extra.is_empty() {
                digest = crypto::hash(hash, &[extra, &digest]);
            }
            // A time that was certified must not come again as a safe one.
            context.state.ram.outdates_shutdown = true;
            signing::sign(context, key, scheme, &digest)?
        }
    };
    reply.sized(attest).put(&signature);
    Ok(())
}
