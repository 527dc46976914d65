//! TPM2_EventSequenceComplete (Part 3, 17.6).

use super::prelude::*;
use crate::{pcr, state::object::Slot};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let data = params.sized(limit::BUFFER)?;
    params.end()?;
    let handle = context.handle(1);
    ensure(
        matches!(context.state.slot(handle), Some(Slot::Event(_))),
        Rc::MODE,
    )
    .h(2)?;
    let target = pcr::extendable(context.handle(0), context.locality)?;
    super::sequence_update::update(context, 1, &data)?;
    let slot = context.state.slot_mut(handle).and_then(Option::take);
    let Some(Slot::Event(sequence)) = slot else {
        return Err(Rc::FAILURE);
    };
    let digests = sequence.event.clone().finish();
    super::pcr_event::answer(context, target, &digests, reply);
    Ok(())
}
