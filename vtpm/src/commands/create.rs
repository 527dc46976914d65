//! TPM2_Create (Part 3, 12.1).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let given: SensitiveCreate = params.read()?;
    let public: Public = params.inside()?;
    let outside = params.sized(limit::DIGEST + 2)?;
    let pcrs: PcrSelections = params.read()?;
    params.end()?;
    let parent = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    ensure(
        parent.is_parent() && !parent.is_derivation_parent(),
        Rc::TYPE,
    )
    .h(1)?;
    // The object is made in a slot, though it does not stay there.
    context.state.need_slot()?;
    let hash = public.name_alg.ok_or(Rc::HASH).p(2)?;
    objects::check::creation(&public, Some(&parent), given.data.len()).p(2)?;
    ensure(
        without_trailing_zeros(&given.auth).len() <= hash.size(),
        Rc::SIZE,
    )
    .p(1)?;
    let object = objects::create::ordinary(context, &parent, public, &given)?;
    let data =
        objects::create::creation_data(context, &object.public, context.handle(0), &outside, &pcrs);
    let creation_hash = crypto::hash(hash, &[&data]);
    let ticket =
        objects::create::creation_ticket(context, parent.hierarchy, &object.name, &creation_hash);
    let private = objects::protect::to_private(context, &object, &parent)?;
    reply
        .sized(&private)
        .sized_of(&object.public)
        .sized(&data)
        .sized(&creation_hash)
        .put(&ticket);
    Ok(())
}
