//! TPM2_NV_DefineSpace (Part 3, 31.3).

use super::prelude::*;
use crate::{state::NvIndex, wire::structures::NvPublic};
use alloc::sync::Arc;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let auth = params.secret(limit::DIGEST)?;
    let public: NvPublic = params.inside()?;
    params.end()?;
    let hash = public.name_alg;
    let auth = without_trailing_zeros(&auth);
    ensure(
        public.policy.is_empty() || public.policy.len() == hash.size(),
        Rc::SIZE,
    )
    .p(2)?;
    ensure(auth.len() <= hash.size(), Rc::SIZE).p(1)?;
    let platform = context.handle(0) == rh::PLATFORM;
    let enabled = !platform || context.state.is_enabled(rh::PLATFORM_NV);
    ensure(enabled, Rc::HIERARCHY).h(1)?;
    check_attributes(&public, platform).p(2)?;
    let state = &mut *context.state;
    ensure(!state.nv.contains_key(&public.index), Rc::NV_DEFINED)?;
    let needed = 64 + usize::from(public.size) + auth.len();
    ensure(state.nv_used() + needed <= limit::NV_TOTAL, Rc::NV_SPACE)?;
    if public.has(nva::ORDERLY) {
        let ram = 12 + usize::from(public.size);
        ensure(
            state.orderly_used() + ram <= limit::ORDERLY_TOTAL,
            Rc::NV_SPACE,
        )?;
    }
    let handle = public.index;
    let index = NvIndex {
        public,
        auth: Bytes::new(auth.to_vec()),
        data: Bytes::default(),
    };
    let index = Arc::new(index);
    if index.is_orderly() {
        state.ram.orderly_nv.insert(handle, index.clone());
    }
    state.nv.insert(handle, index);
    Ok(())
}

/// Which attributes go together (Part 2, 13.4).
fn check_attributes(public: &NvPublic, platform: bool) -> Result<()> {
    let attributes = |fits| ensure(fits, Rc::ATTRIBUTES);
    let none = |bits: u32| public.attributes & bits == 0;
    match public.kind() {
        nva::NT_ORDINARY => {}
        nva::NT_COUNTER | nva::NT_BITS => ensure(public.size == 8, Rc::SIZE)?,
        nva::NT_EXTEND => ensure(usize::from(public.size) == public.name_alg.size(), Rc::SIZE)?,
        kind @ (nva::NT_PIN_FAIL | nva::NT_PIN_PASS) => {
            ensure(public.size == 8, Rc::SIZE)?;
            attributes(none(nva::AUTHWRITE | nva::GLOBALLOCK | nva::WRITEDEFINE))?;
            attributes(kind != nva::NT_PIN_FAIL || public.has(nva::NO_DA))?;
        }
        _ => return Err(Rc::ATTRIBUTES),
    }
    attributes(none(nva::WRITTEN | nva::WRITELOCKED | nva::READLOCKED))?;
    attributes(!none(
        nva::PPWRITE | nva::OWNERWRITE | nva::AUTHWRITE | nva::POLICYWRITE,
    ))?;
    attributes(!none(
        nva::PPREAD | nva::OWNERREAD | nva::AUTHREAD | nva::POLICYREAD,
    ))?;
    let lasting = public.kind() == nva::NT_COUNTER || public.has(nva::WRITEDEFINE);
    attributes(!lasting || none(nva::CLEAR_STCLEAR))?;
    let creator = public.has(nva::PLATFORMCREATE) == platform;
    ensure(creator, Rc::ATTRIBUTES).h(1)?;
    attributes(none(nva::POLICY_DELETE) || platform)?;
    let whole = !public.has(nva::WRITEALL) || usize::from(public.size) <= limit::NV_BUFFER;
    ensure(whole, Rc::SIZE)
}
