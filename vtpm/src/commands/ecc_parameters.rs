//! TPM2_ECC_Parameters (Part 3, 14.6).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let curve = params.with(algorithms::curve)?;
    params.end()?;
    let numbers = context.crypto.ecc_parameters(curve);
    let hash = match curve {
        crypto::Curve::P256 => alg::SHA256,
        crypto::Curve::P384 => alg::SHA384,
        _ => alg::SHA512,
    };
    reply.put(&curve.id()).put(&curve.bits());
    reply.put(&alg::KDF1_SP800_56A).put(&hash).put(&alg::NULL);
    reply.sized(&numbers.p).sized(&numbers.a).sized(&numbers.b);
    reply.sized(&numbers.g.x).sized(&numbers.g.y).sized(&numbers.n).sized(&[1]);
    Ok(())
}
