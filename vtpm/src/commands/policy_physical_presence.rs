//! TPM2_PolicyPhysicalPresence (Part 3, 23.12).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.end()?;
    let session = context.policy(0)?;
    policy::extend(session, 0x187, &[]);
    session.policy.presence = true;
    Ok(())
}
