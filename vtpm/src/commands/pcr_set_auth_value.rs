//! TPM2_PCR_SetAuthValue (Part 3, 22.7).

use super::prelude::*;
use crate::pcr;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let auth = params.secret(limit::DIGEST)?;
    params.end()?;
    ensure(pcr::has_auth(context.handle(0)), Rc::VALUE)?;
    context.state.clear_mut().pcr_auth = Bytes::new(without_trailing_zeros(&auth).to_vec());
    Ok(())
}
