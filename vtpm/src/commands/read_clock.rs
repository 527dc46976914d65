//! TPM2_ReadClock (Part 3, 29.1).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    reply
        .put(&context.state.ram.time_ms)
        .put(&context.state.clock_info());
    Ok(())
}
