//! The kernel's clock: the time-stamp counter.

use crate::arch::cpu::tsc;
use crate::time::Clock;
use core::arch::x86_64::__cpuid;
use core::time::Duration;
use spin::Once;

/// Why there is no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Nothing tells how fast the counter runs.
    #[error("no timer to measure the time-stamp counter against")]
    NoReference,
    /// The measurement is absurd.
    #[error("time-stamp counter of {0} Hz cannot be right")]
    Frequency(u64),
}

/// Frequencies that are believed, in Hz.
const PLAUSIBLE: core::ops::RangeInclusive<u64> = 10_000_000..=20_000_000_000;

/// The time-stamp counter and its frequency.
struct TscClock {
    start: u64,
    hz: u64,
}

impl Clock for TscClock {
    fn now(&self) -> Duration {
        to_duration(tsc().saturating_sub(self.start), self.hz)
    }
}

static CLOCK: Once<TscClock> = Once::new();

/// Starts the clock with a counter of `hz` ticks a second.
pub(super) fn start(hz: u64) -> Result<&'static dyn Clock, ClockError> {
    if !PLAUSIBLE.contains(&hz) {
        return Err(ClockError::Frequency(hz));
    }
    Ok(CLOCK.call_once(|| TscClock { start: tsc(), hz }))
}

fn to_duration(ticks: u64, hz: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What the CPU (leaf 15h) or the hypervisor (leaf 4000_0010h, in kHz) tells of the
/// frequency in Hz, if they do.
pub(super) fn frequency_from_cpuid() -> Option<u64> {
    let crystal = (__cpuid(0).eax >= 0x15)
        .then(|| __cpuid(0x15))
        .filter(|leaf| leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0)
        .map(|leaf| u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax));
    let hypervisor = || {
        let present = __cpuid(1).ecx & (1 << 31) != 0;
        (present && __cpuid(0x4000_0000).eax >= 0x4000_0010)
            .then(|| u64::from(__cpuid(0x4000_0010).eax) * 1000)
    };
    crystal
        .or_else(hypervisor)
        .filter(|hz| PLAUSIBLE.contains(hz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_time() {
        assert_eq!(to_duration(3_000, 1_000_000), Duration::from_millis(3));
        assert_eq!(
            to_duration(u64::MAX, 10_000_000),
            Duration::from_nanos(u64::MAX)
        );
    }

    #[test]
    fn absurd_frequency_is_refused() {
        assert_eq!(start(0).err(), Some(ClockError::Frequency(0)));
    }
}
