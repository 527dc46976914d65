//! TPM2_ClockSet (Part 3, 29.2).

use super::prelude::*;
use crate::clock;

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let time: u64 = params.read()?;
    params.end()?;
    let forward = time >= context.state.orderly.clock && time <= 0xFFFF_0000_0000_0000;
    ensure(forward, Rc::VALUE).p(1)?;
    let before = context.state.orderly.clock;
    context.state.orderly_mut().clock = time;
    clock::confirm(context.state, before);
    context.state.ram.write_orderly = true;
    Ok(())
}
