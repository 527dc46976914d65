//! The session store: handles, loading and saving, the context gap (Part 1, 30.4).
//!
//! Always true: a session handle is free, or its session is in RAM, or it is saved under
//! exactly one number; a saved session can be loaded once.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    constants::limit,
    rc::{Rc, Result, ensure},
    state::{
        State,
        session::{self, Session},
    },
};

const FREE: u64 = 0;
const LOADED: u64 = 1;
/// The first number of a saved context.
const FIRST: u64 = 4;

impl State {
    fn session_slots(&mut self) -> &mut Vec<u64> {
        let slots = &mut self.reset_mut().session_slots.0;
        slots.resize(limit::ACTIVE_SESSIONS, FREE);
        slots
    }

    /// Sessions in RAM or saved.
    #[must_use]
    pub fn active_sessions(&self) -> usize {
        self.reset
            .session_slots
            .0
            .iter()
            .filter(|slot| **slot != FREE)
            .count()
    }

    /// Numbers of the saved sessions.
    pub fn saved_sessions(&self) -> impl Iterator<Item = u32> {
        (0u32..)
            .zip(&self.reset.session_slots.0)
            .filter(|(_, slot)| **slot > LOADED)
            .map(|(n, _)| n)
    }

    fn check_gap(&self) -> Result<()> {
        let oldest = self
            .reset
            .session_slots
            .0
            .iter()
            .filter(|slot| **slot > LOADED)
            .min();
        let gap = oldest.map_or(0, |oldest| {
            (self.reset.session_counter + FIRST).saturating_sub(*oldest)
        });
        ensure(gap < limit::CONTEXT_GAP, Rc::CONTEXT_GAP)
    }

    /// A free session number.
    ///
    /// # Errors
    /// `TPM_RC_SESSION_MEMORY`, `TPM_RC_CONTEXT_GAP`, `TPM_RC_SESSION_HANDLES`
    pub fn free_session(&mut self) -> Result<u32> {
        ensure(
            self.ram.sessions.len() < limit::LOADED_SESSIONS,
            Rc::SESSION_MEMORY,
        )?;
        self.check_gap()?;
        let free = self.session_slots().iter().position(|slot| *slot == FREE);
        free.map(|n| n as u32).ok_or(Rc::SESSION_HANDLES)
    }

    /// Adds a session whose number [`Self::free_session`] gave.
    pub fn add_session(&mut self, session: Session) {
        let number = session.number();
        if let Some(slot) = self.session_slots().get_mut(number as usize) {
            *slot = LOADED;
        }
        self.ram.sessions.insert(number, Arc::new(session));
    }

    /// Ends a session, loaded or saved. Returns whether there was one.
    pub fn flush_session(&mut self, handle: u32) -> bool {
        let number = session::number(handle);
        let slot = self.reset.session_slots.0.get(number as usize);
        let known = slot.is_some_and(|slot| *slot != FREE);
        if known {
            self.ram.sessions.remove(&number);
            if let Some(slot) = self.session_slots().get_mut(number as usize) {
                *slot = FREE;
            }
            if self
                .ram
                .exclusive
                .is_some_and(|other| session::number(other) == number)
            {
                self.ram.exclusive = None;
            }
        }
        known
    }

    /// Takes a session out of RAM; returns the number of its context.
    ///
    /// # Errors
    /// `TPM_RC_CONTEXT_GAP`, `TPM_RC_TOO_MANY_CONTEXTS`
    pub fn save_session(&mut self, handle: u32) -> Result<(u64, Session)> {
        self.check_gap()?;
        let session = self.session(handle).cloned().ok_or(Rc::REFERENCE_H0)?;
        let reset = self.reset_mut();
        let sequence = reset.session_counter + FIRST;
        reset.session_counter = reset
            .session_counter
            .checked_add(1)
            .ok_or(Rc::TOO_MANY_CONTEXTS)?;
        let number = session.number();
        if let Some(slot) = self.session_slots().get_mut(number as usize) {
            *slot = sequence;
        }
        self.ram.sessions.remove(&number);
        Ok((sequence, session))
    }

    /// Puts a saved session back into RAM.
    ///
    /// # Errors
    /// `TPM_RC_HANDLE` when this context is not the newest one of the session;
    /// `TPM_RC_SESSION_MEMORY`.
    pub fn load_session(&mut self, sequence: u64, session: Session) -> Result<()> {
        let number = session.number();
        let saved = self.reset.session_slots.0.get(number as usize).copied();
        ensure(
            saved == Some(sequence) && sequence >= FIRST,
            Rc::HANDLE.parameter(1),
        )?;
        ensure(
            self.ram.sessions.len() < limit::LOADED_SESSIONS,
            Rc::SESSION_MEMORY,
        )?;
        self.add_session(session);
        Ok(())
    }
}
