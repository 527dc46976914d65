//! RDSEED and RDRAND: raw words, untested. `entropy` tests them.

use super::cpu::Features;
use crate::entropy::RawSource;
use core::arch::asm;

/// Tries before the generator counts as silent. Intel's guide gives 10 for RDRAND;
/// RDSEED may run dry for longer when it is drained.
const TRIES: usize = 100;

/// The random instruction that the CPU has: RDSEED before RDRAND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuRandom {
    /// Full-entropy seeds.
    RdSeed,
    /// Output of the CPU's own generator.
    RdRand,
}

impl CpuRandom {
    /// Finds the best instruction, or none.
    pub fn detect() -> Option<Self> {
        let features = Features::detect();
        if features.rdseed {
            return Some(Self::RdSeed);
        }
        features.rdrand.then_some(Self::RdRand)
    }

    /// Name of the instruction.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RdSeed => "RDSEED",
            Self::RdRand => "RDRAND",
        }
    }

    fn step(self) -> Option<u64> {
        let value: u64;
        let ok: u8;
        // SAFETY: `detect` is the only way to get a value, so the CPU has the
        // instruction; it touches registers only.
        unsafe {
            match self {
                Self::RdSeed => asm!(
                    "rdseed {0}", "setc {1}", out(reg) value, out(reg_byte) ok,
                    options(nomem, nostack)
                ),
                Self::RdRand => asm!(
                    "rdrand {0}", "setc {1}", out(reg) value, out(reg_byte) ok,
                    options(nomem, nostack)
                ),
            }
        }
        (ok != 0).then_some(value)
    }
}

impl RawSource for CpuRandom {
    fn word(&self) -> Option<u64> {
        for _ in 0..TRIES {
            if let Some(word) = self.step() {
                return Some(word);
            }
            core::hint::spin_loop();
        }
        None
    }
}
