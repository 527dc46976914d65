//! TPM2_HierarchyChangeAuth (Part 3, 24.8).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let auth = params.secret(limit::DIGEST)?;
    params.end()?;
    let auth = without_trailing_zeros(&auth);
    ensure(auth.len() <= crate::context::CONTEXT_HASH.size(), Rc::SIZE).p(1)?;
    let handle = context.handle(0);
    context.state.access_mut(handle).ok_or(Rc::FAILURE)?.auth = Bytes::new(auth.to_vec());
    Ok(())
}
