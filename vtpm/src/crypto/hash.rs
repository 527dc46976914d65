//! Hash algorithms and their states.
//!
//! Always true: a state's serialized form restores exactly that state, so a saved sequence
//! continues where it was.

use alloc::vec::Vec;

use sha1::Sha1;
use sha2::{
    Digest, Sha256, Sha384, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use super::Bytes;

/// The hash algorithms (TPM 2.0 Library, Part 2, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashAlg {
    /// `TPM_ALG_SHA1`
    Sha1,
    /// `TPM_ALG_SHA256`
    Sha256,
    /// `TPM_ALG_SHA384`
    Sha384,
    /// `TPM_ALG_SHA512`
    Sha512,
}

impl HashAlg {
    /// Every algorithm, by rising identifier.
    pub const ALL: &[Self] = &[Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The algorithm of a `TPM_ALG_ID`.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|alg| alg.id() == id)
    }

    /// The `TPM_ALG_ID`.
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000B,
            Self::Sha384 => 0x000C,
            Self::Sha512 => 0x000D,
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Bytes of a block of the compression function.
    #[must_use]
    pub fn block_size(self) -> usize {
        match self {
            Self::Sha1 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => 128,
        }
    }
}

/// A hash that is being computed.
#[derive(Clone)]
pub struct HashState(State);

#[derive(Clone)]
enum State {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

macro_rules! each {
    ($value:expr, $state:ident => $body:expr) => {
        match $value {
            State::Sha1($state) => $body,
            State::Sha256($state) => $body,
            State::Sha384($state) => $body,
            State::Sha512($state) => $body,
        }
    };
}

impl HashState {
    /// Begins a hash.
    #[must_use]
    pub fn new(alg: HashAlg) -> Self {
        Self(match alg {
            HashAlg::Sha1 => State::Sha1(Sha1::new()),
            HashAlg::Sha256 => State::Sha256(Sha256::new()),
            HashAlg::Sha384 => State::Sha384(Sha384::new()),
            HashAlg::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// The algorithm.
    #[must_use]
    pub fn alg(&self) -> HashAlg {
        match self.0 {
            State::Sha1(_) => HashAlg::Sha1,
            State::Sha256(_) => HashAlg::Sha256,
            State::Sha384(_) => HashAlg::Sha384,
            State::Sha512(_) => HashAlg::Sha512,
        }
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        each!(&mut self.0, state => Digest::update(state, data));
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        each!(self.0, state => state.finalize().to_vec())
    }

    /// The state as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        each!(&self.0, state => Bytes::new(state.serialize().to_vec()))
    }

    /// The state of [`HashState::to_bytes`], unless the bytes are none of this algorithm.
    #[must_use]
    pub fn from_bytes(alg: HashAlg, bytes: &[u8]) -> Option<Self> {
        fn restore<T: SerializableState>(bytes: &[u8]) -> Option<T> {
            let bytes = <&SerializedState<T>>::try_from(bytes).ok()?;
            T::deserialize(bytes).ok()
        }
        Some(Self(match alg {
            HashAlg::Sha1 => State::Sha1(restore(bytes)?),
            HashAlg::Sha256 => State::Sha256(restore(bytes)?),
            HashAlg::Sha384 => State::Sha384(restore(bytes)?),
            HashAlg::Sha512 => State::Sha512(restore(bytes)?),
        }))
    }
}

impl core::fmt::Debug for HashState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HashState({:?})", self.alg())
    }
}

/// The digest of the parts, one after the other.
#[must_use]
pub fn hash(alg: HashAlg, parts: &[&[u8]]) -> Vec<u8> {
    let mut state = HashState::new(alg);
    for part in parts {
        state.update(part);
    }
    state.finish()
}
