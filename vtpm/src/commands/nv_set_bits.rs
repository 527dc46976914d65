//! TPM2_NV_SetBits (Part 3, 31.10).

use super::prelude::*;
use crate::nv;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let bits: u64 = params.read()?;
    params.end()?;
    let handle = context.handle(1);
    let index = nv::check_write(context, context.handle(0), handle)?;
    ensure(index.public.kind() == nva::NT_BITS, Rc::ATTRIBUTES).h(2)?;
    let new = nv::number(&index) | bits;
    nv::store(
        context.state,
        handle,
        Bytes::new(new.to_be_bytes().to_vec()),
    );
    Ok(())
}
