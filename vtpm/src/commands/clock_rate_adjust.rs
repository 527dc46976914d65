//! TPM2_ClockRateAdjust (Part 3, 29.3).

use super::prelude::*;
use crate::clock::{RATE, RATE_SPAN, RATE_STEP};

/// Runs the command.
pub fn run(context: &mut Context<'_>, params: &mut Params<'_>, _reply: &mut Reply) -> Result<()> {
    let adjust = params.with(|reader| match reader.u8()? as i8 {
        adjust @ -3..=3 => Ok(adjust),
        _ => Err(Rc::VALUE),
    })?;
    params.end()?;
    let step = match adjust.unsigned_abs() {
        0 => 0,
        1 => RATE_STEP,
        2 => RATE_STEP * 16,
        _ => RATE_STEP * 256,
    };
    let rate = &mut context.state.ram.clock_rate;
    let wanted = if adjust < 0 {
        rate.saturating_sub(step)
    } else {
        rate.saturating_add(step)
    };
    *rate = wanted.clamp(RATE - RATE_SPAN, RATE + RATE_SPAN);
    Ok(())
}
