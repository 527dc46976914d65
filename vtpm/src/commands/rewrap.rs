//! TPM2_Rewrap (Part 3, 13.2).

use super::prelude::*;
use crate::objects::{protect::Protection, secret};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let duplicate = params.sized(limit::PRIVATE)?;
    let name = params.sized(limit::DIGEST + 4)?;
    let sent = params.sized(secret::MAX)?;
    params.end()?;
    let old = context.object_or_null(0).map_err(|_| Rc::TYPE).h(1)?;
    let new = context.object_or_null(1).map_err(|_| Rc::TYPE).h(2)?;
    ensure(sent.is_empty() == old.is_none(), Rc::HANDLE).h(1)?;
    let mut inner = match &old {
        None => Bytes::new(duplicate),
        Some(old) => {
            ensure(old.is_parent(), Rc::TYPE).h(1)?;
            let seed = secret::decrypt(context, old, "DUPLICATE", &sent)
                .map_err(|_| Rc::VALUE)
                .p(3)?;
            Protection::by(old, &seed, &name)?
                .unwrap(context.crypto, &duplicate)
                .p(1)?
        }
    };
    let (wrapped, sent) = match &new {
        None => (inner.to_vec(), Vec::new()),
        Some(new) => {
            let storage = new.public.has(oa::RESTRICTED | oa::DECRYPT) && new.is_asymmetric();
            ensure(storage, Rc::TYPE).h(2)?;
            let (seed, sent) = secret::encrypt(context, new, "DUPLICATE")?;
            (
                Protection::by(new, &seed, &name)?.wrap(context, &mut inner)?,
                sent,
            )
        }
    };
    reply.sized(&wrapped).sized(&sent);
    Ok(())
}
