//! TPM2_PolicyRestart (Part 3, 11.2).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let (now, epoch) = (context.state.ram.time_ms, context.state.ram.time_epoch);
    context.policy(0)?.restart_policy(now, epoch);
    Ok(())
}
