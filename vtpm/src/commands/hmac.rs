//! TPM2_HMAC (Part 3, 15.5).

use super::prelude::*;
use crate::signing;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let data = params.sized(limit::BUFFER)?;
    let hash = params.with(signing::mac_scheme)?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    let hash = signing::hmac_key(&key, hash, 2)?;
    reply.sized(&crypto::hmac(
        hash,
        &objects::sensitive(&key)?.secret,
        &[&data],
    ));
    Ok(())
}
