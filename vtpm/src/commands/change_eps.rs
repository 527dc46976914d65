//! TPM2_ChangeEPS (Part 3, 24.5): the cached public area of the endorsement key changes with it.

use super::prelude::*;
use crate::manufacture;
use alloc::sync::Arc;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let seed = context.random(limit::PRIMARY_SEED)?;
    let proof = context.random(limit::PROOF)?;
    let state = &mut *context.state;
    let seeds = state.seeds_mut();
    seeds.endorsement = seed;
    seeds.endorsement_proof = proof;
    state.clear_mut().endorsement_enabled = true;
    state.owners_mut().endorsement = Default::default();
    state.flush_hierarchy(rh::ENDORSEMENT);
    state
        .persistent
        .retain(|_, object| object.hierarchy != rh::ENDORSEMENT);
    let public = manufacture::ek_public(state, context.environment, context.crypto);
    context.state.ek_public = Arc::new(public.map_err(|_| Rc::FAILURE)?);
    Ok(())
}
