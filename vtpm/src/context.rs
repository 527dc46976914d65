//! What a command works with.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    auth::SessionUse,
    constants::{alg, ht, oa, rh},
    crypto::{self, Bytes, Crypto, CryptoError, HashAlg},
    environment::Environment,
    rc::{Numbered, Rc, Result},
    state::{
        State,
        object::{Object, Slot},
        session::{self, Session},
    },
};

/// Hash of tickets and of the protection of saved contexts (`TPM_PT_CONTEXT_HASH`).
pub const CONTEXT_HASH: HashAlg = HashAlg::Sha512;

/// The state a command may change, and the machine.
pub struct Context<'a> {
    /// A copy of the TPM's state; it becomes the state if the command succeeds.
    pub state: &'a mut State,
    /// Random source and clock.
    pub environment: &'a mut dyn Environment,
    /// Public-key cryptography.
    pub crypto: &'a dyn Crypto,
    /// Locality the command came from.
    pub locality: u8,
    /// Handle area; unused places hold `TPM_RH_UNASSIGNED`.
    pub handles: [u32; 3],
    /// The sessions of the command.
    pub sessions: &'a [SessionUse],
    /// `TPM_CC` of the command.
    pub code: u32,
}

/// The environment's random source for [`Crypto`].
pub struct Random<'a>(pub &'a mut dyn Environment);

impl crypto::Rng for Random<'_> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        self.0.random(out).map_err(|_| CryptoError::Random)
    }
}

impl Context<'_> {
    /// `size` random bytes.
    ///
    /// # Errors
    /// `TPM_RC_FAILURE` when the source gives none.
    pub fn random(&mut self, size: usize) -> Result<Bytes> {
        let mut bytes = Bytes::new(alloc::vec![0; size]);
        self.environment
            .random(&mut bytes)
            .map_err(|_| Rc::FAILURE)?;
        Ok(bytes)
    }

    /// The random source for [`Crypto`].
    pub fn rng(&mut self) -> Random<'_> {
        Random(self.environment)
    }

    /// The n-th handle of the command, counted from 0.
    #[must_use]
    pub fn handle(&self, n: usize) -> u32 {
        self.handles.get(n).copied().unwrap_or(rh::UNASSIGNED)
    }

    /// The object with the n-th handle.
    ///
    /// # Errors
    /// `TPM_RC_SEQUENCE` when it is a sequence, which is no object of any use here.
    pub fn object(&self, n: usize) -> Result<Arc<Object>> {
        self.state.object(self.handle(n))
    }

    /// The object with the n-th handle, or none for `TPM_RH_NULL`.
    ///
    /// # Errors
    /// See [`Self::object`].
    pub fn object_or_null(&self, n: usize) -> Result<Option<Arc<Object>>> {
        if self.handle(n) == rh::NULL {
            Ok(None)
        } else {
            self.object(n).map(Some)
        }
    }

    /// The key that signs, the object with the n-th handle; none for `TPM_RH_NULL`.
    ///
    /// # Errors
    /// `TPM_RC_KEY` about a sequence.
    pub fn signer(&self, n: usize) -> Result<Option<Arc<Object>>> {
        let key = self.object_or_null(n).map_err(|_| Rc::KEY);
        key.h(n as u32 + 1)
    }

    /// The policy session with the n-th handle, to be changed.
    ///
    /// # Errors
    /// `TPM_RC_REFERENCE_H0` when it is gone; the dispatcher has seen it.
    pub fn policy(&mut self, n: usize) -> Result<&mut Session> {
        let handle = self.handle(n);
        self.state.session_mut(handle).ok_or(Rc::REFERENCE_H0)
    }

    /// A digest over `parts` with the hash of a ticket, keyed with the proof of `hierarchy`.
    #[must_use]
    pub fn proof_hmac(&self, hierarchy: u32, parts: &[&[u8]]) -> Vec<u8> {
        crypto::hmac(CONTEXT_HASH, self.state.proof(hierarchy), parts)
    }
}

impl State {
    /// The object with `handle`, transient or persistent.
    ///
    /// # Errors
    /// `TPM_RC_SEQUENCE` when it is a sequence, `TPM_RC_HANDLE` when there is none.
    pub fn object(&self, handle: u32) -> Result<Arc<Object>> {
        match ht::of(handle) {
            ht::PERSISTENT => self.persistent.get(&handle).cloned().ok_or(Rc::HANDLE),
            ht::TRANSIENT => match self.slot(handle) {
                Some(Slot::Object(object)) => Ok(object.clone()),
                Some(_) => Err(Rc::SEQUENCE),
                None => Err(Rc::HANDLE),
            },
            _ => Err(Rc::HANDLE),
        }
    }

    /// Has the object, or one above it, the attribute stClear?
    #[must_use]
    pub fn is_st_clear(&self, handle: u32) -> bool {
        let index = handle.wrapping_sub(rh::TRANSIENT_FIRST) as usize;
        let inherited = self.ram.st_clear.get(index).copied().unwrap_or(false);
        let own = self.object(handle);
        inherited || own.is_ok_and(|object| object.public.has(oa::ST_CLEAR))
    }

    /// Notes whether an object is below one with stClear.
    pub fn set_st_clear(&mut self, handle: u32, inherited: bool) {
        let index = handle.wrapping_sub(rh::TRANSIENT_FIRST) as usize;
        if let Some(place) = self.ram.st_clear.get_mut(index) {
            *place = inherited;
        }
    }

    /// What the transient slot with `handle` holds.
    #[must_use]
    pub fn slot(&self, handle: u32) -> Option<&Slot> {
        let index = handle.checked_sub(rh::TRANSIENT_FIRST)? as usize;
        self.ram.objects.get(index)?.as_ref()
    }

    /// The same, to be changed or emptied.
    pub fn slot_mut(&mut self, handle: u32) -> Option<&mut Option<Slot>> {
        let index = handle.checked_sub(rh::TRANSIENT_FIRST)? as usize;
        self.ram
            .objects
            .get_mut(index)
            .filter(|slot| slot.is_some())
    }

    /// Puts something into a free transient slot and returns its handle.
    ///
    /// # Errors
    /// `TPM_RC_OBJECT_MEMORY` when all are in use.
    pub fn add_slot(&mut self, slot: Slot) -> Result<u32> {
        // The persistent objects of the running command are in the first free ones.
        let reserved = self.ram.reserved;
        let places = (rh::TRANSIENT_FIRST..).zip(&mut self.ram.objects);
        let free = places.filter(|(_, place)| place.is_none()).nth(reserved);
        let (handle, place) = free.ok_or(Rc::OBJECT_MEMORY)?;
        *place = Some(slot);
        self.set_st_clear(handle, false);
        Ok(handle)
    }

    /// Is a transient slot free?
    ///
    /// # Errors
    /// `TPM_RC_OBJECT_MEMORY` when none is.
    pub fn need_slot(&self) -> Result<()> {
        let free = self
            .ram
            .objects
            .iter()
            .filter(|slot| slot.is_none())
            .count();
        if free > self.ram.reserved {
            Ok(())
        } else {
            Err(Rc::OBJECT_MEMORY)
        }
    }

    /// A loaded session.
    #[must_use]
    pub fn session(&self, handle: u32) -> Option<&Session> {
        let session = self.ram.sessions.get(&session::number(handle))?;
        (session.handle == handle).then_some(&**session)
    }

    /// A loaded session, to be changed.
    pub fn session_mut(&mut self, handle: u32) -> Option<&mut Session> {
        let session = self.ram.sessions.get_mut(&session::number(handle))?;
        (session.handle == handle).then(|| Arc::make_mut(session))
    }

    /// Proof of a hierarchy.
    #[must_use]
    pub fn proof(&self, hierarchy: u32) -> &[u8] {
        match hierarchy {
            rh::OWNER => &self.seeds.storage_proof,
            rh::ENDORSEMENT => &self.seeds.endorsement_proof,
            rh::PLATFORM => &self.seeds.platform_proof,
            _ => &self.reset.null_proof,
        }
    }

    /// Primary seed of a hierarchy.
    #[must_use]
    pub fn seed(&self, hierarchy: u32) -> &[u8] {
        match hierarchy {
            rh::OWNER => &self.seeds.storage,
            rh::ENDORSEMENT => &self.seeds.endorsement,
            rh::PLATFORM => &self.seeds.platform,
            _ => &self.reset.null_seed,
        }
    }

    /// Is the hierarchy enabled?
    #[must_use]
    pub fn is_enabled(&self, hierarchy: u32) -> bool {
        match hierarchy {
            rh::OWNER => self.clear.storage_enabled,
            rh::ENDORSEMENT => self.clear.endorsement_enabled,
            rh::PLATFORM => self.ram.platform_enabled,
            rh::PLATFORM_NV => self.clear.platform_nv_enabled,
            _ => true,
        }
    }

    /// Milliseconds of the clock (`TPMS_CLOCK_INFO.clock`).
    #[must_use]
    pub fn clock_info(&self) -> crate::wire::structures::ClockInfo {
        crate::wire::structures::ClockInfo {
            clock: self.orderly.clock,
            reset_count: self.boots.resets,
            restart_count: self.reset.restarts,
            safe: self.orderly.clock_safe,
        }
    }

    /// Flushes every transient object of `hierarchy`.
    pub fn flush_hierarchy(&mut self, hierarchy: u32) {
        for place in &mut self.ram.objects {
            if matches!(place, Some(Slot::Object(object)) if object.hierarchy == hierarchy) {
                *place = None;
            }
        }
    }
}

/// Maps a failed cryptographic operation to the code for a value that does not fit.
pub fn crypto_rc(error: CryptoError) -> Rc {
    match error {
        CryptoError::Value | CryptoError::Padding => Rc::VALUE,
        CryptoError::Key => Rc::BINDING,
        CryptoError::Signature => Rc::SIGNATURE,
        CryptoError::Random | CryptoError::Internal => Rc::FAILURE,
    }
}

/// Identifies the mode of a block cipher.
///
/// # Errors
/// `TPM_RC_MODE` for none.
pub fn cipher_mode(id: u16) -> Result<crypto::CipherMode> {
    Ok(match id {
        alg::CTR => crypto::CipherMode::Ctr,
        alg::OFB => crypto::CipherMode::Ofb,
        alg::CBC => crypto::CipherMode::Cbc,
        alg::CFB => crypto::CipherMode::Cfb,
        alg::ECB => crypto::CipherMode::Ecb,
        _ => return Err(Rc::MODE),
    })
}
