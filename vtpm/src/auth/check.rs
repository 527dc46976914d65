//! Whether the sessions of a command authorize it (Part 1, 19; Part 3, 5.6).

use alloc::vec::Vec;

use super::{Authorization, Trace, cp_hash, number};
use crate::{
    constants::{nva, rh, sa},
    context::Context,
    crypto::{self, Bytes, HashAlg, ct_eq},
    da, policy,
    rc::{Numbered, Rc, Result, ensure},
    state::{Shutdown, State, session::Session},
    table::{self, Command, Role},
    wire::without_trailing_zeros,
};

impl Authorization {
    /// Checks every session of the command.
    ///
    /// # Errors
    /// As Part 3, 5.6; [`Self::traces`] says what the failure leaves behind.
    pub fn check(&mut self, context: &Context<'_>, command: &Command, params: &[u8]) -> Result<()> {
        for index in 0..self.sessions.len() {
            self.check_one(index, context, command, params)
                .s(number(index))?;
        }
        Ok(())
    }

    fn check_one(
        &mut self,
        index: usize,
        context: &Context<'_>,
        command: &Command,
        params: &[u8],
    ) -> Result<()> {
        let Some(used) = self.sessions.get(index) else {
            return Err(Rc::FAILURE);
        };
        let state: &State = context.state;
        let session = state.session(used.handle);
        if let Some(session) = session {
            ensure(!session.trial, Rc::ATTRIBUTES)?;
            if session.da_bound {
                // Whatever it authorizes, it is made with a value that may be guessed at.
                self.check_protection(state, session.lockout_bound)?;
            }
        }
        let Some(used) = self.sessions.get(index) else {
            return Err(Rc::FAILURE);
        };
        let Some(entity) = used.entity else {
            let session = session.ok_or(Rc::HANDLE)?;
            ensure(
                used.has(sa::DECRYPT | sa::ENCRYPT | sa::AUDIT),
                Rc::ATTRIBUTES,
            )?;
            let key = session.key.clone();
            return self.check_hmac(index, context, command, params, session, key, None);
        };
        let role = command
            .handles
            .get(index)
            .map_or(Role::None, |(_, role)| *role);
        if entity == rh::PLATFORM && needs_presence(state, command) {
            // Nobody can be physically present at a virtual machine's TPM.
            return Err(Rc::PP);
        }
        let policy = session.filter(|session| session.is_policy());
        let uses_auth = match (session, policy) {
            (_, Some(policy)) => policy.policy.auth_value || policy.policy.password,
            (Some(session), None) => !is_bound_to(state, session, entity),
            (None, None) => true,
        };
        if uses_auth && !state.is_da_exempt(entity) {
            self.check_protection(state, entity == rh::LOCKOUT)?;
        }
        match policy {
            None => {
                ensure(!state.role_needs_policy(entity, role), Rc::AUTH_TYPE)?;
                ensure(
                    state.auth_value_serves(entity, command, role),
                    Rc::AUTH_UNAVAILABLE,
                )?;
            }
            Some(session) => {
                ensure(state.policy_serves(entity, command), Rc::AUTH_UNAVAILABLE)?;
                policy::satisfied(context, command, params, session, entity, role)?;
            }
        }
        let auth = state.auth_value(entity);
        let by_hmac = session.filter(|_| !policy.is_some_and(|policy| policy.policy.password));
        let include =
            by_hmac.is_some() && policy.map_or(uses_auth, |policy| policy.policy.auth_value);
        if let Some(used) = self.sessions.get_mut(index) {
            used.includes_value = include;
        }
        let outcome = match by_hmac {
            Some(session) => {
                let key = crypto::concat(&[&session.key, if include { &auth } else { &[] }]);
                self.check_hmac(
                    index,
                    context,
                    command,
                    params,
                    session,
                    key,
                    include.then_some(entity),
                )
            }
            None => {
                let given = self.sessions.get(index).map_or(&[][..], |used| &used.hmac);
                if ct_eq(without_trailing_zeros(given), &auth) {
                    Ok(())
                } else {
                    self.failed(state, session, Some(entity))
                }
            }
        };
        if uses_auth
            && let Some(nv) = state.nv_index(entity)
            && matches!(nv.public.kind(), nva::NT_PIN_FAIL | nva::NT_PIN_PASS)
        {
            self.traces.push(Trace::Pin(entity, outcome.is_ok()));
        }
        outcome
    }

    /// Refuses while the TPM is locked out, and the first use after a startup.
    fn check_protection(&mut self, state: &State, lockout: bool) -> Result<()> {
        da::check_lockout(state, lockout)?;
        // A failure of lockoutAuth disables it at once, which no power cut hides for long.
        if !lockout && state.boots.left != Shutdown::DA_USED {
            self.traces.push(Trace::DaUsed);
            return Err(Rc::RETRY);
        }
        Ok(())
    }

    /// Compares a session's HMAC; `included` is the entity whose value went into `key`.
    #[allow(clippy::too_many_arguments)]
    fn check_hmac(
        &mut self,
        index: usize,
        context: &Context<'_>,
        command: &Command,
        params: &[u8],
        session: &Session,
        key: Bytes,
        included: Option<u32>,
    ) -> Result<()> {
        let Some(used) = self.sessions.get(index) else {
            return Err(Rc::FAILURE);
        };
        if key.is_empty() && used.hmac.is_empty() {
            // Without any secret an HMAC proves nothing, and may be left out.
            return Ok(());
        }
        let cp_hash = cp_hash(context, command.code, params, session.hash);
        let mut extra = Vec::new();
        if index == 0 {
            let nonce_of = |other: Option<usize>| {
                let other = self.sessions.get(other.filter(|other| *other != 0)?)?;
                Some(context.state.session(other.handle)?.nonce.clone())
            };
            extra.extend(nonce_of(self.decrypt).unwrap_or_default());
            if self.encrypt != self.decrypt {
                extra.extend(nonce_of(self.encrypt).unwrap_or_default());
            }
        }
        let expected = crypto::hmac(
            session.hash,
            &key,
            &[
                &cp_hash,
                &used.nonce,
                &session.nonce,
                &extra,
                &[used.attributes],
            ],
        );
        if ct_eq(&expected, &used.hmac) {
            return Ok(());
        }
        self.failed(context.state, Some(session), included)
    }

    /// Which code a wrong value earns, and whether it is counted.
    fn failed(
        &mut self,
        state: &State,
        session: Option<&Session>,
        entity: Option<u32>,
    ) -> Result<()> {
        let lockout_bound = session.is_some_and(|session| session.lockout_bound);
        let da_bound = session.is_some_and(|session| session.da_bound);
        let entity = if lockout_bound {
            Some(rh::LOCKOUT)
        } else {
            entity
        };
        if !da_bound && entity.is_none_or(|entity| state.is_da_exempt(entity)) {
            return Err(Rc::BAD_AUTH);
        }
        let lockout = entity == Some(rh::LOCKOUT);
        self.traces.push(if lockout {
            Trace::LockoutFailure
        } else {
            Trace::Failure
        });
        Err(Rc::AUTH_FAIL)
    }
}

fn needs_presence(state: &State, command: &Command) -> bool {
    command.has(table::PP_REQUIRED) || state.needs_presence(command.code)
}

/// What identifies the entity a session is bound to: a digest of its name and authorization
/// value, so that the binding ends when the value changes.
#[must_use]
pub fn bound_entity(state: &State, entity: u32) -> Bytes {
    let parts: &[&[u8]] = &[&state.name(entity), &[0], &state.auth_value(entity)];
    Bytes::new(crypto::hash(HashAlg::Sha256, parts))
}

fn is_bound_to(state: &State, session: &Session, entity: u32) -> bool {
    !session.bound.is_empty() && ct_eq(&session.bound, &bound_entity(state, entity))
}
