//! Random numbers for CocoonFs.
//!
//! A Hash_DRBG (NIST SP 800-90A Rev. 1, 10.1.1) over the CPU's entropy source. The
//! DRBG of the crypto crate asks for fresh entropy only after 2^48 requests, which
//! never come, so this one reseeds itself every [`REQUESTS_PER_SEED`] requests and
//! refuses to go on where that fails.

use cocoon_tpm_crypto::rng::{
    HashDrbg, ReseedableRngCore, RngCore, RngGenerateError, RngReseedError,
};
use cocoon_tpm_crypto::{
    CryptoError, CryptoPeekableIoSlicesIter, CryptoWalkableIoSlicesMutIter, EmptyCryptoIoSlices,
};
use cocoon_tpm_tpm2_interface::TpmiAlgHash;
use zeroize::Zeroizing;

use crate::entropy::Entropy;

/// Requests answered from one seed. A request is what one encryption or one run of
/// padding takes, from 16 bytes to 64 KiB.
const REQUESTS_PER_SEED: u32 = 256;

/// Entropy per seed: the 256 bits of SHA-256's security strength and half as much
/// again, which stands for the nonce (SP 800-90A Rev. 1, 8.6.7).
const SEED_BYTES: usize = 48;

/// A Hash_DRBG with SHA-256 that reseeds itself from an [`Entropy`] source.
pub struct SeededRng {
    drbg: HashDrbg,
    entropy: &'static dyn Entropy,
    requests_left: u32,
}

impl SeededRng {
    /// A generator with a fresh seed.
    ///
    /// # Errors
    ///
    /// [`CryptoError::RngFailure`] where there is no entropy, others where memory is
    /// short.
    pub fn new(entropy: &'static dyn Entropy) -> Result<Self, CryptoError> {
        let seed = seed(entropy)?;
        let drbg = HashDrbg::instantiate(
            TpmiAlgHash::Sha256,
            seed.as_slice(),
            None,
            Some(b"svsm persistence"),
        )?;
        Ok(Self {
            drbg,
            entropy,
            requests_left: REQUESTS_PER_SEED,
        })
    }

    fn reseed_if_due(&mut self) -> Result<(), CryptoError> {
        if self.requests_left == 0 {
            let seed = seed(self.entropy)?;
            self.drbg
                .reseed::<EmptyCryptoIoSlices>(seed.as_slice(), None)
                .map_err(|RngReseedError::CryptoError(error)| error)?;
            self.requests_left = REQUESTS_PER_SEED;
        }
        self.requests_left -= 1;
        Ok(())
    }
}

impl RngCore for SeededRng {
    fn generate<
        'a,
        'b,
        OI: CryptoWalkableIoSlicesMutIter<'a>,
        AII: CryptoPeekableIoSlicesIter<'b>,
    >(
        &mut self,
        output: OI,
        additional_input: Option<AII>,
    ) -> Result<(), RngGenerateError> {
        self.reseed_if_due()?;
        self.drbg.generate(output, additional_input)
    }
}

fn seed(entropy: &dyn Entropy) -> Result<Zeroizing<[u8; SEED_BYTES]>, CryptoError> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    entropy
        .fill(seed.as_mut_slice())
        .map_err(|_| CryptoError::RngFailure)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::EntropyError;
    use cocoon_tpm_crypto::rng::{RngCoreDispatchable, rng_dyn_dispatch_generate};
    use cocoon_tpm_utils_common::io_slices::{IoSlicesIterCommon as _, SingletonIoSliceMut};
    use core::sync::atomic::{AtomicU32, Ordering};

    /// Entropy that runs out after `left` seeds.
    struct Limited {
        left: AtomicU32,
        taken: AtomicU32,
    }

    impl Limited {
        fn leak(left: u32) -> &'static Self {
            alloc::boxed::Box::leak(alloc::boxed::Box::new(Self {
                left: AtomicU32::new(left),
                taken: AtomicU32::new(0),
            }))
        }
    }

    impl Entropy for Limited {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
            if self.left.load(Ordering::Relaxed) == 0 {
                return Err(EntropyError::Exhausted);
            }
            self.left.fetch_sub(1, Ordering::Relaxed);
            buffer.fill(self.taken.fetch_add(1, Ordering::Relaxed) as u8 + 1);
            Ok(())
        }
    }

    fn draw(rng: &mut dyn RngCoreDispatchable) -> Result<[u8; 32], RngGenerateError> {
        let mut output = [0; 32];
        rng_dyn_dispatch_generate(
            rng,
            SingletonIoSliceMut::new(&mut output).map_infallible_err(),
            None,
        )?;
        Ok(output)
    }

    #[test]
    fn reseeds_before_every_257th_request() {
        let entropy = Limited::leak(u32::MAX);
        let mut rng = SeededRng::new(entropy).unwrap();
        let mut seen = alloc::collections::BTreeSet::new();
        for _ in 0..2 * REQUESTS_PER_SEED {
            assert!(seen.insert(draw(&mut rng).unwrap()));
        }
        assert_eq!(entropy.taken.load(Ordering::Relaxed), 2);
        assert!(seen.insert(draw(&mut rng).unwrap()));
        assert_eq!(entropy.taken.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn without_entropy_there_is_no_generator() {
        assert!(matches!(
            SeededRng::new(Limited::leak(0)),
            Err(CryptoError::RngFailure)
        ));
    }

    #[test]
    fn stops_when_entropy_runs_out() {
        let mut rng = SeededRng::new(Limited::leak(1)).unwrap();
        for _ in 0..REQUESTS_PER_SEED {
            draw(&mut rng).unwrap();
        }
        for _ in 0..2 {
            assert!(matches!(
                draw(&mut rng),
                Err(RngGenerateError::CryptoError(CryptoError::RngFailure))
            ));
        }
    }
}
