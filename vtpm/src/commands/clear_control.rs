//! TPM2_ClearControl (Part 3, 24.7).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let disable = params.with(Reader::yes_no)?;
    params.end()?;
    ensure(disable || context.handle(0) != rh::LOCKOUT, Rc::AUTH_FAIL)?;
    context.state.owners_mut().disable_clear = disable;
    Ok(())
}
