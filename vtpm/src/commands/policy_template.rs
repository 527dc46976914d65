//! TPM2_PolicyTemplate (Part 3, 23.21).

use super::prelude::*;
use crate::state::session::Binding;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let digest = params.sized(limit::DIGEST)?;
    params.end()?;
    let policy = &context.policy(0)?.policy;
    let other = policy.binding == Binding::TEMPLATE && policy.bound != digest;
    ensure(!other, Rc::VALUE).p(1)?;
    super::policy_cp_hash::bind(context, Binding::TEMPLATE, 0x190, &digest)
}
