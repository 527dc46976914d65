//! Saved contexts: objects and sessions outside of the TPM (Part 1, 30).
//!
//! Always true: a context is encrypted and bound to its number, its handle, the proof of its
//! hierarchy and the number of TPM Resets, so that it loads only into the TPM and boot it came
//! from.

use alloc::vec::Vec;

use crate::{
    constants::{ht, limit, rh},
    context::{CONTEXT_HASH, Context},
    crypto::{self, Bytes, CipherMode, ct_eq},
    rc::{Rc, Result, ensure},
    state::{encoding::Encode, object::Slot, session::Session},
    wire::{Put, Reader, structures::SavedContext},
};

const SEQUENCE: u32 = rh::TRANSIENT_FIRST + 1;
const ST_CLEAR: u32 = rh::TRANSIENT_FIRST + 2;
const KEY: usize = 32;
const SESSION_SIZE: usize = 320;

fn crypt(
    context: &Context<'_>,
    saved: &SavedContext,
    encrypt: bool,
    data: &mut [u8],
) -> Result<()> {
    let proof = context.state.proof(saved.hierarchy);
    let (number, handle) = (saved.sequence.to_be_bytes(), saved.handle.to_be_bytes());
    let key = crypto::kdfa(CONTEXT_HASH, proof, "CONTEXT", &number, &handle, 256 + 128);
    let (key, iv) = key.split_at_checked(KEY).ok_or(Rc::FAILURE)?;
    let mut iv = Bytes::new(iv.to_vec());
    context
        .crypto
        .aes(key, CipherMode::Cfb, encrypt, &mut iv, data)
        .map_err(|_| Rc::FAILURE)
}

fn integrity(context: &Context<'_>, saved: &SavedContext, data: &[u8]) -> Vec<u8> {
    let mut bound = Vec::new();
    bound.put(&context.state.boots.total_resets);
    if saved.handle == ST_CLEAR {
        bound.put(&context.state.reset.clear_count);
    }
    bound.put(&saved.sequence);
    bound.put(&saved.handle);
    bound.put(&saved.hierarchy);
    context.proof_hmac(saved.hierarchy, &[&bound, data])
}

fn seal(context: &Context<'_>, mut saved: SavedContext, mut data: Bytes) -> Result<SavedContext> {
    crypt(context, &saved, true, &mut data)?;
    let mut blob = Vec::new();
    blob.sized(&integrity(context, &saved, &data));
    blob.raw(&data);
    ensure(blob.len() <= limit::CONTEXT, Rc::FAILURE)?;
    saved.blob = blob;
    Ok(saved)
}

/// Saves an object or session; the session is then out of RAM.
///
/// # Errors
/// `TPM_RC_CONTEXT_GAP`, `TPM_RC_TOO_MANY_CONTEXTS`
pub fn save(context: &mut Context<'_>, handle: u32) -> Result<SavedContext> {
    if ht::of(handle) != ht::TRANSIENT {
        let (sequence, session) = context.state.save_session(handle)?;
        let saved = SavedContext {
            sequence,
            handle,
            hierarchy: rh::NULL,
            blob: Vec::new(),
        };
        // All sessions look alike from outside, and are as long as the reference's.
        let mut data = session.encoded();
        let size = data.len().max(SESSION_SIZE);
        data.resize(size, 0);
        return seal(context, saved, data);
    }
    let slot = context
        .state
        .slot(handle)
        .cloned()
        .ok_or(Rc::REFERENCE_H0)?;
    let (kind, hierarchy) = match &slot {
        Slot::Object(object) if context.state.is_st_clear(handle) => (ST_CLEAR, object.hierarchy),
        Slot::Object(object) => (rh::TRANSIENT_FIRST, object.hierarchy),
        _ => (SEQUENCE, rh::NULL),
    };
    let reset = context.state.reset_mut();
    reset.object_context = reset
        .object_context
        .checked_add(1)
        .ok_or(Rc::TOO_MANY_CONTEXTS)?;
    let sequence = reset.object_context;
    let saved = SavedContext {
        sequence,
        handle: kind,
        hierarchy,
        blob: Vec::new(),
    };
    seal(context, saved, slot.encoded())
}

/// Loads a saved context and returns its handle.
///
/// # Errors
/// `TPM_RC_INTEGRITY`, `TPM_RC_HIERARCHY`, `TPM_RC_HANDLE`, `TPM_RC_SIZE` about parameter 1;
/// `TPM_RC_OBJECT_MEMORY`, `TPM_RC_SESSION_MEMORY`.
pub fn load(context: &mut Context<'_>, saved: &SavedContext) -> Result<u32> {
    let wrong = |rc: Rc| rc.parameter(1);
    let mut reader = Reader::new(&saved.blob);
    let given = reader.sized(CONTEXT_HASH.size())?;
    let data = reader.left();
    let object = ht::of(saved.handle) == ht::TRANSIENT;
    if object {
        ensure(
            context.state.is_enabled(saved.hierarchy),
            wrong(Rc::HIERARCHY),
        )?;
    }
    ensure(
        ct_eq(given, &integrity(context, saved, data)),
        wrong(Rc::INTEGRITY),
    )?;
    let mut data = Bytes::new(data.to_vec());
    crypt(context, saved, false, &mut data)?;
    if object {
        let slot = Slot::decoded(&data).ok_or(wrong(Rc::INTEGRITY))?;
        let handle = context.state.add_slot(slot)?;
        context.state.set_st_clear(handle, saved.handle == ST_CLEAR);
        return Ok(handle);
    }
    let mut padded = Reader::new(&data);
    let session = Session::decode(&mut padded).ok_or(wrong(Rc::INTEGRITY))?;
    ensure(
        padded.left().iter().all(|byte| *byte == 0),
        wrong(Rc::INTEGRITY),
    )?;
    let handle = session.handle;
    ensure(handle == saved.handle, wrong(Rc::INTEGRITY))?;
    context.state.load_session(saved.sequence, session)?;
    Ok(handle)
}
