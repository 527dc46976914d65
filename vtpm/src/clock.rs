//! Time and clock (Part 1, 36).
//!
//! Always true: time advances only here, once at the start of each command; the clock never
//! goes back while the TPM is powered, and what is written of it is at most [`UPDATE`] behind
//! what anyone has seen.

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

/// Lets `elapsed_ms` of the environment's clock pass. True when the clock has passed a multiple
/// of [`UPDATE`]: it must then be written before anyone sees it, or else [`hold`].
#[must_use]
pub fn advance(state: &mut State, elapsed_ms: u64) -> bool {
    let rate = u64::from(state.ram.clock_rate);
    let passed = elapsed_ms.saturating_mul(rate) >> 16;
    state.ram.time_ms = state.ram.time_ms.saturating_add(passed);
    if !state.ram.started {
        return false;
    }
    let before = state.orderly.clock;
    let orderly = state.orderly_mut();
    orderly.clock = orderly.clock.saturating_add(passed);
    orderly.heal_ms = orderly.heal_ms.saturating_add(passed);
    orderly.lockout_ms = orderly.lockout_ms.saturating_add(passed);
    confirm(state, before)
}

/// The clock went on from `before`. Once it has passed a multiple of `TPM_PT_CLOCK_UPDATE`, and
/// is written, it is safe: it never showed more before (Part 1, 36.3).
pub fn confirm(state: &mut State, before: u64) -> bool {
    let passed = before / UPDATE != state.orderly.clock / UPDATE;
    if passed {
        state.orderly_mut().clock_safe = true;
        state.ram.write_orderly = true;
    }
    passed
}

/// The clock could not be written: it stands still where it did not need to be.
pub fn hold(state: &mut State, before: u64, safe: bool) {
    let orderly = state.orderly_mut();
    orderly.clock = before | (UPDATE - 1);
    orderly.clock_safe = safe;
    state.ram.write_orderly = false;
}
