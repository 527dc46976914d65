//! TPM2_Unseal (Part 3, 12.7).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    let object = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    ensure(object.public.kind() == alg::KEYEDHASH, Rc::TYPE).h(1)?;
    let used = oa::DECRYPT | oa::SIGN | oa::RESTRICTED;
    ensure(object.public.attributes & used == 0, Rc::ATTRIBUTES).h(1)?;
    reply.sized(&objects::sensitive(&object)?.secret);
    Ok(())
}
