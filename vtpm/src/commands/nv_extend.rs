//! TPM2_NV_Extend (Part 3, 31.9).

use super::prelude::*;
use crate::nv;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let data = params.secret(limit::NV_BUFFER)?;
    params.end()?;
    let handle = context.handle(1);
    let index = nv::check_write(context, context.handle(0), handle)?;
    ensure(index.public.kind() == nva::NT_EXTEND, Rc::ATTRIBUTES).h(2)?;
    let hash = index.public.name_alg;
    let mut old = index.data;
    old.resize(hash.size(), 0);
    let new = crypto::hash(hash, &[&old, &data]);
    nv::store(context.state, handle, Bytes::new(new));
    Ok(())
}
