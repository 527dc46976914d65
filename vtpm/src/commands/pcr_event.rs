//! TPM2_PCR_Event (Part 3, 22.3).

use super::prelude::*;
use crate::{pcr, state::object::EventState};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let data = params.sized(limit::BUFFER)?;
    params.end()?;
    let target = pcr::extendable(context.handle(0), context.locality)?;
    let mut event = EventState::new();
    event.update(&data);
    answer(context, target, &event.finish(), reply);
    Ok(())
}

/// Extends the PCR, if there is one, and answers with the digests.
pub fn answer(
    context: &mut Context<'_>,
    pcr: Option<u32>,
    digests: &[(HashAlg, Vec<u8>)],
    reply: &mut Reply,
) {
    reply.put(&(digests.len() as u32));
    for (hash, digest) in digests {
        reply.put(&hash.id()).raw(digest);
        if let Some(pcr) = pcr {
            context.state.extend_pcr(pcr, *hash, digest);
        }
    }
}
