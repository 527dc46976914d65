//! TPM2_HashSequenceStart (Part 3, 17.3).

use super::prelude::*;
use crate::{
    crypto::HashState,
    state::object::{EventSequence, EventState, HashSequence, Slot},
};
use alloc::sync::Arc;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let auth = params.secret(limit::DIGEST)?;
    let hash = params.with(algorithms::hash_or_null)?;
    params.end()?;
    let auth = Bytes::new(without_trailing_zeros(&auth).to_vec());
    let slot = match hash {
        Some(hash) => Slot::Hash(Arc::new(HashSequence {
            state: HashState::new(hash),
            safe: None,
            auth,
        })),
        None => Slot::Event(Arc::new(EventSequence {
            event: EventState::new(),
            auth,
        })),
    };
    reply.handle = Some(context.state.add_slot(slot)?);
    Ok(())
}
