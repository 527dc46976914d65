//! The TPM as its host sees it: power, commands, the locality-4 interface.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    clock,
    crypto::Crypto,
    da, dispatch,
    environment::Environment,
    manufacture,
    rc::Rc,
    records::{self, Loaded},
    state::{Ram, Shutdown, State, object::EventState},
    storage::{Storage, StorageError},
    table,
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
    /// There was a TPM, or what is left of one, and its owner asked for another in its
    /// place.
    Replaced,
}

/// What becomes of a TPM whose records are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is used.
    Keep,
    /// It gives way to a new one: all that hangs on it is lost. For its owner only.
    Replace,
}

/// Why a TPM could not be powered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PowerOnError {
    /// Storage failed.
    #[error("TPM state: {0}")]
    Storage(#[from] StorageError),
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
    state: Box<State>,
    environment: Box<dyn Environment + Send>,
    storage: Box<dyn Storage + Send>,
    crypto: &'static (dyn Crypto + Sync),
    now_ms: u64,
    measuring: Option<EventState>,
    /// A commit failed, and nobody has made sure yet that it had no effect.
    unsettled: bool,
}

fn fresh_ram(environment: &mut dyn Environment) -> Result<Ram, PowerOnError> {
    let mut epoch = [0; 4];
    environment.random(&mut epoch)?;
    Ok(Ram {
        clock_rate: clock::RATE,
        time_epoch: u32::from_be_bytes(epoch),
        platform_enabled: true,
        ..Ram::default()
    })
}

fn storage_rc(error: StorageError) -> Rc {
    match error {
        StorageError::Busy => Rc::NV_RATE,
        StorageError::Unavailable => Rc::NV_UNAVAILABLE,
        StorageError::Full => Rc::NV_SPACE,
    }
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
        Self::power_on_with(Existing::Keep, environment, storage, crypto)
    }

    /// The same, with the owner's word on what becomes of a TPM that is there; nothing a
    /// guest can send says it. Replacing needs no record that parses.
    ///
    /// # Errors
    /// As [`Self::power_on`]. A manufacture that was interrupted is finished by the next
    /// power-on.
    pub fn power_on_with(
        existing: Existing,
        mut environment: Box<dyn Environment + Send>,
        mut storage: Box<dyn Storage + Send>,
        crypto: &'static (dyn Crypto + Sync),
    ) -> Result<(Self, Origin), PowerOnError> {
        let records = storage.load()?;
        let (kept, origin) = if existing == Existing::Replace && !records.is_empty() {
            (None, Origin::Replaced)
        } else {
            match records::load(records)? {
                Loaded::State(state) => (Some(state), Origin::Loaded),
                Loaded::Nothing => (None, Origin::Manufactured),
                Loaded::Interrupted => (None, Origin::ManufacturedAgain),
            }
        };
        let mut state = match kept {
            Some(state) => state,
            None => manufacture::run(&mut *environment, &mut *storage, crypto)?,
        };
        state.ram = fresh_ram(&mut *environment)?;
        let now_ms = environment.now_ms();
        Ok((
            Self {
                state,
                environment,
                storage,
                crypto,
                now_ms,
                measuring: None,
                unsettled: false,
            },
            origin,
        ))
    }

    /// Power lost and back (`_TPM_Init`): all that is not persistent is gone; a
    /// `TPM2_Startup` must follow.
    ///
    /// # Errors
    /// When the records cannot be read back; the TPM then still has the state it had.
    pub fn power_cycle(&mut self) -> Result<(), PowerOnError> {
        let Loaded::State(mut state) = records::load(self.storage.load()?)? else {
            return Err(PowerOnError::Damaged(records::id::MARKER));
        };
        state.ram = fresh_ram(&mut *self.environment)?;
        self.state = state;
        self.now_ms = self.environment.now_ms();
        self.measuring = None;
        self.unsettled = false;
        Ok(())
    }

    /// Runs one command at `locality` and replaces `response` with its answer, which is
    /// always a whole response of 10 to 4096 bytes.
    pub fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) {
        response.clear();
        self.tick();
        if let Err(rc) = self.settle_before(command) {
            return dispatch::error(rc, response);
        }
        let mut next = self.state.clone();
        da::heal(&mut next);
        let outcome = dispatch::run(
            &mut next,
            &mut *self.environment,
            self.crypto,
            locality,
            command,
            response,
        );
        let result = match outcome {
            Ok(()) => self.commit(next),
            Err(failed) => self.keep_traces(&failed).and(Err(failed.rc)),
        };
        if let Err(rc) = result {
            dispatch::error(rc, response);
        }
    }

    /// Lets the time pass that has passed. A clock that needs to be written and cannot be stands
    /// still, and the command goes on.
    fn tick(&mut self) {
        let now_ms = self.environment.now_ms();
        let elapsed_ms = now_ms.saturating_sub(self.now_ms);
        self.now_ms = now_ms;
        let (before, safe) = (self.state.orderly.clock, self.state.orderly.clock_safe);
        if clock::advance(&mut self.state, elapsed_ms) && self.commit(self.state.clone()).is_err() {
            clock::hold(&mut self.state, before, safe);
        }
    }

    /// Undoes what an earlier commit may have left, before a command that would be told
    /// "done" without a commit of its own, because nothing changes as far as memory knows.
    fn settle_before(&mut self, command: &[u8]) -> Result<(), Rc> {
        let writes = || {
            let code = command.get(6..10)?.try_into().ok()?;
            Some(table::find(u32::from_be_bytes(code))?.has(table::NV))
        };
        if self.unsettled && writes() == Some(true) {
            self.storage.settle().map_err(storage_rc)?;
            self.unsettled = false;
        }
        Ok(())
    }

    fn keep_traces(&mut self, failed: &dispatch::Failed) -> Result<(), Rc> {
        if failed.traces.is_empty() {
            return Ok(());
        }
        let mut next = self.state.clone();
        da::heal(&mut next);
        for trace in &failed.traces {
            trace.apply(&mut next);
        }
        self.commit(next)
    }

    /// Makes `next` the state once its changed records are durable.
    fn commit(&mut self, mut next: Box<State>) -> Result<(), Rc> {
        if self.state.ram.started
            && Shutdown::is_orderly(self.state.boots.left)
            && next.boots.left == self.state.boots.left
            && !next.ram.keeps_shutdown
            && (next.ram.outdates_shutdown || next.outdates_shutdown(&self.state))
        {
            next.boots_mut().left = Shutdown::NONE;
        }
        let changes = records::changes(&self.state, &next);
        if !changes.is_empty() {
            // A commit that succeeds settles those before it.
            let committed = self.storage.commit(&changes);
            self.unsettled = committed.is_err();
            committed.map_err(storage_rc)?;
        }
        next.ram.write_orderly = false;
        next.ram.write_saved = false;
        next.ram.keeps_shutdown = false;
        next.ram.outdates_shutdown = false;
        next.ram.reserved = 0;
        self.state = next;
        Ok(())
    }

    /// The TPM_ESTABLISHED flag of the PC client interface: a dynamic launch was measured.
    #[must_use]
    pub fn established(&self) -> bool {
        self.state.ram.established
    }

    /// Clears the TPM_ESTABLISHED flag; only localities 3 and 4 may.
    ///
    /// # Errors
    /// `TPM_RC_LOCALITY` from any other locality.
    pub fn reset_established(&mut self, locality: u8) -> Result<(), Rc> {
        if !matches!(locality, 3 | 4) {
            return Err(Rc::LOCALITY);
        }
        self.state.ram.established = false;
        Ok(())
    }

    /// `_TPM_Hash_Start`: a dynamic root of trust begins to measure. It takes a transient slot,
    /// if need be that of the first object.
    pub fn hash_start(&mut self) {
        if self.state.need_slot().is_err() {
            self.state.ram.objects[0] = None;
        }
        self.measuring = Some(EventState::new());
    }

    /// `_TPM_Hash_Data`: more of what is measured; ignored outside of a measurement.
    pub fn hash_data(&mut self, data: &[u8]) {
        if let Some(event) = &mut self.measuring {
            event.update(data);
        }
    }

    /// `_TPM_Hash_End`: the digest goes into PCR 17, or PCR 0 before `TPM2_Startup`.
    pub fn hash_end(&mut self) {
        if let Some(event) = self.measuring.take() {
            self.state.ram.established = true;
            self.state.finish_drtm(&event.finish());
        }
    }

    /// Marshalled `TPMT_PUBLIC` of the RSA-2048 endorsement key (TCG EK Credential Profile,
    /// template L-1) of the present endorsement seed.
    #[must_use]
    pub fn ek_public(&self) -> &[u8] {
        &self.state.ek_public
    }
}
