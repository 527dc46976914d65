//! TPM2_SetAlgorithmSet (Part 3, 26.3).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let set: u32 = params.read()?;
    params.end()?;
    context.state.settings_mut().algorithm_set = set;
    Ok(())
}
