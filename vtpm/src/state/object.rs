//! Objects and sequences as they are held in RAM, in records and in saved contexts.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    constants::{alg, limit, oa, rh},
    crypto::{Bytes, HashAlg, HashState, HmacState},
    encoded,
    state::encoding::{Encode, List},
    wire::{
        Reader,
        public::{Parameters, Public, Sensitive},
    },
};

encoded! {
    /// A key or sealed data.
    #[derive(Clone)]
    pub struct Object {
        /// Public area.
        pub public: Public,
        /// Sensitive area; none when only the public area was loaded.
        pub sensitive: Option<Sensitive>,
        /// Name.
        pub name: Vec<u8>,
        /// Qualified name: digest over the names from the hierarchy down.
        pub qualified: Vec<u8>,
        /// Hierarchy: owner, endorsement, platform or null.
        pub hierarchy: u32,
        /// Loaded by `TPM2_LoadExternal`.
        pub external: bool,
        /// Made by `TPM2_CreatePrimary`.
        pub primary: bool,
    }

    /// Hash sequence of `TPM2_HashSequenceStart`.
    #[derive(Clone)]
    pub struct HashSequence {
        /// The running hash.
        pub state: HashState,
        /// Whether the first block shows that the digest cannot be of a structure this TPM
        /// makes; none before the first block.
        pub safe: Option<bool>,
        /// Authorization value.
        pub auth: Bytes,
    }

    /// HMAC sequence of `TPM2_HMAC_Start`.
    #[derive(Clone)]
    pub struct HmacSequence {
        /// The running HMAC.
        pub state: HmacState,
        /// Authorization value.
        pub auth: Bytes,
    }

    /// One hash for each bank.
    #[derive(Clone)]
    pub struct EventState {
        /// The running hashes.
        pub states: List<HashState>,
    }

    /// Event sequence: `TPM2_HashSequenceStart` with `TPM_ALG_NULL`.
    #[derive(Clone)]
    pub struct EventSequence {
        /// The running hashes.
        pub event: EventState,
        /// Authorization value.
        pub auth: Bytes,
    }
}

impl EventState {
    /// Hashes of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            states: List(
                HashAlg::ALL
                    .iter()
                    .map(|hash| HashState::new(*hash))
                    .collect(),
            ),
        }
    }

    /// Hashes more.
    pub fn update(&mut self, data: &[u8]) {
        self.states
            .0
            .iter_mut()
            .for_each(|state| state.update(data));
    }

    /// The digests.
    #[must_use]
    pub fn finish(self) -> Vec<(HashAlg, Vec<u8>)> {
        self.states
            .0
            .into_iter()
            .map(|state| (state.alg(), state.finish()))
            .collect()
    }
}

impl Default for EventState {
    fn default() -> Self {
        Self::new()
    }
}

impl HashSequence {
    /// Hashes more.
    pub fn update(&mut self, data: &[u8]) {
        self.safe
            .get_or_insert(data.len() >= 4 && !is_generated(data));
        self.state.update(data);
    }

    /// May a digest of this be signed by a restricted key? Only if it cannot be mistaken for
    /// a structure this TPM made.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.safe == Some(true)
    }
}

/// Do the bytes begin like a structure that only a TPM makes?
#[must_use]
pub fn is_generated(bytes: &[u8]) -> bool {
    bytes.get(..4) == Some(&crate::constants::GENERATED.to_be_bytes())
}

/// What a transient slot holds.
#[derive(Clone)]
pub enum Slot {
    /// A key or sealed data.
    Object(Arc<Object>),
    /// A hash sequence.
    Hash(Arc<HashSequence>),
    /// An HMAC sequence.
    Hmac(Arc<HmacSequence>),
    /// An event sequence.
    Event(Arc<EventSequence>),
}

impl Encode for Slot {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Object(object) => {
                out.push(0);
                object.encode(out);
            }
            Self::Hash(sequence) => {
                out.push(1);
                sequence.encode(out);
            }
            Self::Hmac(sequence) => {
                out.push(2);
                sequence.encode(out);
            }
            Self::Event(sequence) => {
                out.push(3);
                sequence.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(match reader.u8().ok()? {
            0 => Self::Object(Encode::decode(reader)?),
            1 => Self::Hash(Encode::decode(reader)?),
            2 => Self::Hmac(Encode::decode(reader)?),
            3 => Self::Event(Encode::decode(reader)?),
            _ => return None,
        })
    }
}

impl Slot {
    /// The authorization value, if the slot has one.
    #[must_use]
    pub fn auth(&self) -> Option<&Bytes> {
        match self {
            Self::Object(object) => object.sensitive.as_ref().map(|sensitive| &sensitive.auth),
            Self::Hash(sequence) => Some(&sequence.auth),
            Self::Hmac(sequence) => Some(&sequence.auth),
            Self::Event(sequence) => Some(&sequence.auth),
        }
    }
}

impl Object {
    /// Is it a storage key or derivation parent?
    #[must_use]
    pub fn is_parent(&self) -> bool {
        self.sensitive.is_some()
            && self.public.has(oa::RESTRICTED | oa::DECRYPT)
            && !self.public.has(oa::SIGN)
            && self.public.name_alg.is_some()
    }

    /// Is it a derivation parent (a restricted decryption key of type keyed hash)?
    #[must_use]
    pub fn is_derivation_parent(&self) -> bool {
        self.is_parent() && self.public.kind() == alg::KEYEDHASH
    }

    /// Does it belong to no persistent hierarchy?
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.hierarchy == rh::NULL
    }

    /// The private number of an asymmetric key, symmetric key or sealed data.
    #[must_use]
    pub fn secret(&self) -> Option<&Bytes> {
        self.sensitive.as_ref().map(|sensitive| &sensitive.secret)
    }

    /// Does its key sign with RSA or ECC?
    #[must_use]
    pub fn is_asymmetric(&self) -> bool {
        matches!(
            self.public.parameters,
            Parameters::Rsa { .. } | Parameters::Ecc { .. }
        )
    }
}

/// The biggest encoded slot: an RSA-3072 key with all its parts.
pub const MAX_ENCODED: usize = limit::CONTEXT;
