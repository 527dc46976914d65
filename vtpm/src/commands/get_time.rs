//! TPM2_GetTime (Part 3, 18.7).

use super::prelude::*;
use crate::{attest, capabilities::FIRMWARE_VERSION, signing};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, reply: &mut Reply) -> Result<()> {
    let extra = params.sized(limit::DIGEST + 2)?;
    let requested: Scheme = params.read()?;
    params.end()?;
    let key = context.signer(1)?;
    let scheme = signing::prepare(key.as_deref(), requested, 2, 2)?;
    let mut info = attest::begin(context, st::ATTEST_TIME, key.as_deref(), scheme, &extra);
    info.put(&context.state.ram.time_ms);
    info.put(&context.state.clock_info());
    info.put(&FIRMWARE_VERSION);
    attest::finish(context, key.as_deref(), scheme, &extra, &info, reply)
}
