//! TPM2_Import (Part 3, 13.3).

use super::prelude::*;
use crate::objects::{protect, secret};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let inner = params.secret(limit::SYM_KEY)?;
    let public: Public = params.inside()?;
    let duplicate = params.secret(limit::PRIVATE)?;
    let sent = params.sized(secret::MAX)?;
    let symmetric = params.with(|reader| SymDef::for_object(reader, true))?;
    params.end()?;
    let fixed = oa::FIXED_TPM | oa::FIXED_PARENT;
    ensure(public.attributes & fixed == 0, Rc::ATTRIBUTES).p(2)?;
    let parent = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    ensure(
        parent.is_parent() && !parent.is_derivation_parent(),
        Rc::TYPE,
    )
    .h(1)?;
    match symmetric {
        SymDef::Aes { bits, .. } => {
            ensure(inner.len() == usize::from(bits / 8), Rc::SIZE).p(1)?;
        }
        _ => ensure(inner.is_empty(), Rc::SIZE).p(1)?,
    }
    let encrypted = public.has(oa::ENCRYPTED_DUPLICATION);
    ensure(!encrypted || !inner.is_empty(), Rc::ATTRIBUTES).p(1)?;
    ensure(!encrypted || !sent.is_empty(), Rc::ATTRIBUTES).p(4)?;
    let hash = public.name_alg.ok_or(Rc::HASH).p(2)?;
    let name = public.name();
    let crypto = context.crypto;
    let sensitive = if sent.is_empty() {
        protect::from_duplicate(crypto, &duplicate, &name, hash, &inner, None).p(3)?
    } else {
        let seed = secret::decrypt(context, &parent, "DUPLICATE", &sent).p(4)?;
        let outer = protect::Protection::by(&parent, &seed, &name)?;
        protect::from_duplicate(crypto, &duplicate, &name, hash, &inner, Some(&outer)).p(3)?
    };
    // Below a parent that cannot be duplicated, loading relies on what is checked here; below
    // another one it is checked when it is loaded.
    if parent.public.has(oa::FIXED_TPM) {
        objects::check::public(&public, None).p(2)?;
        objects::check::keys(context, &public, Some(&sensitive), 2, 3)?;
    }
    let object = objects::assemble(public, Some(sensitive), Some(&parent), parent.hierarchy);
    reply.sized(&protect::to_private(context, &object, &parent)?);
    Ok(())
}
