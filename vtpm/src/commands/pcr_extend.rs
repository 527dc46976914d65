//! TPM2_PCR_Extend (Part 3, 22.2).

use super::prelude::*;
use crate::pcr;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let digests: structures::DigestValues = params.read()?;
    params.end()?;
    let handle = context.handle(0);
    let Some(target) = pcr::extendable(handle, context.locality)? else {
        return Ok(());
    };
    for (hash, digest) in &digests.0 {
        context.state.extend_pcr(target, *hash, digest);
    }
    Ok(())
}
