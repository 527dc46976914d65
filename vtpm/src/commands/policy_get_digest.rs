//! TPM2_PolicyGetDigest (Part 3, 23.19).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    reply.sized(&context.policy(0)?.digest);
    Ok(())
}
