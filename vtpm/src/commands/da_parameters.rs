//! TPM2_DictionaryAttackParameters (Part 3, 25.3).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let max: u32 = params.read()?;
    let recovery: u32 = params.read()?;
    let lockout_recovery: u32 = params.read()?;
    params.end()?;
    let da = context.state.da_mut();
    da.max = max;
    da.recovery = recovery;
    da.lockout_recovery = lockout_recovery;
    // Without recovery time the protection is off; its count has no meaning then.
    if recovery == 0 {
        da.failed = 0;
    }
    Ok(())
}
