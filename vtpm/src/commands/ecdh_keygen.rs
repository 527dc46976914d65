//! TPM2_ECDH_KeyGen (Part 3, 14.4).

use super::prelude::*;
use crate::context::{Random, crypto_rc};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    let Parameters::Ecc { curve, .. } = key.public.parameters else {
        return Err(Rc::KEY.handle(1));
    };
    let (d, public) = context
        .crypto
        .ecc_generate(curve, &mut Random(context.environment))
        .map_err(crypto_rc)?;
    let z = context
        .crypto
        .ecc_multiply(curve, &d, key.public.unique.point()?)
        .map_err(|_| Rc::ECC_POINT)
        .h(1)?;
    reply.sized_of(&z).sized_of(&public);
    Ok(())
}
