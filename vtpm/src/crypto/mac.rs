//! HMAC (FIPS 198-1), made of two hash states so that an unfinished one can be saved.

use alloc::{vec, vec::Vec};

use zeroize::Zeroizing;

use super::{Bytes, HashAlg, HashState, hash};

/// An HMAC that is being computed.
#[derive(Clone)]
pub struct HmacState {
    inner: HashState,
    outer: HashState,
}

impl HmacState {
    /// Begins an HMAC with a key of any length.
    #[must_use]
    pub fn new(alg: HashAlg, key: &[u8]) -> Self {
        let mut block = Zeroizing::new(vec![0; alg.block_size()]);
        if key.len() > block.len() {
            let digest = Zeroizing::new(hash(alg, &[key]));
            block[..digest.len()].copy_from_slice(&digest);
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let keyed = |pad: u8| {
            let padded: Zeroizing<Vec<u8>> =
                Zeroizing::new(block.iter().map(|byte| byte ^ pad).collect());
            let mut state = HashState::new(alg);
            state.update(&padded);
            state
        };
        Self {
            inner: keyed(0x36),
            outer: keyed(0x5C),
        }
    }

    /// The hash algorithm.
    #[must_use]
    pub fn alg(&self) -> HashAlg {
        self.inner.alg()
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        self.inner.update(data);
    }

    /// The code.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut outer = self.outer;
        outer.update(&Zeroizing::new(self.inner.finish()));
        outer.finish()
    }

    /// The state as bytes; as secret as the key.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = self.inner.to_bytes();
        // Grown in a new allocation, so that no copy stays behind unzeroized.
        let mut both = Bytes::new(Vec::with_capacity(2 * bytes.len()));
        both.append(&mut bytes);
        both.extend_from_slice(&self.outer.to_bytes());
        both
    }

    /// The state of [`HmacState::to_bytes`], unless the bytes are none of this algorithm.
    #[must_use]
    pub fn from_bytes(alg: HashAlg, bytes: &[u8]) -> Option<Self> {
        let (inner, outer) = bytes.split_at_checked(bytes.len() / 2)?;
        Some(Self {
            inner: HashState::from_bytes(alg, inner)?,
            outer: HashState::from_bytes(alg, outer)?,
        })
    }
}

impl core::fmt::Debug for HmacState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HmacState({:?})", self.alg())
    }
}

/// The HMAC of the parts, one after the other.
#[must_use]
pub fn hmac(alg: HashAlg, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut state = HmacState::new(alg, key);
    for part in parts {
        state.update(part);
    }
    state.finish()
}
