//! Dictionary attack protection (Part 1, 19.8).
//!
//! Always true: a failure is counted in the record before it is answered, and the first use of
//! a protected entity after startup is recorded before the entity is used (`TPM_RC_RETRY`), so
//! that cutting the power cannot hide a try.

use crate::{
    rc::{Rc, Result, ensure},
    state::State,
};

/// Refuses while the TPM is locked out.
///
/// # Errors
/// `TPM_RC_LOCKOUT`
pub fn check_lockout(state: &State, lockout_auth: bool) -> Result<()> {
    let da = &state.da;
    ensure(
        if lockout_auth {
            da.lockout_enabled
        } else {
            da.failed < da.max
        },
        Rc::LOCKOUT,
    )
}

/// Counts a failed authorization.
pub fn count_failure(state: &mut State) {
    if state.da.recovery != 0 {
        let da = state.da_mut();
        da.failed = da.failed.saturating_add(1);
        state.orderly_mut().heal_ms = 0;
    }
}

/// Notes that lockoutAuth failed: it is then disabled for a time.
pub fn lock_lockout(state: &mut State) {
    state.da_mut().lockout_enabled = false;
    state.orderly_mut().lockout_ms = 0;
}

/// Forgives what the passed time forgives.
pub fn heal(state: &mut State) {
    if state.da.recovery != 0 && state.da.failed != 0 {
        let period = u64::from(state.da.recovery) * 1000;
        let forgiven = state.orderly.heal_ms / period;
        if forgiven != 0 {
            let da = state.da_mut();
            da.failed = da
                .failed
                .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
            state.orderly_mut().heal_ms %= period;
        }
    }
    let wait = u64::from(state.da.lockout_recovery) * 1000;
    if !state.da.lockout_enabled && wait != 0 && state.orderly.lockout_ms >= wait {
        state.da_mut().lockout_enabled = true;
    }
}

/// Counts an unorderly end after a protected entity was used, as a failure nobody saw.
pub fn startup(state: &mut State, resume: bool, used: bool) {
    if !resume && state.da.lockout_recovery == 0 && !state.da.lockout_enabled {
        state.da_mut().lockout_enabled = true;
    }
    if used && state.da.recovery != 0 && state.da.failed < state.da.max {
        state.da_mut().failed += 1;
    }
    let orderly = state.orderly_mut();
    orderly.heal_ms = 0;
    orderly.lockout_ms = 0;
}
