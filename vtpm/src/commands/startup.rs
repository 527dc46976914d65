//! TPM2_Startup (Part 3, 9.3).

use super::prelude::*;
use crate::{
    da,
    state::{Shutdown, StateClear, StateReset},
};
use alloc::sync::Arc;

/// `TPM_SU`
pub fn startup_type(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.u16()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Rc::VALUE),
    }
}

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let state_wanted = params.with(startup_type)?;
    params.end()?;
    ensure(matches!(context.locality, 0 | 3), Rc::LOCALITY)?;
    let left = context.state.boots.left;
    let saved = Shutdown::is_saved(left);
    ensure(!state_wanted || saved, Rc::VALUE).p(1)?;
    // What was started from one locality cannot be resumed from the other.
    let locality_3 = context.locality == 3;
    ensure(
        !state_wanted || locality_3 == (left == Shutdown::STATE_3),
        Rc::LOCALITY,
    )?;
    let orderly = Shutdown::is_orderly(left);
    let reset = !saved;
    let resume = state_wanted;

    let null_seed = context.random(limit::PRIMARY_SEED)?;
    let null_proof = context.random(limit::PROOF)?;
    let commit_nonce = context.random(limit::DIGEST)?;
    let locality = context.locality;
    let state = &mut *context.state;
    if reset {
        let boots = state.boots_mut();
        boots.resets = boots.resets.wrapping_add(1);
        boots.total_resets = boots.total_resets.wrapping_add(1);
        state.reset = Arc::new(StateReset {
            null_seed,
            null_proof,
            commit_nonce,
            ..StateReset::default()
        });
    } else {
        let kept = state.reset_mut();
        kept.restarts = kept.restarts.wrapping_add(1);
        if !resume {
            kept.clear_count = kept.clear_count.wrapping_add(1);
        }
    }
    state.start_pcrs(resume, locality);
    if !resume {
        state.clear = Arc::new(StateClear::default());
    }
    state.start_nv(reset, resume, orderly);
    if !orderly {
        state.orderly_mut().clock_safe = false;
    }
    da::startup(state, resume, left == Shutdown::DA_USED);
    state.boots_mut().left = Shutdown::NONE;
    state.ram.write_orderly = true;
    state.ram.locality_3 = locality_3;
    state.ram.orderly_start = orderly;
    state.ram.platform_enabled = true;
    state.ram.started = true;
    Ok(())
}
