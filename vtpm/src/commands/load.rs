//! TPM2_Load (Part 3, 12.2).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let private = params.sized(limit::PRIVATE)?;
    let public: Public = params.inside()?;
    params.end()?;
    context.state.need_slot()?;
    ensure(!private.is_empty(), Rc::SIZE).p(1)?;
    let parent = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    ensure(
        parent.is_parent() && !parent.is_derivation_parent(),
        Rc::TYPE,
    )
    .h(1)?;
    let name = public.name();
    let sensitive = objects::protect::from_private(context, &private, &parent, &name).p(1)?;
    objects::check::public(&public, Some(&parent)).p(2)?;
    objects::check::keys(context, &public, Some(&sensitive), 2, 1)?;
    let object = objects::assemble(public, Some(sensitive), Some(&parent), parent.hierarchy);
    reply.sized(&object.name);
    let handle = objects::add(context.state, object)?;
    let inherited = context.state.is_st_clear(context.handle(0));
    context.state.set_st_clear(handle, inherited);
    reply.handle = Some(handle);
    Ok(())
}
