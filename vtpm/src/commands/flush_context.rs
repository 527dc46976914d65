//! TPM2_FlushContext (Part 3, 28.4).

use super::prelude::*;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let handle = params.with(|reader| {
        let handle = reader.u32()?;
        let class = ht::of(handle);
        ensure(matches!(class, ht::TRANSIENT | ht::HMAC_SESSION | ht::POLICY_SESSION), Rc::VALUE)?;
        Ok(handle)
    })?;
    params.end()?;
    if ht::of(handle) == ht::TRANSIENT {
        *context.state.slot_mut(handle).ok_or(Rc::HANDLE).p(1)? = None;
        Ok(())
    } else {
        ensure(context.state.flush_session(handle), Rc::HANDLE).p(1)
    }
}
