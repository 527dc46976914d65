//! Randomness: what the rest of the kernel asks for it.

/// Why there is no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntropyError {
    #[error("the CPU has neither RDSEED nor RDRAND")]
    NoSource,
    #[error("the random number generator of the CPU does not answer")]
    Exhausted,
    #[error("the random number generator of the CPU failed its health test")]
    Unhealthy,
}

/// A source of full-entropy random bytes, fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `buffer`, or fails without telling anything of what it holds.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}
