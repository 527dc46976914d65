//! The TPM as its host sees it: power, commands, the locality-4 interface.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    crypto::Crypto,
    environment::Environment,
    rc::Rc,
    storage::Storage,
};

/// Where the state of a TPM that was powered on came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The records were there and are in use.
    Loaded,
    /// There were no records: new seeds, a new TPM.
    Manufactured,
    /// A manufacture had begun and not ended: done again from the start.
    ManufacturedAgain,
}

/// Why a TPM could not be powered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PowerOnError {
    /// Storage failed.
    #[error("TPM state: {0}")]
    Storage(#[from] crate::storage::StorageError),
    /// A record does not parse, or one is missing; nothing was changed.
    #[error("TPM state: record {0:#010x} is damaged or missing")]
    Damaged(u32),
    /// The records were written by a version of the format this one does not know.
    #[error("TPM state: format version {0} is not known")]
    Version(u32),
    /// The random source failed.
    #[error("TPM manufacture: {0}")]
    Random(#[from] crate::environment::RandomError),
    /// The endorsement key could not be made.
    #[error("TPM manufacture: the endorsement key could not be made ({0:?})")]
    EndorsementKey(Rc),
}

/// A TPM.
pub struct Tpm {
    environment: Box<dyn Environment + Send>,
    storage: Box<dyn Storage + Send>,
    crypto: &'static (dyn Crypto + Sync),
}

impl Tpm {
    /// Powers a TPM on: loads its records, or manufactures it when there are none.
    ///
    /// # Errors
    /// See [`PowerOnError`]; records that are there but damaged are never written over.
    pub fn power_on(
        environment: Box<dyn Environment + Send>,
        storage: Box<dyn Storage + Send>,
        crypto: &'static (dyn Crypto + Sync),
    ) -> Result<(Self, Origin), PowerOnError> {
        Ok((Self { environment, storage, crypto }, Origin::Loaded))
    }

    /// Power lost and back (`_TPM_Init`): all that is not persistent is gone; a
    /// `TPM2_Startup` must follow.
    ///
    /// # Errors
    /// When the records cannot be read back.
    pub fn power_cycle(&mut self) -> Result<(), PowerOnError> {
        Ok(())
    }

    /// Runs one command at `locality` and replaces `response` with its answer, which is
    /// always a whole response of 10 to 4096 bytes.
    pub fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) {
        let _ = (locality, command, response);
    }

    /// The TPM_ESTABLISHED flag of the PC client interface.
    #[must_use]
    pub fn established(&self) -> bool {
        false
    }

    /// Clears the TPM_ESTABLISHED flag; only localities 3 and 4 may.
    ///
    /// # Errors
    /// `TPM_RC_LOCALITY` from any other locality.
    pub fn reset_established(&mut self, locality: u8) -> Result<(), Rc> {
        let _ = locality;
        Ok(())
    }

    /// `_TPM_Hash_Start`: a dynamic root of trust begins to measure.
    pub fn hash_start(&mut self) {}

    /// `_TPM_Hash_Data`: more of what is measured.
    pub fn hash_data(&mut self, data: &[u8]) {
        let _ = data;
    }

    /// `_TPM_Hash_End`: the digest goes into PCR 17 (or PCR 0 before `TPM2_Startup`).
    pub fn hash_end(&mut self) {}

    /// Marshalled `TPMT_PUBLIC` of the RSA-2048 endorsement key (TCG EK Credential Profile,
    /// template L-1), derived at manufacture.
    #[must_use]
    pub fn ek_public(&self) -> &[u8] {
        &[]
    }

    /// Makes a new TPM in place of this one: new seeds, everything else gone. For the owner's
    /// tools; nothing a guest can send reaches it.
    ///
    /// # Errors
    /// See [`PowerOnError`]. An interrupted one is finished by the next power-on.
    pub fn re_manufacture(&mut self) -> Result<(), PowerOnError> {
        Ok(())
    }
}
