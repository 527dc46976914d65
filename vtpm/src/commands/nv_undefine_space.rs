//! TPM2_NV_UndefineSpace (Part 3, 31.4).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let handle = context.handle(1);
    let index = context.state.nv_index(handle).ok_or(Rc::HANDLE).h(2)?;
    ensure(!index.public.has(nva::POLICY_DELETE), Rc::ATTRIBUTES).h(2)?;
    let allowed = context.handle(0) == rh::PLATFORM || !index.public.has(nva::PLATFORMCREATE);
    ensure(allowed, Rc::NV_AUTHORIZATION)?;
    context.state.remove_nv(handle);
    Ok(())
}
