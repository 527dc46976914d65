//! TPM2_IncrementalSelfTest (Part 3, 10.3): nothing is left to do.

use super::prelude::*;
use crate::capabilities;

/// Runs the command.
pub fn run(_context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let algorithms = params.with(structures::algorithms_list)?;
    let known = |id: &u16| {
        capabilities::ALGORITHMS
            .iter()
            .any(|(known, _)| known == id)
    };
    ensure(algorithms.iter().all(known), Rc::VALUE).p(1)?;
    params.end()?;
    reply.put(&0u32);
    Ok(())
}
