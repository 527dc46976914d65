//! TPM2_SetPrimaryPolicy (Part 3, 24.3).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let policy = params.sized(limit::DIGEST)?;
    let hash = params.with(algorithms::hash_or_null)?;
    params.end()?;
    ensure(policy.len() == hash.map_or(0, HashAlg::size), Rc::SIZE).p(1)?;
    let handle = context.handle(0);
    let access = context.state.access_mut(handle).ok_or(Rc::FAILURE)?;
    access.policy_alg = hash;
    access.policy = policy;
    Ok(())
}
