//! TPM2_SequenceComplete (Part 3, 17.5).

use super::prelude::*;
use crate::{signing, state::object::Slot};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let data = params.sized(limit::BUFFER)?;
    let hierarchy = params.with(structures::hierarchy_or_null)?;
    params.end()?;
    let handle = context.handle(0);
    let known = matches!(
        context.state.slot(handle),
        Some(Slot::Hash(_) | Slot::Hmac(_))
    );
    ensure(known, Rc::MODE).h(1)?;
    super::sequence_update::update(context, 0, &data)?;
    let slot = context
        .state
        .slot_mut(handle)
        .and_then(Option::take)
        .ok_or(Rc::FAILURE)?;
    let ticket = match slot {
        Slot::Hash(sequence) => {
            let hash = sequence.state.alg();
            let digest = sequence.state.clone().finish();
            reply.sized(&digest);
            let gives = hierarchy != rh::NULL && sequence.is_safe();
            gives.then(|| signing::hash_ticket(context, hierarchy, hash, &digest))
        }
        Slot::Hmac(sequence) => {
            reply.sized(&sequence.state.clone().finish());
            None
        }
        _ => return Err(Rc::FAILURE),
    };
    reply.put(&ticket.unwrap_or_else(|| Ticket::null(st::HASHCHECK)));
    Ok(())
}
