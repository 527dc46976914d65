//! TPM2_PolicyNvWritten (Part 3, 23.20).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let written = params.with(Reader::yes_no)?;
    params.end()?;
    let session = context.policy(0)?;
    ensure(
        !session.policy.check_nv || session.policy.nv_written == written,
        Rc::VALUE,
    )
    .p(1)?;
    policy::extend(session, 0x18F, &[&[u8::from(written)]]);
    session.policy.check_nv = true;
    session.policy.nv_written = written;
    Ok(())
}
