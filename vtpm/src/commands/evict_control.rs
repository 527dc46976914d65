//! TPM2_EvictControl (Part 3, 28.5).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let persistent = params.with(|reader| match reader.u32()? {
        handle if ht::of(handle) == ht::PERSISTENT => Ok(handle),
        _ => Err(Rc::VALUE),
    })?;
    params.end()?;
    let (auth, handle) = (context.handle(0), context.handle(1));
    let object = context.object(1).map_err(|_| Rc::ATTRIBUTES).h(2)?;
    let stored = ht::of(handle) == ht::PERSISTENT;
    ensure(!stored || persistent == handle, Rc::HANDLE).h(2)?;
    let lasting = !object.is_temporary()
        && !context.state.is_st_clear(handle)
        && object.sensitive.is_some()
        && !object.external;
    ensure(lasting, Rc::ATTRIBUTES).h(2)?;
    let of_platform = object.hierarchy == rh::PLATFORM;
    ensure((auth == rh::PLATFORM) || !of_platform, Rc::HIERARCHY).h(2)?;
    if auth == rh::PLATFORM && !stored {
        ensure(of_platform, Rc::HIERARCHY).h(2)?;
    }
    if !stored {
        let platform_range = persistent >= rh::PLATFORM_PERSISTENT;
        ensure(platform_range == (auth == rh::PLATFORM), Rc::RANGE).p(1)?;
        ensure(
            !context.state.persistent.contains_key(&persistent),
            Rc::NV_DEFINED,
        )?;
        let used = context.state.nv_used();
        ensure(used + 1536 <= limit::NV_TOTAL, Rc::NV_SPACE)?;
        context.state.persistent.insert(persistent, object);
    } else {
        context.state.persistent.remove(&handle);
    }
    Ok(())
}
