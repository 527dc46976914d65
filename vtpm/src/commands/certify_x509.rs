//! TPM2_CertifyX509 (Part 3, 18.8).

use super::prelude::*;
use crate::{signing, x509};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let reserved = params.sized(limit::DIGEST + 2)?;
    let requested: Scheme = params.read()?;
    let partial = params.sized(limit::BUFFER)?;
    params.end()?;
    ensure(reserved.is_empty(), Rc::SIZE).p(1)?;
    let object = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    let key = context.signer(1)?.ok_or(Rc::KEY).h(2)?;
    let scheme = signing::prepare(Some(&key), requested, 1, 2)?;
    x509::check(&object.public, &key.public, scheme)?;
    let certificate = x509::complete(&partial, &object.public, &key.public, scheme).p(3)?;
    let hash = scheme.hash().ok_or(Rc::SCHEME).p(2)?;
    let digest = crypto::hash(hash, &[&certificate.to_be_signed]);
    let signature = signing::sign(context, &key, scheme, &digest)?;
    reply
        .sized(&certificate.added)
        .sized(&digest)
        .put(&signature);
    Ok(())
}
