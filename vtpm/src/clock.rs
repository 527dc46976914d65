//! Time and clock (Part 1, 36).
//!
//! Always true: time advances only here, once at the start of each command; the clock never
//! goes back while the TPM is powered.

use crate::state::State;

/// The neutral clock rate.
pub const RATE: u32 = 1 << 16;
/// Finest step of `TPM2_ClockRateAdjust`; medium is 16, coarse 256 of it.
pub const RATE_STEP: u32 = 4;
/// Farthest the rate may go from [`RATE`], 15 % (Part 2, 6.12).
pub const RATE_SPAN: u32 = RATE / 100 * 15;

/// Lets `elapsed_ms` of the environment's clock pass.
pub fn advance(state: &mut State, elapsed_ms: u64) {
    let rate = u64::from(state.ram.clock_rate);
    let passed = elapsed_ms.saturating_mul(rate) >> 16;
    state.ram.time_ms = state.ram.time_ms.saturating_add(passed);
    if state.ram.started {
        let orderly = state.orderly_mut();
        orderly.clock = orderly.clock.saturating_add(passed);
        orderly.heal_ms = orderly.heal_ms.saturating_add(passed);
        orderly.lockout_ms = orderly.lockout_ms.saturating_add(passed);
    }
}
