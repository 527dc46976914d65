//! Random sources: the caller's, and a generator that stretches a seed.
//!
//! Always true: a [`KdfRng`] of the same seed, label and context gives the same bytes,
//! however they are asked for in pieces.

use alloc::boxed::Box;

use zeroize::Zeroizing;

use super::{Bytes, CryptoError, HashAlg, HmacState, Result, concat};

/// A source of random bytes.
pub trait Rng {
    /// Fills `out`.
    ///
    /// # Errors
    /// `Random`; `out` is then not used.
    fn fill(&mut self, out: &mut [u8]) -> Result<()>;
}

/// A deterministic generator: HMAC in counter mode over label and context, keyed by the seed
/// (SP 800-108 without a length, since the length is not known beforehand).
#[derive(Clone)]
pub struct KdfRng {
    /// On the heap, and [`Self::new`] is not inlined: key generation, which has one or two of
    /// these, needs the stack.
    keyed: Box<HmacState>,
    fixed: Bytes,
    counter: u64,
    block: Bytes,
    used: usize,
}

impl KdfRng {
    /// A generator from a seed; `label` and `context` keep the uses of one seed apart.
    #[must_use]
    #[inline(never)]
    pub fn new(alg: HashAlg, seed: &[u8], label: &str, context: &[u8]) -> Self {
        let fixed = concat(&[label.as_bytes(), &[0], context]);
        Self {
            keyed: Box::new(HmacState::new(alg, seed)),
            fixed,
            counter: 0,
            block: Bytes::default(),
            used: 0,
        }
    }

    /// A generator whose seed is drawn from `rng`, for libraries whose sources cannot fail.
    pub(super) fn seeded(rng: &mut dyn Rng, label: &str) -> Result<Self> {
        let mut seed = Zeroizing::new([0; 64]);
        rng.fill(&mut *seed)?;
        Ok(Self::new(HashAlg::Sha512, &*seed, label, &[]))
    }

    fn next_block(&mut self) {
        let mut state = (*self.keyed).clone();
        state.update(&self.counter.to_be_bytes());
        state.update(&self.fixed);
        self.block = Bytes::new(state.finish());
        self.used = 0;
        self.counter += 1;
    }

    /// Fills `out`; cannot fail.
    pub fn generate(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == self.block.len() {
                self.next_block();
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

impl core::fmt::Debug for KdfRng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KdfRng(..)")
    }
}

impl Rng for KdfRng {
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        self.generate(out);
        Ok(())
    }
}

impl rand_core::TryRng for KdfRng {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> core::result::Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.generate(&mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> core::result::Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.generate(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> core::result::Result<(), Self::Error> {
        self.generate(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for KdfRng {}

impl<F: FnMut(&mut [u8]) -> core::result::Result<(), E>, E> Rng for F {
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        self(out).map_err(|_| CryptoError::Random)
    }
}
