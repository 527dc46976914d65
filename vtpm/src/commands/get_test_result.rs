//! TPM2_GetTestResult (Part 3, 10.4).

use super::prelude::*;

/// Runs the command.
pub fn run(_context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    reply.sized(&[]).put(&0u32);
    Ok(())
}
