//! Randomness: what the kernel asks for it, and the tests that its source must pass
//! before and while it is used.
//!
//! The source is an instruction of the CPU. It is never trusted blindly: known
//! failures of such generators return the same word for ever, so every word goes
//! through the two continuous health tests of NIST SP 800-90B, section 4.4, and a
//! run of words is tested before the first one is handed out. A source that failed
//! once stays refused.

use spin::Mutex;

/// Why there is no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntropyError {
    /// No instruction to ask.
    #[error("the CPU has neither RDSEED nor RDRAND")]
    NoSource,
    /// The instruction kept reporting that it has nothing.
    #[error("the random number generator of the CPU does not answer")]
    Exhausted,
    /// A health test failed, now or earlier.
    #[error("the random number generator of the CPU failed its health test")]
    Unhealthy,
}

/// A source of full-entropy random bytes, fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `buffer`, or fails without telling anything of what it holds.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// A generator as the hardware gives it.
pub trait RawSource: Send + Sync {
    /// The next word, or none when the generator stays silent.
    fn word(&self) -> Option<u64>;
}

/// Words tested before the first one is handed out (SP 800-90B, 4.3, asks for 1024
/// samples; a sample is a byte here).
const STARTUP_WORDS: usize = 1024;

/// Equal words in a row that fail the repetition count test. SP 800-90B, 4.4.1:
/// 1 + ceil(40 / H) with 2^-40 false alarms and a claim of H = 32 bits a word.
const REPETITION_CUTOFF: u32 = 3;

/// Bytes in a window of the adaptive proportion test (SP 800-90B, 4.4.2).
const PROPORTION_WINDOW: u32 = 512;

/// Bytes equal to the first of the window that fail the adaptive proportion test:
/// critical value for 2^-40 false alarms and a claim of 4 bits a byte.
const PROPORTION_CUTOFF: u32 = 79;

#[derive(Debug, Default)]
struct Health {
    failed: bool,
    last_word: Option<u64>,
    repetitions: u32,
    window_left: u32,
    window_byte: u8,
    window_count: u32,
}

impl Health {
    /// Tests one word; false when the source is to be refused.
    fn accepts(&mut self, word: u64) -> bool {
        self.failed |= !self.repetition_ok(word);
        for byte in word.to_le_bytes() {
            self.failed |= !self.proportion_ok(byte);
        }
        !self.failed
    }

    fn repetition_ok(&mut self, word: u64) -> bool {
        if self.last_word == Some(word) {
            self.repetitions += 1;
        } else {
            self.last_word = Some(word);
            self.repetitions = 1;
        }
        self.repetitions < REPETITION_CUTOFF
    }

    fn proportion_ok(&mut self, byte: u8) -> bool {
        if self.window_left == 0 {
            self.window_left = PROPORTION_WINDOW - 1;
            self.window_byte = byte;
            self.window_count = 1;
            return true;
        }
        self.window_left -= 1;
        self.window_count += u32::from(byte == self.window_byte);
        self.window_count < PROPORTION_CUTOFF
    }
}

/// A raw source behind its health tests.
pub struct TestedSource<S> {
    source: S,
    health: Mutex<Health>,
}

impl<S: RawSource> TestedSource<S> {
    /// Tests `source` and takes it into use.
    pub fn start(source: S) -> Result<Self, EntropyError> {
        let mut health = Health::default();
        for _ in 0..STARTUP_WORDS {
            next(&source, &mut health)?;
        }
        Ok(Self {
            source,
            health: Mutex::new(health),
        })
    }
}

fn next(source: &impl RawSource, health: &mut Health) -> Result<u64, EntropyError> {
    if health.failed {
        return Err(EntropyError::Unhealthy);
    }
    let word = source.word().ok_or(EntropyError::Exhausted)?;
    if health.accepts(word) {
        Ok(word)
    } else {
        Err(EntropyError::Unhealthy)
    }
}

impl<S: RawSource> Entropy for TestedSource<S> {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        let mut health = self.health.lock();
        for chunk in buffer.chunks_mut(8) {
            let word = next(&self.source, &mut health)?;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};

    /// Good words until `good` are gone, then what `then` says.
    struct Scripted {
        seen: AtomicU64,
        good: u64,
        then: fn(u64) -> Option<u64>,
    }

    impl Scripted {
        fn new(good: u64, then: fn(u64) -> Option<u64>) -> Self {
            Self {
                seen: AtomicU64::new(0),
                good,
                then,
            }
        }
    }

    /// The finaliser of SplitMix64: good enough to pass statistical tests.
    fn mix(n: u64) -> u64 {
        let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    impl RawSource for Scripted {
        fn word(&self) -> Option<u64> {
            let n = self.seen.fetch_add(1, Ordering::Relaxed);
            if n < self.good {
                Some(mix(n))
            } else {
                (self.then)(n)
            }
        }
    }

    const STARTUP: u64 = STARTUP_WORDS as u64;

    #[test]
    fn good_source_passes_for_long() {
        let source = TestedSource::start(Scripted::new(u64::MAX, |_| None)).unwrap();
        let mut buffer = [0; 4099];
        for _ in 0..250 {
            source.fill(&mut buffer).unwrap();
        }
    }

    #[test]
    fn source_stuck_at_start_is_refused() {
        let stuck = TestedSource::start(Scripted::new(10, |_| Some(u64::MAX)));
        assert_eq!(stuck.err(), Some(EntropyError::Unhealthy));
    }

    #[test]
    fn source_that_gets_stuck_stays_refused() {
        let source = TestedSource::start(Scripted::new(STARTUP + 4, |n| {
            Some(if n < STARTUP + 8 { 5 } else { mix(n) })
        }))
        .unwrap();
        assert_eq!(source.fill(&mut [0; 64]), Err(EntropyError::Unhealthy));
        assert_eq!(source.fill(&mut [0; 8]), Err(EntropyError::Unhealthy));
    }

    #[test]
    fn biased_source_is_refused() {
        // Every other byte is the same; no word repeats.
        let biased =
            TestedSource::start(Scripted::new(10, |n| Some(mix(n) & 0xff00_ff00_ff00_ff00)));
        assert_eq!(biased.err(), Some(EntropyError::Unhealthy));
    }

    #[test]
    fn silent_source_is_an_error() {
        let source = TestedSource::start(Scripted::new(STARTUP, |_| None)).unwrap();
        assert_eq!(source.fill(&mut [0; 1]), Err(EntropyError::Exhausted));
    }
}
