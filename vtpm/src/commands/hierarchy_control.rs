//! TPM2_HierarchyControl (Part 3, 24.2).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let target = params.with(|reader| match reader.u32()? {
        target @ (rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM | rh::PLATFORM_NV) => Ok(target),
        _ => Err(Rc::VALUE),
    })?;
    let enable = params.with(Reader::yes_no)?;
    params.end()?;
    let auth = context.handle(0);
    let allowed = match target {
        rh::PLATFORM | rh::PLATFORM_NV => auth == rh::PLATFORM,
        _ => auth == rh::PLATFORM || auth == target,
    };
    ensure(allowed, Rc::AUTH_TYPE)?;
    let state = &mut *context.state;
    if state.is_enabled(target) != enable {
        match target {
            rh::OWNER => state.clear_mut().storage_enabled = enable,
            rh::ENDORSEMENT => state.clear_mut().endorsement_enabled = enable,
            rh::PLATFORM => state.ram.platform_enabled = enable,
            _ => state.clear_mut().platform_nv_enabled = enable,
        }
        if !enable && target != rh::PLATFORM_NV {
            state.flush_hierarchy(target);
        }
    }
    Ok(())
}
