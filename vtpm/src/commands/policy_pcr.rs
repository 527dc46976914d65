//! TPM2_PolicyPCR (Part 3, 23.7).

use super::prelude::*;
use crate::policy;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let given = params.sized(limit::DIGEST)?;
    let pcrs: PcrSelections = params.read()?;
    params.end()?;
    let session = context.policy(0)?.clone();
    let (filtered, current) = context.state.pcr_digest(session.hash, &pcrs);
    let counter = context.state.reset.pcr_counter;
    let digest = if session.trial && !given.is_empty() {
        given
    } else {
        if !session.trial {
            let unchanged = session.policy.pcr_counter.is_none_or(|old| old == counter);
            ensure(unchanged, Rc::PCR_CHANGED)?;
            ensure(given.is_empty() || given == current, Rc::VALUE).p(1)?;
        }
        current
    };
    let stored = context.policy(0)?;
    policy::extend(stored, 0x17F, &[&filtered.to_bytes(), &digest]);
    if !session.trial {
        stored.policy.pcr_counter = Some(counter);
    }
    Ok(())
}
