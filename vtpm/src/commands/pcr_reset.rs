//! TPM2_PCR_Reset (Part 3, 22.8).

use super::prelude::*;
use crate::pcr;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let handle = context.handle(0);
    ensure(pcr::may_reset(context.locality, handle), Rc::LOCALITY)?;
    context.state.set_pcr(handle, 0, 0);
    context.state.pcr_changed(handle);
    Ok(())
}
