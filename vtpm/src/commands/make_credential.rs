//! TPM2_MakeCredential (Part 3, 12.6).

use super::prelude::*;
use crate::objects::{protect::Protection, secret};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let credential = params.secret(limit::DIGEST)?;
    let name = params.sized(limit::DIGEST + 4)?;
    params.end()?;
    let key = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    let storage = key.is_asymmetric() && key.public.has(oa::DECRYPT | oa::RESTRICTED);
    ensure(storage, Rc::TYPE).h(1)?;
    let hash = key.public.name_alg.ok_or(Rc::TYPE).h(1)?;
    ensure(credential.len() <= hash.size(), Rc::SIZE).p(1)?;
    let (seed, sent) = secret::encrypt(context, &key, "IDENTITY")?;
    let mut plain = Bytes::default();
    plain.sized(&credential);
    let blob = Protection::by(&key, &seed, &name)?.wrap(context, &mut plain)?;
    reply.sized(&blob).sized(&sent);
    Ok(())
}
