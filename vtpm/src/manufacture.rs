//! A new TPM: seeds, proofs, and the endorsement key's public area.
//!
//! Always true: the first commit of a manufacture empties the store and writes the marker
//! "begun", the second writes everything with the marker "complete". A power cut between
//! them leaves a store that the next power-on recognizes and manufactures again.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use crate::{
    constants::{alg, limit, oa, rh},
    context::Context,
    crypto::{Bytes, Crypto, HashAlg},
    environment::Environment,
    objects,
    records::{self, Stage},
    state::{Boots, Orderly, Ram, Seeds, Shutdown, State},
    storage::{Change, Storage},
    tpm::PowerOnError,
    wire::{
        Marshal,
        algorithms::{Scheme, SymDef},
        public::{Parameters, Public, SensitiveCreate, Unique},
    },
};

/// Policy of the endorsement key: `TPM2_PolicySecret` with endorsement authorization
/// (TCG EK Credential Profile, B.6.2).
pub const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
    0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
];

/// Template L-1: RSA-2048 storage key (TCG EK Credential Profile, B.3.3).
#[must_use]
pub fn ek_template() -> Public {
    Public {
        name_alg: Some(HashAlg::Sha256),
        attributes: oa::FIXED_TPM
            | oa::FIXED_PARENT
            | oa::SENSITIVE_DATA_ORIGIN
            | oa::ADMIN_WITH_POLICY
            | oa::RESTRICTED
            | oa::DECRYPT,
        policy: EK_POLICY.to_vec(),
        parameters: Parameters::Rsa {
            symmetric: SymDef::Aes {
                bits: 128,
                mode: alg::CFB,
            },
            scheme: Scheme::Null,
            bits: 2048,
            exponent: 0,
        },
        unique: Unique::Bytes(alloc::vec![0; 256]),
    }
}

fn random(environment: &mut dyn Environment, size: usize) -> Result<Bytes, PowerOnError> {
    let mut bytes = Bytes::new(alloc::vec![0; size]);
    environment.random(&mut bytes)?;
    Ok(bytes)
}

/// Makes a TPM and commits it over whatever `storage` holds.
///
/// # Errors
/// When storage or the random source fails; the store is then empty or marked as begun.
pub fn run(
    environment: &mut dyn Environment,
    storage: &mut dyn Storage,
    crypto: &dyn Crypto,
) -> Result<Box<State>, PowerOnError> {
    let mut begin: Vec<Change> = Vec::new();
    for (id, _) in storage.load()? {
        if id != records::id::MARKER {
            begin.push(Change::Remove(id));
        }
    }
    begin.push(records::marker(Stage::Begun));
    storage.commit(&begin)?;
    let seeds = Seeds {
        endorsement: random(environment, limit::PRIMARY_SEED)?,
        storage: random(environment, limit::PRIMARY_SEED)?,
        platform: random(environment, limit::PRIMARY_SEED)?,
        endorsement_proof: random(environment, limit::PROOF)?,
        storage_proof: random(environment, limit::PROOF)?,
        platform_proof: random(environment, limit::PROOF)?,
    };
    let mut state = Box::new(State {
        seeds: Arc::new(seeds),
        ek_public: Arc::default(),
        owners: Arc::default(),
        boots: Arc::new(Boots {
            left: Shutdown::CLEAR,
            ..Boots::default()
        }),
        da: Arc::default(),
        settings: Arc::default(),
        nv: Default::default(),
        persistent: Default::default(),
        orderly: Arc::new(Orderly {
            clock_safe: true,
            ..Orderly::default()
        }),
        clear: Arc::default(),
        reset: Arc::default(),
        ram: Ram {
            platform_enabled: true,
            ..Ram::default()
        },
    });
    state.ek_public = Arc::new(ek_public(&state, environment, crypto)?);
    storage.commit(&records::all(&state))?;
    state.ram = Ram::default();
    Ok(state)
}

/// Derives the public area of the endorsement key from the endorsement seed.
///
/// # Errors
/// `EndorsementKey`
pub fn ek_public(
    state: &State,
    environment: &mut dyn Environment,
    crypto: &dyn Crypto,
) -> Result<Vec<u8>, PowerOnError> {
    let mut copy = state.clone();
    let mut context = Context {
        state: &mut copy,
        environment,
        crypto,
        locality: 0,
        handles: [rh::UNASSIGNED; 3],
        sessions: &[],
        code: 0,
    };
    let sensitive = SensitiveCreate {
        auth: Bytes::default(),
        data: Bytes::default(),
    };
    objects::create::primary(&mut context, rh::ENDORSEMENT, ek_template(), sensitive)
        .map(|object| object.public.to_bytes())
        .map_err(PowerOnError::EndorsementKey)
}
