//! TPM2_Hash (Part 3, 15.4).

use super::prelude::*;
use crate::{signing, state::object::is_generated};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let data = params.sized(limit::BUFFER)?;
    let hash: HashAlg = params.read()?;
    let hierarchy = params.with(structures::hierarchy_or_null)?;
    params.end()?;
    let digest = crypto::hash(hash, &[&data]);
    reply.sized(&digest);
    // Data too short to say what it is could be the begin of anything.
    if hierarchy == rh::NULL || is_generated(&data) {
        reply.put(&Ticket::null(st::HASHCHECK));
    } else {
        reply.put(&signing::hash_ticket(context, hierarchy, hash, &digest));
    }
    Ok(())
}
