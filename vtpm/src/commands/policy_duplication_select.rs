//! TPM2_PolicyDuplicationSelect (Part 3, 23.15).

use super::prelude::*;
use crate::{policy, state::session::Binding, table};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let object = params.sized(limit::DIGEST + 4)?;
    let parent = params.sized(limit::DIGEST + 4)?;
    let include = params.with(Reader::yes_no)?;
    params.end()?;
    let session = context.policy(0)?;
    ensure(session.policy.binding == Binding::NONE, Rc::CPHASH)?;
    let command = session.policy.command;
    ensure(command == 0, Rc::COMMAND_CODE)?;
    session.policy.binding = Binding::NAMES;
    session.policy.bound = crypto::hash(session.hash, &[&object, &parent]);
    session.policy.command = table::CC_DUPLICATE;
    let included: &[u8] = if include { &object } else { &[] };
    policy::extend(session, 0x188, &[included, &parent, &[u8::from(include)]]);
    Ok(())
}
