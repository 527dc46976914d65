//! TPM2_RSA_Decrypt (Part 3, 14.3).

use super::prelude::*;
use crate::{
    context::{Random, crypto_rc},
    crypto::RsaPrivate,
};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let cipher = params.sized(limit::RSA_KEY)?;
    let requested = params.with(Scheme::rsa_decrypt)?;
    let label = params.sized(limit::DIGEST + 2)?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    ensure(key.public.kind() == alg::RSA, Rc::KEY).h(1)?;
    let usable = key.public.has(oa::DECRYPT) && !key.public.has(oa::RESTRICTED);
    ensure(usable, Rc::ATTRIBUTES).h(1)?;
    let scheme = super::rsa_encrypt::select(&key, requested).p(2)?;
    ensure(label.last().is_none_or(|byte| *byte == 0), Rc::VALUE).p(3)?;
    let modulus = key.public.unique.bytes();
    ensure(cipher.len() == modulus.len(), Rc::SIZE)?;
    let private = RsaPrivate {
        n: modulus,
        e: key.public.exponent(),
        p: &objects::sensitive(&key)?.secret,
    };
    let padding = super::rsa_encrypt::padding(scheme, &label);
    let plain = context
        .crypto
        .rsa_decrypt(&private, padding, &cipher, &mut Random(context.environment))
        .map_err(crypto_rc)?;
    reply.sized(&plain);
    Ok(())
}
