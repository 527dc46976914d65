//! Surroundings that are the same in every run.

use vtpm::{
    crypto::{HashAlg, KdfRng},
    environment::{Environment, RandomError},
};

/// Random bytes that are the same in every run, and a clock that ticks with every look.
pub struct Fixed(KdfRng, u64);

impl Default for Fixed {
    fn default() -> Self {
        Self(KdfRng::new(HashAlg::Sha256, b"replay", "replay", &[]), 0)
    }
}

impl Environment for Fixed {
    fn random(&mut self, out: &mut [u8]) -> Result<(), RandomError> {
        self.0.generate(out);
        Ok(())
    }
    fn now_ms(&mut self) -> u64 {
        self.1 += 1;
        self.1
    }
}
