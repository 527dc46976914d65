//! TPM2_Clear (Part 3, 24.6): everything of the owner goes.

use super::prelude::*;
use crate::state::{Da, Owners};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    ensure(!context.state.owners.disable_clear, Rc::DISABLED)?;
    let seed = context.random(limit::PRIMARY_SEED)?;
    let storage_proof = context.random(limit::PROOF)?;
    let endorsement_proof = context.random(limit::PROOF)?;
    let state = &mut *context.state;
    let seeds = state.seeds_mut();
    seeds.storage = seed;
    seeds.storage_proof = storage_proof;
    seeds.endorsement_proof = endorsement_proof;
    let clear = state.clear_mut();
    clear.storage_enabled = true;
    clear.endorsement_enabled = true;
    state.flush_hierarchy(rh::OWNER);
    state.flush_hierarchy(rh::ENDORSEMENT);
    let mine = |hierarchy| matches!(hierarchy, rh::OWNER | rh::ENDORSEMENT);
    state.persistent.retain(|_, object| !mine(object.hierarchy));
    let handles: Vec<u32> = state.nv.keys().copied().collect();
    for handle in handles {
        if state
            .nv_index(handle)
            .is_some_and(|index| !index.public.has(nva::PLATFORMCREATE))
        {
            state.remove_nv(handle);
        }
    }
    *state.owners_mut() = Owners {
        disable_clear: false,
        ..Owners::default()
    };
    // The parameters, too, are those of a new TPM.
    *state.da_mut() = Da::default();
    let boots = state.boots_mut();
    boots.resets = 0;
    state.reset_mut().restarts = 0;
    if state.settings.audit_counter != 0 {
        state.settings_mut().audit_counter = 0;
    }
    let orderly = state.orderly_mut();
    orderly.clock = 0;
    orderly.clock_safe = true;
    orderly.heal_ms = 0;
    orderly.lockout_ms = 0;
    state.ram.write_orderly = true;
    let reset = state.reset_mut();
    reset.pcr_counter = reset.pcr_counter.wrapping_add(1);
    Ok(())
}
