//! TPM2_GetRandom (Part 3, 16.1).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let wanted: u16 = params.read()?;
    params.end()?;
    let bytes = context.random(usize::from(wanted).min(limit::RANDOM))?;
    reply.sized(&bytes);
    Ok(())
}
