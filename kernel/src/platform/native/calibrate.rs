//! The frequency of the time-stamp counter, measured against an old PC timer.
//!
//! A timer that does not move is noticed by the number of looks, so that no wait
//! here is unbounded.

use super::PortIo;
use crate::arch::cpu::tsc;

/// Frequency of the 8254 PIT in Hz.
const PIT_HZ: u64 = 1_193_182;

/// PIT ticks of one measurement: 10 ms.
const PIT_TICKS: u16 = 11_932;

/// Measurements, of which the median counts. On a busy host the VM can stand still for
/// longer than the counter takes to wrap, which makes one of them wrong by a multiple.
const PIT_ROUNDS: usize = 5;

/// Looks at a timer after which it is taken for dead. A port access takes about a
/// microsecond, so this is some seconds.
const PIT_LOOKS: u32 = 1_000_000;
const RTC_LOOKS: u32 = 6_000_000;

const PIT_CHANNEL_0: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;
const RTC_INDEX: u16 = 0x70;
const RTC_DATA: u16 = 0x71;

/// Measures against channel 0 of the 8254 PIT; none where it does not count.
pub(super) fn against_pit(ports: &dyn PortIo) -> Option<u64> {
    // Channel 0, both bytes, mode 2 (rate generator), full period.
    ports.write8(PIT_COMMAND, 0x34);
    ports.write8(PIT_CHANNEL_0, 0);
    ports.write8(PIT_CHANNEL_0, 0);
    // The new count is taken over with the next tick: wait for a first change.
    let loaded = pit_count(ports);
    (0..PIT_LOOKS).find(|_| pit_count(ports) != loaded)?;
    let mut rounds = [0; PIT_ROUNDS];
    for round in &mut rounds {
        *round = measure_round(ports)?;
    }
    rounds.sort_unstable();
    Some(rounds[PIT_ROUNDS / 2])
}

fn measure_round(ports: &dyn PortIo) -> Option<u64> {
    let (first, start) = (pit_count(ports), tsc());
    for _ in 0..PIT_LOOKS {
        // The counter counts down and wraps after 55 ms.
        let (elapsed, now) = (first.wrapping_sub(pit_count(ports)), tsc());
        if elapsed >= PIT_TICKS {
            return Some((now - start).saturating_mul(PIT_HZ) / u64::from(elapsed));
        }
    }
    None
}

fn pit_count(ports: &dyn PortIo) -> u16 {
    // Latch channel 0.
    ports.write8(PIT_COMMAND, 0);
    u16::from_le_bytes([ports.read8(PIT_CHANNEL_0), ports.read8(PIT_CHANNEL_0)])
}

/// Measures one second of the MC146818 real-time clock; none where it stands.
pub(super) fn against_rtc(ports: &dyn PortIo) -> Option<u64> {
    let start = next_second(ports)?;
    Some(next_second(ports)? - start)
}

/// Waits for the seconds to change and returns the time-stamp of that moment.
fn next_second(ports: &dyn PortIo) -> Option<u64> {
    let seconds = || {
        ports.write8(RTC_INDEX, 0);
        ports.read8(RTC_DATA)
    };
    let first = seconds();
    (0..RTC_LOOKS).find(|_| seconds() != first).map(|_| tsc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering};

    /// A PIT that loses `step` ticks at every latch, and an RTC that stands.
    struct FakePit {
        count: AtomicU32,
        step: u32,
        high: AtomicU32,
    }

    impl FakePit {
        fn new(step: u32) -> Self {
            Self {
                count: AtomicU32::new(0),
                step,
                high: AtomicU32::new(0),
            }
        }
    }

    impl PortIo for FakePit {
        fn read8(&self, port: u16) -> u8 {
            if port != PIT_CHANNEL_0 {
                return 0x17;
            }
            let count = self.count.load(Ordering::Relaxed) as u16;
            let high = self.high.fetch_xor(1, Ordering::Relaxed);
            count.to_le_bytes()[high as usize]
        }

        fn write8(&self, port: u16, value: u8) {
            if port == PIT_COMMAND && value == 0 {
                self.count.fetch_sub(self.step, Ordering::Relaxed);
            }
        }

        fn write16(&self, _port: u16, _value: u16) {}

        fn write32(&self, _port: u16, _value: u32) {}
    }

    #[test]
    fn counting_pit_gives_a_frequency() {
        assert!(against_pit(&FakePit::new(100)).is_some_and(|hz| hz > 0));
    }

    #[test]
    fn standing_timers_are_noticed() {
        assert_eq!(against_pit(&FakePit::new(0)), None);
        assert_eq!(against_rtc(&FakePit::new(0)), None);
    }
}
