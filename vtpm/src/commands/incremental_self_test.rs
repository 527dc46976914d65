//! TPM2_IncrementalSelfTest (Part 3, 10.3): nothing is left to do.

use super::prelude::*;

/// Runs the command.
pub fn run(_context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.with(structures::algorithms_list)?;
    params.end()?;
    reply.put(&0u32);
    Ok(())
}
