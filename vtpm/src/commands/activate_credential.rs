//! TPM2_ActivateCredential (Part 3, 12.5).

use super::prelude::*;
use crate::objects::{protect::Protection, secret};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let blob = params.sized(limit::DIGEST * 2 + 4)?;
    let sent = params.sized(secret::MAX)?;
    params.end()?;
    // A sequence has an empty name, which no credential is made for.
    let name = context.state.name(context.handle(0));
    let key = context.object(1).map_err(|_| Rc::TYPE).h(2)?;
    let storage = key.is_asymmetric() && key.public.has(oa::DECRYPT | oa::RESTRICTED);
    ensure(storage, Rc::TYPE).h(2)?;
    let seed = secret::decrypt(context, &key, "IDENTITY", &sent).map_err(|rc| rc.parameter(2))?;
    let plain = Protection::by(&key, &seed, &name)?
        .unwrap(context.crypto, &blob)
        .p(1)?;
    let mut reader = Reader::new(&plain);
    let credential = reader.sized(limit::DIGEST).p(1)?;
    ensure(reader.left().is_empty(), Rc::SIZE).p(1)?;
    reply.sized(credential);
    Ok(())
}
