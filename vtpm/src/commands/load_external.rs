//! TPM2_LoadExternal (Part 3, 12.3).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let mut sensitive = params.with(|reader| {
        if reader.left().get(..2) == Some(&[0, 0]) {
            return reader.u16().map(|_| None);
        }
        reader
            .inside(|reader| Sensitive::unmarshal(reader))
            .map(Some)
    })?;
    let public = params.with(|reader| reader.inside(|reader| Public::read(reader, true)))?;
    let hierarchy = params.with(structures::hierarchy_or_null)?;
    params.end()?;
    context.state.need_slot()?;
    if let Some(sensitive) = &mut sensitive {
        ensure(hierarchy == rh::NULL, Rc::HIERARCHY).p(3)?;
        let attributes = public.attributes & (oa::FIXED_TPM | oa::FIXED_PARENT | oa::RESTRICTED);
        ensure(attributes == 0, Rc::ATTRIBUTES).p(2)?;
        ensure(sensitive.kind == public.kind(), Rc::TYPE).p(1)?;
        sensitive.auth = Bytes::new(without_trailing_zeros(&sensitive.auth).to_vec());
    }
    ensure(context.state.is_enabled(hierarchy), Rc::HIERARCHY).p(3)?;
    if public.name_alg.is_some() && sensitive.is_some() {
        objects::check::public(&public, None).p(2)?;
    } else {
        objects::check::schemes(&public, None).p(2)?;
    }
    objects::check::keys(context, &public, sensitive.as_ref(), 2, 1)?;
    let mut object = objects::assemble(public, sensitive, None, hierarchy);
    object.external = true;
    reply.sized(&object.name);
    reply.handle = Some(objects::add(context.state, object)?);
    Ok(())
}
