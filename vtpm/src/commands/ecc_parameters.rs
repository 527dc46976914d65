//! TPM2_ECC_Parameters (Part 3, 14.6).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let curve = params.with(algorithms::curve)?;
    params.end()?;
    let numbers = context.crypto.ecc_parameters(curve);
    reply.put(&curve.id()).put(&curve.bits());
    let hash = match curve {
        crypto::Curve::P256 => Some(alg::SHA256),
        crypto::Curve::P384 => Some(alg::SHA384),
        crypto::Curve::P521 => Some(alg::SHA512),
        crypto::Curve::BnP256 => None,
    };
    match hash {
        Some(hash) => reply.put(&alg::KDF1_SP800_56A).put(&hash),
        None => reply.put(&alg::NULL),
    };
    reply.put(&alg::NULL);
    // The one coefficient that is zero is written as one byte.
    let a = if numbers.a.iter().all(|byte| *byte == 0) {
        &[0][..]
    } else {
        &numbers.a
    };
    reply.sized(&numbers.p).sized(a).sized(&numbers.b);
    reply
        .sized(&numbers.g.x)
        .sized(&numbers.g.y)
        .sized(&numbers.n)
        .sized(&[1]);
    Ok(())
}
