//! What the TPM needs from the machine besides storage: random bytes and a clock.

/// The random source failed; the command that needed it fails with `TPM_RC_FAILURE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the random source gave no bytes")]
pub struct RandomError;

/// The machine below the TPM.
pub trait Environment {
    /// Fills `out` with random bytes fit for keys.
    ///
    /// # Errors
    /// [`RandomError`]; `out` is then not used.
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError>;

    /// Milliseconds since any fixed moment; never goes back while the machine runs.
    fn now_ms(&mut self) -> u64;
}
