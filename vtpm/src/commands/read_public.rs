//! TPM2_ReadPublic (Part 3, 12.4).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    let object = context.object(0)?;
    reply
        .sized_of(&object.public)
        .sized(&object.name)
        .sized(&object.qualified);
    Ok(())
}
