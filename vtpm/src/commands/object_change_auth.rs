//! TPM2_ObjectChangeAuth (Part 3, 12.8).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let auth = params.secret(limit::DIGEST)?;
    params.end()?;
    let object = context.object(0).map_err(|_| Rc::TYPE).h(1)?;
    let parent = context.object(1).map_err(|_| Rc::TYPE).h(2)?;
    let hash = object.public.name_alg.ok_or(Rc::TYPE).h(1)?;
    let auth = without_trailing_zeros(&auth);
    ensure(auth.len() <= hash.size(), Rc::SIZE).p(1)?;
    // The qualified name binds an object to its parent.
    let own = objects::qualified_name(&parent.qualified, &object.public);
    ensure(own == object.qualified && !object.primary, Rc::TYPE).h(2)?;
    let mut changed = (*object).clone();
    let sensitive = changed.sensitive.as_mut().ok_or(Rc::KEY).h(1)?;
    sensitive.auth = Bytes::new(auth.to_vec());
    reply.sized(&objects::protect::to_private(context, &changed, &parent)?);
    Ok(())
}
