//! TPM2_SequenceUpdate (Part 3, 17.4).

use super::prelude::*;
use crate::state::object::Slot;
use alloc::sync::Arc;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let data = params.sized(limit::BUFFER)?;
    params.end()?;
    update(context, 0, &data)
}

/// Feeds the sequence with the n-th handle.
pub fn update(context: &mut Context<'_>, n: usize, data: &[u8]) -> Result<()> {
    let handle = context.handle(n);
    match context.state.slot_mut(handle).and_then(Option::as_mut) {
        Some(Slot::Hash(sequence)) => Arc::make_mut(sequence).update(data),
        Some(Slot::Hmac(sequence)) => Arc::make_mut(sequence).state.update(data),
        Some(Slot::Event(sequence)) => Arc::make_mut(sequence).event.update(data),
        Some(Slot::Object(_)) | None => return Err(Rc::MODE.parameter(n as u32 + 1)),
    }
    Ok(())
}
