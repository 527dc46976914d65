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
    // The numbers of the NIST curves are written in full, those of the others without zeros.
    let shown = |number: &[u8]| {
        let zeros = number.iter().take(number.len().saturating_sub(1)).take_while(|byte| **byte == 0);
        let skip = if hash.is_none() { zeros.count() } else { 0 };
        number.get(skip..).unwrap_or_default().to_vec()
    };
    reply.sized(&shown(&numbers.p)).sized(&shown(&numbers.a)).sized(&shown(&numbers.b));
    reply.sized(&shown(&numbers.g.x)).sized(&shown(&numbers.g.y)).sized(&shown(&numbers.n)).sized(&[1]);
    Ok(())
}
