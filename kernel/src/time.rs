//! Time as the kernel sees it: a clock that only grows, and deadlines on it.
//!
//! The host drives the clock, so it bounds waits and nothing else.

use core::time::Duration;

/// A monotonic clock.
pub trait Clock: Sync {
    /// Time since an arbitrary start, never smaller than an earlier answer.
    fn now(&self) -> Duration;
}

/// A moment after which waiting is pointless.
#[derive(Clone, Copy)]
pub struct Deadline<'a> {
    clock: &'a dyn Clock,
    at: Duration,
}

impl<'a> Deadline<'a> {
    /// The moment `timeout` from now.
    pub fn after(clock: &'a dyn Clock, timeout: Duration) -> Self {
        Self {
            clock,
            at: clock.now().saturating_add(timeout),
        }
    }

    /// Whether the moment has come.
    pub fn passed(&self) -> bool {
        self.clock.now() >= self.at
    }
}

/// A clock for tests that moves on by a fixed step at every look.
#[cfg(test)]
pub mod fake {
    use super::Clock;
    use core::sync::atomic::{AtomicU64, Ordering};
    use core::time::Duration;

    /// The clock.
    pub struct SteppingClock {
        micros: AtomicU64,
        step: u64,
    }

    impl SteppingClock {
        /// A clock that advances by `step` at every call of `now`.
        pub fn new(step: Duration) -> Self {
            Self {
                micros: AtomicU64::new(0),
                step: step.as_micros() as u64,
            }
        }
    }

    impl Clock for SteppingClock {
        fn now(&self) -> Duration {
            Duration::from_micros(self.micros.fetch_add(self.step, Ordering::Relaxed))
        }
    }
}
