//! TPM2_PolicyCpHash (Part 3, 23.13).

use super::prelude::*;
use crate::{policy, state::session::Binding};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let digest = params.sized(limit::DIGEST)?;
    params.end()?;
    bind(context, Binding::COMMAND, 0x16E, &digest)
}

/// Records a digest of one kind; another kind or value that is recorded already excludes it.
pub fn bind(context: &mut Context<'_>, kind: u8, code: u32, digest: &[u8]) -> Result<()> {
    let session = context.policy(0)?;
    let hash = session.hash;
    let policy = &mut session.policy;
    let free = policy.binding == Binding::NONE;
    if kind == Binding::TEMPLATE {
        ensure(free || policy.binding == kind, Rc::CPHASH)?;
    }
    ensure(digest.len() == hash.size(), Rc::SIZE).p(1)?;
    ensure(
        free || (policy.binding == kind && policy.bound == digest),
        Rc::CPHASH,
    )?;
    policy.binding = kind;
    policy.bound = digest.to_vec();
    policy::extend(session, code, &[digest]);
    Ok(())
}
