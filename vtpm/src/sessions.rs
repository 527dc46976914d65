//! The session store: handles, loading and saving, the context gap (Part 1, 30.4).
//!
//! Always true: a session handle is free, or its session is in RAM, or it is saved under
//! exactly one number; a saved session can be loaded once. Sessions in RAM leave no trace in
//! what a shutdown saves.

use alloc::sync::Arc;

use crate::{
    constants::limit,
    rc::{Rc, Result, ensure},
    state::{
        State,
        session::{self, Session},
    },
};

/// No context is saved.
const NONE: u64 = 0;
/// The first number of a saved context.
const FIRST: u64 = 4;

impl State {
    /// Sets which context of a session is saved.
    fn set_saved(&mut self, number: u32, sequence: u64) {
        let slots = &mut self.reset_mut().session_slots.0;
        slots.resize(limit::ACTIVE_SESSIONS, NONE);
        if let Some(slot) = slots.get_mut(number as usize) {
            *slot = sequence;
        }
    }

    /// The number under which a session is saved.
    fn saved(&self, number: u32) -> Option<u64> {
        let slot = self.reset.session_slots.0.get(number as usize).copied();
        slot.filter(|slot| *slot >= FIRST)
    }

    /// Sessions in RAM or saved.
    #[must_use]
    pub fn active_sessions(&self) -> usize {
        self.ram.sessions.len() + self.saved_sessions().count()
    }

    /// Numbers of the saved sessions.
    pub fn saved_sessions(&self) -> impl Iterator<Item = u32> {
        (0..limit::ACTIVE_SESSIONS as u32).filter(|number| self.saved(*number).is_some())
    }

    fn check_gap(&self) -> Result<()> {
        let saved = self
            .saved_sessions()
            .filter_map(|number| self.saved(number));
        let oldest = saved.min();
        let gap = oldest.map_or(0, |oldest| {
            let next = self.reset.session_counter.saturating_add(FIRST);
            next.saturating_sub(oldest)
        });
        ensure(gap < limit::CONTEXT_GAP, Rc::CONTEXT_GAP)
    }

    /// A free session number.
    ///
    /// # Errors
    /// `TPM_RC_SESSION_MEMORY`, `TPM_RC_CONTEXT_GAP`, `TPM_RC_SESSION_HANDLES`
    pub fn free_session(&self) -> Result<u32> {
        ensure(
            self.ram.sessions.len() < limit::LOADED_SESSIONS,
            Rc::SESSION_MEMORY,
        )?;
        self.check_gap()?;
        let free =
            |number: &u32| !self.ram.sessions.contains_key(number) && self.saved(*number).is_none();
        (0..limit::ACTIVE_SESSIONS as u32)
            .find(free)
            .ok_or(Rc::SESSION_HANDLES)
    }

    /// Adds a session whose number [`Self::free_session`] gave.
    pub fn add_session(&mut self, session: Session) {
        self.ram
            .sessions
            .insert(session.number(), Arc::new(session));
    }

    /// Ends a session, loaded or saved. Returns whether there was one.
    pub fn flush_session(&mut self, handle: u32) -> bool {
        let number = session::number(handle);
        let loaded = self.ram.sessions.remove(&number).is_some();
        let saved = self.saved(number).is_some();
        if saved {
            self.set_saved(number, NONE);
        }
        if (self.ram.exclusive).is_some_and(|other| session::number(other) == number) {
            self.ram.exclusive = None;
        }
        loaded || saved
    }

    /// Takes a session out of RAM; returns the number of its context.
    ///
    /// # Errors
    /// `TPM_RC_CONTEXT_GAP`, `TPM_RC_TOO_MANY_CONTEXTS`
    pub fn save_session(&mut self, handle: u32) -> Result<(u64, Session)> {
        self.check_gap()?;
        let session = self.session(handle).cloned().ok_or(Rc::REFERENCE_H0)?;
        let reset = self.reset_mut();
        let sequence = reset
            .session_counter
            .checked_add(FIRST)
            .ok_or(Rc::TOO_MANY_CONTEXTS)?;
        reset.session_counter += 1;
        let number = session.number();
        self.set_saved(number, sequence);
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
        ensure(
            self.saved(number) == Some(sequence),
            Rc::HANDLE.parameter(1),
        )?;
        ensure(
            self.ram.sessions.len() < limit::LOADED_SESSIONS,
            Rc::SESSION_MEMORY,
        )?;
        self.set_saved(number, NONE);
        self.add_session(session);
        Ok(())
    }
}
