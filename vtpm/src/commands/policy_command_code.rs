//! TPM2_PolicyCommandCode (Part 3, 23.11).

use super::prelude::*;
use crate::{policy, table};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let code: u32 = params.read()?;
    params.end()?;
    let session = context.policy(0)?;
    ensure(
        session.policy.command == 0 || session.policy.command == code,
        Rc::VALUE,
    )
    .p(1)?;
    ensure(table::find(code).is_some(), Rc::POLICY_CC).p(1)?;
    policy::extend(session, 0x16C, &[&code.to_be_bytes()]);
    session.policy.command = code;
    Ok(())
}
