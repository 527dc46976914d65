//! TPM2_RSA_Encrypt (Part 3, 14.2).

use super::prelude::*;
use crate::{
    context::{Random, crypto_rc},
    crypto::{RsaPadding, RsaPublic},
    state::object::Object,
};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let message = params.secret(limit::RSA_KEY)?;
    let requested = params.with(Scheme::rsa_decrypt)?;
    let label = params.sized(limit::DIGEST + 2)?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::KEY).h(1)?;
    ensure(key.public.kind() == alg::RSA, Rc::KEY).h(1)?;
    ensure(key.public.has(oa::DECRYPT), Rc::ATTRIBUTES).h(1)?;
    ensure(label.last().is_none_or(|byte| *byte == 0), Rc::VALUE).p(3)?;
    let scheme = select(&key, requested).p(2)?;
    let public = RsaPublic {
        n: key.public.unique.bytes(),
        e: key.public.exponent(),
    };
    let out = context
        .crypto
        .rsa_encrypt(
            &public,
            padding(scheme, &label),
            &message,
            &mut Random(context.environment),
        )
        .map_err(crypto_rc)?;
    reply.sized(&out);
    Ok(())
}

/// The padding to use: the key's own scheme, or the requested one.
pub fn select(key: &Object, requested: Scheme) -> Result<Scheme> {
    match (key.public.scheme(), requested) {
        (Scheme::Null, requested) => Ok(requested),
        (own, Scheme::Null) => Ok(own),
        (own, requested) if own == requested => Ok(own),
        _ => Err(Rc::SCHEME),
    }
}

/// The scheme as a padding.
pub fn padding(scheme: Scheme, label: &[u8]) -> RsaPadding<'_> {
    match scheme {
        Scheme::Hash(alg::OAEP, hash) => RsaPadding::Oaep { hash, label },
        Scheme::Rsaes => RsaPadding::Rsaes,
        _ => RsaPadding::Null,
    }
}
