//! TPM2_ZGen_2Phase (Part 3, 14.7): the full unified model of ECDH.

use super::prelude::*;
use crate::{commit, crypto::Point};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let static_point: Point = params.inside()?;
    let ephemeral_point: Point = params.inside()?;
    let scheme = params.with(|reader| match reader.u16()? {
        scheme @ (alg::ECDH | alg::ECMQV) => Ok(scheme),
        _ => Err(Rc::SCHEME),
    })?;
    let counter: u16 = params.read()?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    let Parameters::Ecc { curve, .. } = key.public.parameters else {
        return Err(Rc::KEY.handle(1));
    };
    let usable = key.public.has(oa::DECRYPT) && !key.public.has(oa::RESTRICTED);
    ensure(usable, Rc::ATTRIBUTES).h(1)?;
    let own = key.public.scheme();
    // The key's own scheme must be named again.
    ensure(own.is_null() || own.id() == scheme, Rc::SCHEME).p(3)?;
    ensure(
        context.crypto.ecc_on_curve(curve, &static_point),
        Rc::ECC_POINT,
    )
    .p(1)?;
    ensure(
        context.crypto.ecc_on_curve(curve, &ephemeral_point),
        Rc::ECC_POINT,
    )
    .p(2)?;
    ensure(scheme == alg::ECDH, Rc::SCHEME).p(3)?;
    let secret = commit::take(context, curve, &[], counter).p(4)?;
    let d = &objects::sensitive(&key)?.secret;
    let z1 = context
        .crypto
        .ecc_multiply(curve, d, &static_point)
        .map_err(|_| Rc::ECC_POINT)?;
    let z2 = context
        .crypto
        .ecc_multiply(curve, &secret, &ephemeral_point)
        .map_err(|_| Rc::ECC_POINT)?;
    reply.sized_of(&z1).sized_of(&z2);
    Ok(())
}
