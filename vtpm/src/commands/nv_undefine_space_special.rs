//! TPM2_NV_UndefineSpaceSpecial (Part 3, 31.5).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let handle = context.handle(0);
    let index = context.state.nv_index(handle).ok_or(Rc::HANDLE).h(1)?;
    ensure(index.public.has(nva::POLICY_DELETE), Rc::ATTRIBUTES).h(1)?;
    context.state.remove_nv(handle);
    Ok(())
}
