//! TPM2_NV_WriteLock (Part 3, 31.11).

use super::prelude::*;
use crate::nv;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let handle = context.handle(1);
    let index = match nv::check_write(context, context.handle(0), handle) {
        Err(Rc::NV_LOCKED) => return Ok(()),
        other => other?,
    };
    let lockable = index.public.attributes & (nva::WRITEDEFINE | nva::WRITE_STCLEAR) != 0;
    ensure(lockable, Rc::ATTRIBUTES).h(2)?;
    context
        .state
        .change_nv(handle, |index| index.public.attributes |= nva::WRITELOCKED);
    Ok(())
}
