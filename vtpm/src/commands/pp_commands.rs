//! TPM2_PP_Commands (Part 3, 26.2). The dispatcher asks for physical presence, which a virtual
//! machine cannot assert, before this runs.

use super::prelude::*;

/// Runs the command.
pub fn run(_context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    params.with(structures::command_codes)?;
    params.with(structures::command_codes)?;
    params.end()?;
    Err(Rc::PP)
}
