//! TPM2_ECDH_ZGen (Part 3, 14.5).

use super::prelude::*;
use crate::{crypto::Curve, state::object::Object};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let point: crypto::Point = params.inside()?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    let curve = exchange_key(&key)?;
    let secret = &objects::sensitive(&key)?.secret;
    ensure(context.crypto.ecc_on_curve(curve, &point), Rc::ECC_POINT).p(1)?;
    let z = context
        .crypto
        .ecc_multiply(curve, secret, &point)
        .map_err(|_| Rc::ECC_POINT)
        .p(1)?;
    reply.sized_of(&z);
    Ok(())
}

/// The curve of a key that may exchange keys.
pub fn exchange_key(key: &Object) -> Result<Curve> {
    let Parameters::Ecc { curve, scheme, .. } = key.public.parameters else {
        return Err(Rc::KEY.handle(1));
    };
    let usable = key.public.has(oa::DECRYPT) && !key.public.has(oa::RESTRICTED);
    ensure(usable, Rc::ATTRIBUTES).h(1)?;
    ensure(
        matches!(scheme, Scheme::Null | Scheme::Hash(alg::ECDH, _)),
        Rc::SCHEME,
    )
    .h(1)?;
    Ok(curve)
}
