//! The sessions' part of an answer: new nonces, audits, HMACs (Part 1, 19.6 and 20).

use alloc::vec::Vec;

use super::{Authorization, CpHashes, SessionUse, hashes::rp_hash};
use crate::{
    constants::{rh, sa},
    context::Context,
    crypto::{self, Bytes},
    rc::Result,
    state::{State, session::Session},
    table::{self, Command},
    wire::Put,
};

impl Authorization {
    /// Keeps the authorization values that the answer is made with, of entities that the
    /// command flushes.
    pub fn keep_values(&mut self, state: &State, command: &Command) {
        if command.has(table::FLUSHED) {
            for used in &mut self.sessions {
                used.kept = used.entity.map(|entity| state.auth_value(entity));
            }
        }
    }

    /// After a successful command: rolls nonces, encrypts the first parameter of the answer,
    /// extends audits, and appends the sessions' part of the answer to `out`.
    ///
    /// # Errors
    /// `TPM_RC_FAILURE` when there are no random bytes.
    pub fn answer(
        &self,
        context: &mut Context<'_>,
        command: &Command,
        cp_hashes: &CpHashes,
        reply: &mut Bytes,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        for used in &self.sessions {
            let Some(size) = context
                .state
                .session(used.handle)
                .map(|session| session.nonce.len())
            else {
                continue;
            };
            let nonce = context.random(size)?;
            let (now, epoch) = (context.state.ram.time_ms, context.state.ram.time_epoch);
            if let Some(session) = context.state.session_mut(used.handle) {
                session.nonce = nonce.to_vec();
                if session.is_policy() && used.has(sa::CONTINUE) {
                    // The answer's HMAC still needs to know what the policy asked for.
                    session.policy.start_ms = now;
                    session.policy.epoch = epoch;
                }
            }
        }
        self.encrypt(context, reply)?;
        self.audit(context, command, cp_hashes, reply);
        let mut tail = Vec::new();
        for (index, used) in self.sessions.iter().enumerate() {
            let mut attributes = used.attributes;
            let Some(session) = context.state.session(used.handle) else {
                // A password session, or a session this very command flushed.
                tail.put(&0u16);
                tail.put(
                    &(used.attributes
                        | if used.handle == rh::PW {
                            sa::CONTINUE
                        } else {
                            0
                        }),
                );
                tail.put(&0u16);
                continue;
            };
            if self.audit == Some(index) {
                attributes &= !sa::AUDIT_EXCLUSIVE;
                if context.state.ram.exclusive == Some(used.handle) {
                    attributes |= sa::AUDIT_EXCLUSIVE;
                }
            }
            tail.sized(&session.nonce);
            tail.put(&attributes);
            tail.sized(&response_hmac(
                context, command, used, session, attributes, reply,
            ));
        }
        // An audit session is not bound any more (Part 1, 19.6.11), from its next use on.
        let audit = self.audit.and_then(|index| self.sessions.get(index));
        if let Some(session) = audit.and_then(|used| context.state.session_mut(used.handle)) {
            session.bound = Bytes::default();
        }
        for used in &self.sessions {
            let (now, epoch) = (context.state.ram.time_ms, context.state.ram.time_epoch);
            if !used.has(sa::CONTINUE) && used.handle != rh::PW {
                context.state.flush_session(used.handle);
            } else if let Some(session) = context.state.session_mut(used.handle)
                && session.is_policy()
            {
                session.restart_policy(now, epoch);
            }
        }
        out.put(&(reply.len() as u32));
        out.raw(reply);
        out.raw(&tail);
        Ok(())
    }

    /// The audit of a command that came without sessions.
    pub fn audit_unauthorized(
        &self,
        context: &mut Context<'_>,
        command: &Command,
        cp_hashes: &CpHashes,
        reply: &[u8],
    ) {
        self.audit(context, command, cp_hashes, reply);
    }

    fn audit(
        &self,
        context: &mut Context<'_>,
        command: &Command,
        cp_hashes: &CpHashes,
        reply: &[u8],
    ) {
        // A command that chooses another hash begins a new digest, and is not in it.
        let hash = cp_hashes.command_audit;
        if let Some(hash) = hash.filter(|hash| *hash == context.state.settings.audit_alg) {
            let state = &mut *context.state;
            if state.reset.audit_digest.is_empty() {
                let settings = state.settings_mut();
                settings.audit_counter = settings.audit_counter.wrapping_add(1);
            }
            let mut old = state.reset.audit_digest.clone();
            if old.len() != hash.size() {
                old = alloc::vec![0; hash.size()];
            }
            let cp = cp_hashes.of(hash);
            let rp = rp_hash(command.code, reply, hash);
            state.reset_mut().audit_digest = crypto::hash(hash, &[&old, cp, &rp]);
            state.ram.keeps_shutdown = false;
        }
        let Some(used) = self.audit.and_then(|index| self.sessions.get(index)) else {
            context.state.ram.exclusive = None;
            return;
        };
        let mut exclusive = None;
        if let Some(session) = context.state.session_mut(used.handle) {
            if !session.audit || used.has(sa::AUDIT_RESET) {
                session.audit = true;
                session.digest = alloc::vec![0; session.hash.size()];
                exclusive = Some(used.handle);
            }
            let cp = cp_hashes.of(session.hash);
            let rp = rp_hash(command.code, reply, session.hash);
            session.digest = crypto::hash(session.hash, &[&session.digest, cp, &rp]);
        }
        let keeps = context.state.ram.exclusive == Some(used.handle);
        context.state.ram.exclusive = exclusive.or(keeps.then_some(used.handle));
    }
}

fn response_hmac(
    context: &Context<'_>,
    command: &Command,
    used: &SessionUse,
    session: &Session,
    attributes: u8,
    reply: &[u8],
) -> Vec<u8> {
    if session.is_policy() && session.policy.password {
        return Vec::new();
    }
    let value = if used.includes_value {
        used.value(context.state)
    } else {
        Bytes::default()
    };
    let key = crypto::concat(&[&session.key, &value]);
    if key.is_empty() && used.hmac.is_empty() {
        return Vec::new();
    }
    let rp = rp_hash(command.code, reply, session.hash);
    crypto::hmac(
        session.hash,
        &key,
        &[&rp, &session.nonce, &used.nonce, &[attributes]],
    )
}
