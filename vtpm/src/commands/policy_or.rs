//! TPM2_PolicyOR (Part 3, 23.6).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let digests = params.with(|reader| structures::digests(reader, 2))?;
    params.end()?;
    let session = context.policy(0)?;
    ensure(
        session.trial || digests.contains(&session.digest),
        Rc::VALUE,
    )
    .p(1)?;
    session.digest = alloc::vec![0; session.hash.size()];
    let parts: Vec<&[u8]> = digests.iter().map(Vec::as_slice).collect();
    policy::extend(session, 0x171, &parts);
    Ok(())
}
