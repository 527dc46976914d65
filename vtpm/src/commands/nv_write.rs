//! TPM2_NV_Write (Part 3, 31.7).

use super::prelude::*;
use crate::nv;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let data = params.secret(limit::NV_BUFFER)?;
    let offset: u16 = params.read()?;
    params.end()?;
    let handle = context.handle(1);
    let index = nv::check_write(context, context.handle(0), handle)?;
    let kind = index.public.kind();
    let plain = matches!(kind, nva::NT_ORDINARY | nva::NT_PIN_FAIL | nva::NT_PIN_PASS);
    ensure(plain, Rc::ATTRIBUTES)?;
    let size = usize::from(index.public.size);
    let offset = usize::from(offset);
    ensure(offset <= size, Rc::VALUE).p(2)?;
    ensure(data.len() <= size - offset, Rc::NV_RANGE)?;
    ensure(
        !index.public.has(nva::WRITEALL) || data.len() == size,
        Rc::NV_RANGE,
    )?;
    let mut all = index.data;
    // Bytes of a new index that were never written read as erased flash, or as cleared RAM.
    let fill = if index.public.has(nva::ORDERLY) {
        0
    } else {
        0xFF
    };
    all.resize(size, fill);
    all.get_mut(offset..offset + data.len())
        .ok_or(Rc::NV_RANGE)?
        .copy_from_slice(&data);
    nv::store(context.state, handle, all);
    Ok(())
}
