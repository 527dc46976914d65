//! TPM2_NV_ReadLock (Part 3, 31.14).

use super::prelude::*;
use crate::nv;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let handle = context.handle(1);
    match nv::check_read(context, context.handle(0), handle).map(|_| ()) {
        Err(Rc::NV_LOCKED) => return Ok(()),
        Err(Rc::NV_UNINITIALIZED) | Ok(()) => {}
        Err(rc) => return Err(rc),
    }
    let index = context.state.nv_index(handle).ok_or(Rc::HANDLE).h(2)?;
    ensure(index.public.has(nva::READ_STCLEAR), Rc::ATTRIBUTES).h(2)?;
    context
        .state
        .change_nv(handle, |index| index.public.attributes |= nva::READLOCKED);
    Ok(())
}
