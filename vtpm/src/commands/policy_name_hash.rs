//! TPM2_PolicyNameHash (Part 3, 23.14).

use super::prelude::*;
use crate::state::session::Binding;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let digest = params.sized(limit::DIGEST)?;
    params.end()?;
    let session = context.policy(0)?;
    ensure(digest.len() == session.hash.size(), Rc::SIZE).p(1)?;
    ensure(session.policy.binding == Binding::NONE, Rc::CPHASH)?;
    super::policy_cp_hash::bind(context, Binding::NAMES, 0x170, &digest)
}
