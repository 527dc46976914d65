//! TPM2_DictionaryAttackLockReset (Part 3, 25.2).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    context.state.da_mut().failed = 0;
    Ok(())
}
