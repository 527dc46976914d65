//! Authorization of a command: sessions, passwords, HMACs, policies, and parameter
//! encryption (Part 1, 19; Part 3, 5).
//!
//! Always true: a secret is compared in constant time, and a failure about an entity with
//! dictionary attack protection is counted, durably, before it is answered.

use alloc::vec::Vec;

use crate::{
    constants::{limit, nva, rh, sa},
    context::Context,
    crypto::{self, Bytes, HashAlg, ct_eq},
    da, policy,
    rc::{Numbered, Rc, Result, ensure},
    state::{
        Shutdown, State,
        session::{self, Session},
    },
    table::{self, Command, Role},
    wire::{Put, Reader, algorithms::SymDef, without_trailing_zeros},
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
        let include = session.is_some()
            && policy.map_or(uses_auth, |policy| {
                policy.policy.auth_value && !policy.policy.password
            });
        if let Some(used) = self.sessions.get_mut(index) {
            used.includes_value = include;
        }
        let outcome = match session {
            Some(session) if !policy.is_some_and(|policy| policy.policy.password) => {
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
            _ => {
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

    /// Keeps the authorization values that the answer is made with, of entities that the
    /// command flushes.
    pub fn keep_values(&mut self, state: &State, command: &Command) {
        if command.has(table::FLUSHED) {
            for used in &mut self.sessions {
                used.kept = used.entity.map(|entity| state.auth_value(entity));
            }
        }
    }

    /// Decrypts the first parameter, in place.
    ///
    /// # Errors
    /// `TPM_RC_SIZE` or `TPM_RC_INSUFFICIENT` about the session when it is no `TPM2B` inside the
    /// parameters.
    pub fn decrypt(&self, context: &Context<'_>, params: &mut [u8]) -> Result<()> {
        let Some(index) = self.decrypt else {
            return Ok(());
        };
        let Some((used, session)) = self.pair(context.state, index) else {
            return Err(Rc::FAILURE);
        };
        let data = first_sized(params).s(number(index))?;
        let key = encryption_key(context.state, used, session);
        crypt(
            context,
            session,
            &key,
            &used.nonce,
            &session.nonce,
            false,
            data,
        )
    }

    fn pair<'a>(&'a self, state: &'a State, index: usize) -> Option<(&'a SessionUse, &'a Session)> {
        let used = self.sessions.get(index)?;
        Some((used, state.session(used.handle)?))
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
        if let Some(index) = self.encrypt
            && let Some((used, session)) = self.pair(context.state, index)
        {
            let key = encryption_key(context.state, used, session);
            let data = first_sized(reply)?;
            crypt(
                context,
                session,
                &key,
                &session.nonce,
                &used.nonce,
                true,
                data,
            )?;
        }
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

/// Command parameter hashes, computed while the names of the handles are still known.
#[derive(Default)]
pub struct CpHashes {
    hashes: Vec<(HashAlg, Vec<u8>)>,
    command_audit: Option<HashAlg>,
}

impl CpHashes {
    /// All hashes that the answer to this command may need.
    #[must_use]
    pub fn new(
        context: &Context<'_>,
        command: &Command,
        sessions: &[SessionUse],
        params: &[u8],
    ) -> Self {
        let mut this = Self::default();
        let settings = &context.state.settings;
        if settings.audited.0.contains(&command.code) {
            this.command_audit = Some(settings.audit_alg);
        }
        let audits = sessions
            .iter()
            .filter(|used| used.has(sa::AUDIT))
            .filter_map(|used| context.state.session(used.handle))
            .map(|session| session.hash);
        for hash in audits.chain(this.command_audit) {
            this.hashes
                .push((hash, cp_hash(context, command.code, params, hash)));
        }
        this
    }

    fn of(&self, hash: HashAlg) -> &[u8] {
        self.hashes
            .iter()
            .find(|(known, _)| *known == hash)
            .map_or(&[], |(_, digest)| digest)
    }
}

fn needs_presence(state: &State, command: &Command) -> bool {
    command.has(table::PP_REQUIRED) || state.needs_presence(command.code)
}

/// cpHash: command code, names of the handles, parameters as sent (Part 1, 18.7).
#[must_use]
pub fn cp_hash(context: &Context<'_>, code: u32, params: &[u8], hash: HashAlg) -> Vec<u8> {
    let names = names(context, code);
    crypto::hash(hash, &[&code.to_be_bytes(), &names, params])
}

/// The names of all handles of the command, one after the other.
#[must_use]
pub fn names(context: &Context<'_>, code: u32) -> Vec<u8> {
    let count = table::find(code).map_or(0, |command| command.handles.len());
    context
        .handles
        .iter()
        .take(count)
        .flat_map(|handle| context.state.name(*handle))
        .collect()
}

fn rp_hash(code: u32, reply: &[u8], hash: HashAlg) -> Vec<u8> {
    crypto::hash(hash, &[&0u32.to_be_bytes(), &code.to_be_bytes(), reply])
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

fn encryption_key(state: &State, used: &SessionUse, session: &Session) -> Bytes {
    crypto::concat(&[&session.key, &used.value(state)])
}

/// The contents of the `TPM2B` at the start of `bytes`.
fn first_sized(bytes: &mut [u8]) -> Result<&mut [u8]> {
    let size = usize::from(Reader::new(bytes).u16()?);
    bytes
        .get_mut(2..)
        .and_then(|rest| rest.get_mut(..size))
        .ok_or(Rc::SIZE)
}

fn crypt(
    context: &Context<'_>,
    session: &Session,
    key: &[u8],
    newer: &[u8],
    older: &[u8],
    encrypt: bool,
    data: &mut [u8],
) -> Result<()> {
    match session.symmetric {
        SymDef::Null => Err(Rc::SYMMETRIC),
        SymDef::Aes { bits, .. } => {
            let derived = crypto::kdfa(
                session.hash,
                key,
                "CFB",
                newer,
                older,
                u32::from(bits) + 128,
            );
            let (key, iv) = derived
                .split_at_checked(usize::from(bits / 8))
                .ok_or(Rc::FAILURE)?;
            let mut iv = Bytes::new(iv.to_vec());
            context
                .crypto
                .aes(key, crypto::CipherMode::Cfb, encrypt, &mut iv, data)
                .map_err(|_| Rc::FAILURE)
        }
        SymDef::Xor(_) => {
            // With the hash of the session, whatever the definition names (Part 1, 21.2).
            xor(session.hash, key, newer, older, data);
            Ok(())
        }
    }
}

/// XOR obfuscation (Part 1, 11.4.5.3).
pub fn xor(hash: HashAlg, key: &[u8], u: &[u8], v: &[u8], data: &mut [u8]) {
    let mask = crypto::kdfa(hash, key, "XOR", u, v, data.len() as u32 * 8);
    data.iter_mut()
        .zip(mask.iter())
        .for_each(|(byte, mask)| *byte ^= mask);
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
