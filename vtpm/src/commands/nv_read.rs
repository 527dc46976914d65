//! TPM2_NV_Read (Part 3, 31.13).

use super::prelude::*;
use crate::nv;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let size: u16 = params.read()?;
    let offset: u16 = params.read()?;
    params.end()?;
    let index = nv::check_read(context, context.handle(0), context.handle(1))?;
    ensure(usize::from(size) <= limit::NV_BUFFER, Rc::VALUE).p(1)?;
    ensure(offset <= index.public.size, Rc::VALUE).p(2)?;
    let data = nv::slice(index, offset, size)?;
    reply.sized(data);
    Ok(())
}
