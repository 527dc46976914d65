//! TPM2_StirRandom (Part 3, 16.2). The random source mixes its own entropy; what a caller
//! sends could only make it worse and is dropped.

use super::prelude::*;

/// Runs the command.
pub fn run(_context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.sized(limit::SENSITIVE_DATA)?;
    params.end()
}
