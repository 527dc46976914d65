//! TPM2_TestParms (Part 3, 30.3).

use super::prelude::*;

/// Runs the command.
pub fn run(_context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.read::<Parameters>()?;
    params.end()
}
