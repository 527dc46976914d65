//! TPM2_VerifySignature (Part 3, 20.1).

use super::prelude::*;
use crate::{policy, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let digest = params.sized(limit::DIGEST)?;
    let signature: Signature = params.read()?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::ATTRIBUTES).h(1)?;
    ensure(key.public.has(oa::SIGN), Rc::ATTRIBUTES).h(1)?;
    signing::verify(context, &key, &digest, &signature).p(2)?;
    if key.hierarchy == rh::NULL || key.public.name_alg.is_none() {
        reply.put(&Ticket::null(st::VERIFIED));
    } else {
        reply.put(&policy::verified_ticket(
            context,
            key.hierarchy,
            &digest,
            &key.name,
        ));
    }
    Ok(())
}
