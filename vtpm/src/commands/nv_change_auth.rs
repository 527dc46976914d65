//! TPM2_NV_ChangeAuth (Part 3, 31.15).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let auth = params.secret(limit::DIGEST)?;
    params.end()?;
    let handle = context.handle(0);
    let hash = context
        .state
        .nv_index(handle)
        .ok_or(Rc::HANDLE)
        .h(1)?
        .public
        .name_alg;
    let auth = Bytes::new(without_trailing_zeros(&auth).to_vec());
    ensure(auth.len() <= hash.size(), Rc::SIZE).p(1)?;
    context.state.change_nv(handle, |index| index.auth = auth);
    context.state.flush_nv(handle);
    Ok(())
}
