//! TPM2_NV_ReadPublic (Part 3, 31.6).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    let index = context
        .state
        .nv_index(context.handle(0))
        .ok_or(Rc::HANDLE)
        .h(1)?;
    reply.sized_of(&index.public).sized(&index.public.name());
    Ok(())
}
