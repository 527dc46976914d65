//! TPM2_SelfTest (Part 3, 10.2). The algorithms are tested at build time; at run time every
//! signature is verified before it leaves, so there is nothing left to run here.

use super::prelude::*;

/// Runs the command.
pub fn run(_context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.with(Reader::yes_no)?;
    params.end()
}
