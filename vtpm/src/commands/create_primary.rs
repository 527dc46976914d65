//! TPM2_CreatePrimary (Part 3, 24.1).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let given: SensitiveCreate = params.read()?;
    let public: Public = params.inside()?;
    let outside = params.sized(limit::DIGEST + 2)?;
    let pcrs: PcrSelections = params.read()?;
    params.end()?;
    context.state.need_slot()?;
    let hash = public.name_alg.ok_or(Rc::HASH).p(2)?;
    objects::check::creation(&public, None, given.data.len()).p(2)?;
    ensure(
        without_trailing_zeros(&given.auth).len() <= hash.size(),
        Rc::SIZE,
    )
    .p(1)?;
    let hierarchy = context.handle(0);
    let object = objects::create::primary(context, hierarchy, public, given)?;
    let data = objects::create::creation_data(context, &object.public, hierarchy, &outside, &pcrs);
    let creation_hash = crypto::hash(hash, &[&data]);
    let ticket = objects::create::creation_ticket(context, hierarchy, &object.name, &creation_hash);
    reply
        .sized_of(&object.public)
        .sized(&data)
        .sized(&creation_hash)
        .put(&ticket)
        .sized(&object.name);
    reply.handle = Some(objects::add(context.state, object)?);
    Ok(())
}
