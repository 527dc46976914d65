//! TPM2_PCR_SetAuthPolicy (Part 3, 22.6).

use super::prelude::*;
use crate::{pcr, state::Access};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let policy = params.sized(limit::DIGEST)?;
    let hash = params.with(algorithms::hash_or_null)?;
    let handle = params.with(|reader| match reader.u32()? {
        handle if (handle as usize) < limit::PCR_COUNT => Ok(handle),
        _ => Err(Rc::VALUE),
    })?;
    params.end()?;
    ensure(policy.len() == hash.map_or(0, HashAlg::size), Rc::SIZE).p(1)?;
    ensure(pcr::has_policy(handle), Rc::VALUE).p(3)?;
    context.state.settings_mut().pcr_policy = Access {
        auth: Bytes::default(),
        policy_alg: hash,
        policy,
    };
    Ok(())
}
