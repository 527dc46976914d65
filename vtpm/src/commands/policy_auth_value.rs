//! TPM2_PolicyAuthValue (Part 3, 23.17).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let session = context.policy(0)?;
    policy::extend(session, 0x16B, &[]);
    session.policy.auth_value = true;
    session.policy.password = false;
    Ok(())
}
