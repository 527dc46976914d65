//! Authorization of a command: sessions, passwords, HMACs, policies, and parameter
//! encryption (Part 1, 19; Part 3, 5).
//!
//! Always true: a secret is compared in constant time, and a failure about an entity with
//! dictionary attack protection is counted, durably, before it is answered.

mod answer;
mod check;
mod encryption;
mod hashes;

use alloc::vec::Vec;

pub use self::{
    check::bound_entity,
    hashes::{CpHashes, cp_hash, names},
};
use crate::{
    constants::{limit, rh, sa},
    crypto::Bytes,
    da,
    rc::{Numbered, Rc, Result, ensure},
    state::{
        Shutdown, State,
        session::{self, Session},
    },
    table::{self, Command, Role},
    wire::{Reader, algorithms::SymDef},
};

/// One session in the authorization area of a command.
pub struct SessionUse {
    /// Session handle, or `TPM_RS_PW`.
    pub handle: u32,
    /// `TPMA_SESSION`
    pub attributes: u8,
    /// Nonce of the caller.
    pub nonce: Vec<u8>,
    /// HMAC or password.
    pub hmac: Bytes,
    /// The entity it authorizes.
    pub entity: Option<u32>,
    /// The entity's authorization value is part of the HMAC key, in the command and hence in the
    /// answer, even when the command ends what bound the session to the entity.
    includes_value: bool,
    /// Authorization value of an entity that is gone when the command is over.
    kept: Option<Bytes>,
}

impl SessionUse {
    /// The authorization value of the entity it authorizes, empty when it does not.
    fn value(&self, state: &State) -> Bytes {
        match (&self.kept, self.entity) {
            (Some(kept), _) => kept.clone(),
            (None, Some(entity)) => state.auth_value(entity),
            (None, None) => Bytes::default(),
        }
    }

    fn has(&self, attribute: u8) -> bool {
        self.attributes & attribute != 0
    }
}

/// What remains of a failed authorization, or of a successful one of a failed command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trace {
    /// A failure is counted.
    Failure,
    /// lockoutAuth failed.
    LockoutFailure,
    /// A protected entity is used for the first time since startup.
    DaUsed,
    /// A PIN index took a right (`true`) or wrong password.
    Pin(u32, bool),
}

impl Trace {
    /// Leaves the trace in `state`.
    pub fn apply(self, state: &mut State) {
        match self {
            Self::Failure => da::count_failure(state),
            Self::LockoutFailure => da::lock_lockout(state),
            Self::DaUsed => state.boots_mut().left = Shutdown::DA_USED,
            Self::Pin(index, right) => crate::nv::count_pin(state, index, right),
        }
    }
}

/// The sessions of a command and what was learned about them.
#[derive(Default)]
pub struct Authorization {
    /// The sessions, in order.
    pub sessions: Vec<SessionUse>,
    /// What stays even if the command fails.
    pub traces: Vec<Trace>,
    decrypt: Option<usize>,
    encrypt: Option<usize>,
    audit: Option<usize>,
}

fn number(index: usize) -> u32 {
    index as u32 + 1
}

impl Authorization {
    /// Reads the authorization area and checks its attributes.
    ///
    /// # Errors
    /// As Part 3, 5.5.
    pub fn parse(area: &[u8], command: &Command, handles: &[u32], state: &State) -> Result<Self> {
        let mut this = Self::default();
        let mut reader = Reader::new(area);
        while !reader.left().is_empty() {
            let index = this.sessions.len();
            if index == limit::SESSIONS {
                return Err(Rc::SIZE.session(number(index)));
            }
            let session = this
                .parse_one(&mut reader, command, state)
                .s(number(index))?;
            this.sessions.push(session);
        }
        for (index, ((_, role), handle)) in command.handles.iter().zip(handles).enumerate() {
            if *role != Role::None {
                this.sessions.get_mut(index).ok_or(Rc::AUTH_MISSING)?.entity = Some(*handle);
            }
        }
        Ok(this)
    }

    fn parse_one(
        &mut self,
        reader: &mut Reader<'_>,
        command: &Command,
        state: &State,
    ) -> Result<SessionUse> {
        let index = self.sessions.len();
        let handle = reader.u32()?;
        ensure(handle == rh::PW || session::is_session(handle), Rc::VALUE)?;
        let nonce = reader.sized_vec(limit::DIGEST)?;
        let attributes = reader.u8()?;
        ensure(attributes & sa::RESERVED == 0, Rc::RESERVED_BITS)?;
        let hmac = reader.sized_secret(limit::DIGEST)?;
        let this = SessionUse {
            handle,
            attributes,
            nonce,
            hmac,
            entity: None,
            includes_value: false,
            kept: None,
        };
        if handle == rh::PW {
            ensure(attributes & !sa::CONTINUE == 0, Rc::ATTRIBUTES)?;
            ensure(this.nonce.is_empty(), Rc::NONCE)?;
            return Ok(this);
        }
        let loaded = state.ram.sessions.contains_key(&session::number(handle));
        ensure(loaded, Rc(Rc::REFERENCE_S0.0 + index as u32))?;
        let session = state.session(handle).ok_or(Rc::HANDLE)?;
        ensure(
            self.sessions.iter().all(|other| other.handle != handle),
            Rc::HANDLE,
        )?;
        if this.has(sa::DECRYPT) {
            ensure(
                command.has(table::DECRYPT) && self.decrypt.is_none(),
                Rc::ATTRIBUTES,
            )?;
            ensure(session.symmetric != SymDef::Null, Rc::SYMMETRIC)?;
            self.decrypt = Some(index);
        }
        if this.has(sa::ENCRYPT) {
            ensure(
                command.has(table::ENCRYPT) && self.encrypt.is_none(),
                Rc::ATTRIBUTES,
            )?;
            ensure(session.symmetric != SymDef::Null, Rc::SYMMETRIC)?;
            self.encrypt = Some(index);
        }
        if this.has(sa::AUDIT) {
            ensure(!session.is_policy() && self.audit.is_none(), Rc::ATTRIBUTES)?;
            if this.has(sa::AUDIT_EXCLUSIVE) && session.audit && !this.has(sa::AUDIT_RESET) {
                ensure(state.ram.exclusive == Some(handle), Rc::EXCLUSIVE)?;
            }
            self.audit = Some(index);
        }
        Ok(this)
    }

    fn pair<'a>(&'a self, state: &'a State, index: usize) -> Option<(&'a SessionUse, &'a Session)> {
        let used = self.sessions.get(index)?;
        Some((used, state.session(used.handle)?))
    }
}
