//! TPM2_ChangePPS (Part 3, 24.4).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let seed = context.random(limit::PRIMARY_SEED)?;
    let proof = context.random(limit::PROOF)?;
    let state = &mut *context.state;
    let seeds = state.seeds_mut();
    seeds.platform = seed;
    seeds.platform_proof = proof;
    let access = &mut state.clear_mut().platform;
    access.policy_alg = None;
    access.policy = Vec::new();
    state.flush_hierarchy(rh::PLATFORM);
    state
        .persistent
        .retain(|_, object| object.hierarchy != rh::PLATFORM);
    Ok(())
}
