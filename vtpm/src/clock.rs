//! Time and clock (Part 1, 36).
//!
//! Always true: time advances only here, once at the start of each command; the clock never
//! goes back while the TPM is powered.

use crate::state::State;

/// Milliseconds after which a clock that was set back is beyond what it showed before
/// (`TPM_PT_CLOCK_UPDATE`).
pub const UPDATE: u64 = 4096;
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
        let before = orderly.clock;
        orderly.clock = orderly.clock.saturating_add(passed);
        orderly.heal_ms = orderly.heal_ms.saturating_add(passed);
        orderly.lockout_ms = orderly.lockout_ms.saturating_add(passed);
        confirm(state, before);
    }
}

/// The clock went on from `before`: it is safe once it has passed a multiple of
/// `TPM_PT_CLOCK_UPDATE` (Part 1, 36.3), and what it shows then becomes durable.
pub fn confirm(state: &mut State, before: u64) {
    let passed = before / UPDATE != state.orderly.clock / UPDATE;
    if passed && !state.orderly.clock_safe {
        state.orderly_mut().clock_safe = true;
        state.ram.write_orderly = true;
    }
}
