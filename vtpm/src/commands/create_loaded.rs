//! TPM2_CreateLoaded (Part 3, 12.9): a primary, ordinary or derived object.

use super::prelude::*;
use crate::wire::public::Derive;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let given: SensitiveCreate = params.read()?;
    let template = params.sized(limit::TEMPLATE)?;
    params.end()?;
    let handle = context.handle(0);
    let parent = if ht::of(handle) == ht::PERMANENT {
        None
    } else {
        let parent = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
        ensure(parent.is_parent(), Rc::TYPE).h(1)?;
        Some(parent)
    };
    context.state.need_slot()?;
    let derivation = parent
        .as_ref()
        .is_some_and(|parent| parent.is_derivation_parent());
    let mut reader = Reader::new(&template);
    let (public, derive) = if derivation {
        Public::read_derive(&mut reader).p(2)?
    } else {
        (Public::read(&mut reader, false).p(2)?, Derive::default())
    };
    ensure(reader.left().is_empty(), Rc::SIZE).p(2)?;
    let hash = public.name_alg.ok_or(Rc::HASH).p(2)?;
    ensure(
        without_trailing_zeros(&given.auth).len() <= hash.size(),
        Rc::SIZE,
    )
    .p(1)?;
    let object = match &parent {
        None => {
            objects::check::creation(&public, None, given.data.len()).p(2)?;
            objects::create::primary(context, handle, public, given)?
        }
        Some(parent) if derivation => {
            ensure(!public.has(oa::SENSITIVE_DATA_ORIGIN), Rc::ATTRIBUTES)?;
            ensure(public.kind() != alg::RSA, Rc::TYPE).p(2)?;
            objects::check::public(&public, Some(parent)).p(2)?;
            let own = if given.data.is_empty() {
                Derive::default()
            } else {
                let mut reader = Reader::new(&given.data);
                let own = Derive::unmarshal(&mut reader).map_err(|_| Rc::SIZE)?;
                ensure(reader.left().is_empty(), Rc::SIZE)?;
                own
            };
            let label = if own.label.is_empty() {
                &derive.label
            } else {
                &own.label
            };
            let detail = if own.context.is_empty() {
                &derive.context
            } else {
                &own.context
            };
            objects::create::derived(context, parent, public, (label, detail), &given)?
        }
        Some(parent) => {
            objects::check::creation(&public, Some(parent), given.data.len()).p(2)?;
            objects::create::ordinary(context, parent, public, &given)?
        }
    };
    let private = match &parent {
        Some(parent) if !derivation => objects::protect::to_private(context, &object, parent)?,
        _ => Vec::new(),
    };
    reply
        .sized(&private)
        .sized_of(&object.public)
        .sized(&object.name);
    let new = objects::add(context.state, object)?;
    let inherited = context.state.is_st_clear(handle);
    context.state.set_st_clear(new, inherited);
    reply.handle = Some(new);
    Ok(())
}
