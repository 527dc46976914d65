//! TPM2_FlushContext (Part 3, 28.4).

use super::prelude::*;
use crate::{entity, table::Kind};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let handle = params.with(|reader| {
        let handle = reader.u32()?;
        entity::check_kind(Kind::Context, handle).map(|()| handle)
    })?;
    params.end()?;
    if ht::of(handle) == ht::TRANSIENT {
        *context.state.slot_mut(handle).ok_or(Rc::HANDLE).p(1)? = None;
        Ok(())
    } else {
        ensure(context.state.flush_session(handle), Rc::HANDLE).p(1)
    }
}
