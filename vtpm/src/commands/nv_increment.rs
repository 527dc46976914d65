//! TPM2_NV_Increment (Part 3, 31.8).

use super::prelude::*;
use crate::nv;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let handle = context.handle(1);
    let index = nv::check_write(context, context.handle(0), handle)?;
    ensure(index.public.kind() == nva::NT_COUNTER, Rc::ATTRIBUTES).h(2)?;
    let first = !index.public.has(nva::WRITTEN);
    let old = if first {
        context.state.boots.max_counter
    } else {
        nv::number(&index)
    };
    let new = old.checked_add(1).ok_or(Rc::NV_RANGE)?;
    nv::store(
        context.state,
        handle,
        Bytes::new(new.to_be_bytes().to_vec()),
    );
    if index.is_orderly() && (first || new.is_multiple_of(nv::ORDERLY_STEP)) {
        context.state.flush_nv(handle);
    }
    Ok(())
}
