//! TPM2_Duplicate (Part 3, 13.1).

use super::prelude::*;
use crate::objects::{protect, secret};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let given = params.secret(limit::SYM_KEY)?;
    let symmetric = params.with(|reader| SymDef::for_object(reader, true))?;
    params.end()?;
    let object = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    ensure(!object.public.has(oa::FIXED_PARENT), Rc::ATTRIBUTES).h(1)?;
    ensure(object.public.name_alg.is_some(), Rc::TYPE).h(1)?;
    let parent = context.object_or_null(1).map_err(|_| Rc::TYPE).h(2)?;
    if let Some(parent) = &parent {
        let storage = parent.public.has(oa::RESTRICTED | oa::DECRYPT) && parent.is_asymmetric();
        ensure(storage, Rc::TYPE).h(2)?;
    }
    if object.public.has(oa::ENCRYPTED_DUPLICATION) {
        ensure(symmetric != SymDef::Null, Rc::SYMMETRIC).p(2)?;
        ensure(parent.is_some(), Rc::HIERARCHY).h(2)?;
    }
    let (inner, shown) = match symmetric {
        SymDef::Aes { bits, .. } => {
            let size = usize::from(bits / 8);
            if given.is_empty() {
                let key = context.random(size)?;
                (key.clone(), key)
            } else {
                ensure(given.len() == size, Rc::SIZE).p(1)?;
                (given, Bytes::default())
            }
        }
        _ => {
            ensure(given.is_empty(), Rc::SIZE).p(1)?;
            (Bytes::default(), Bytes::default())
        }
    };
    let (duplicate, sent) = match &parent {
        None => (
            protect::to_duplicate(context, &object, &inner, None)?,
            Vec::new(),
        ),
        Some(parent) => {
            let (seed, sent) = secret::encrypt(context, parent, "DUPLICATE")?;
            let outer = protect::Protection::by(parent, &seed, &object.name)?;
            (
                protect::to_duplicate(context, &object, &inner, Some(&outer))?,
                sent,
            )
        }
    };
    reply.sized(&shown).sized(&duplicate).sized(&sent);
    Ok(())
}
