//! TPM2_ContextSave (Part 3, 28.2).

use super::prelude::*;
use crate::saved;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    let blob = saved::save(context, context.handle(0))?;
    reply.put(&blob);
    Ok(())
}
