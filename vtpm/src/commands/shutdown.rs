//! TPM2_Shutdown (Part 3, 9.4).

use super::prelude::*;
use crate::state::Shutdown;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let keep = params.with(super::startup::startup_type)?;
    params.end()?;
    let state = &mut *context.state;
    ensure(!(keep && state.ram.reallocated), Rc::TYPE).p(1)?;
    let handles: Vec<u32> = state.ram.orderly_nv.keys().copied().collect();
    for handle in handles {
        state.flush_nv(handle);
    }
    if keep {
        let pcrs = (*state.ram.pcrs).clone();
        state.clear_mut().pcrs = Some(pcrs);
        state.ram.write_saved = true;
    }
    state.boots_mut().left = match (keep, state.ram.locality_3) {
        (false, _) => Shutdown::CLEAR,
        (true, false) => Shutdown::STATE,
        (true, true) => Shutdown::STATE_3,
    };
    state.ram.write_orderly = true;
    state.ram.keeps_shutdown = true;
    Ok(())
}
