//! Follows what commands did.

use super::{
    Generator,
    model::{LOCKOUT, SessionKind},
    session::flush,
};
use crate::{
    authorize::{AUDIT, Acknowledged, Auth, CONTINUE},
    random::Random,
    step::{ENGINE, Pair, Step},
};

impl Generator {
    /// New nonces of the sessions that were used, and the end of some.
    pub fn roll(&mut self, step: &Step, answers: Pair<&[Acknowledged]>) {
        for (number, auth) in step.auths.iter().enumerate() {
            let Some(used) = auth.session() else {
                continue;
            };
            let Some(session) = self
                .sessions
                .iter_mut()
                .find(|session| session.handle == used.handle)
            else {
                continue;
            };
            for (side, answers) in answers.iter().enumerate() {
                if let Some(answer) = answers.get(number) {
                    session.nonce[side].clone_from(&answer.nonce);
                }
            }
            if used.attributes & AUDIT != 0 {
                session.bound = None;
            }
            if session.kind != SessionKind::Hmac {
                session.needs_value = false;
                session.needs_password = false;
                session.differs = false;
            }
            let goes_on = answers[ENGINE]
                .get(number)
                .is_some_and(|answer| answer.attributes & CONTINUE != 0);
            if !goes_on {
                self.sessions
                    .retain(|session| session.handle != used.handle);
            }
        }
    }

    /// A command succeeded with something in it that was not planned: what its sessions hold
    /// is not known.
    pub fn altered(&mut self, step: &Step) {
        for session in &mut self.sessions {
            session.differs |= step
                .handles
                .iter()
                .any(|handle| handle.handle == session.handle);
        }
    }

    /// A handle means nothing any more.
    pub(super) fn forget(&mut self, handle: Pair<u32>) {
        self.objects.retain(|object| object.handle.handle != handle);
        self.sequences.retain(|sequence| sequence.handle != handle);
        self.sessions.retain(|session| session.handle != handle);
        self.indices.retain(|index| index.index != handle[ENGINE]);
    }

    /// Something new has this handle; what had it is gone, for a dynamic launch, say.
    pub fn replaced(&mut self, handle: Pair<u32>) {
        if handle[ENGINE] >> 24 == 0x80 {
            self.forget(handle);
        }
    }

    /// What both TPMs refused for the same reason may show that this model is out of date.
    pub fn failed(&mut self, step: &Step, code: u32) {
        if step.code == 0x144 && code != 0x100 {
            self.refused_startup = true;
            self.soon(|_, _| Some(Step::new(0x144).u16(0)));
        }
        match code {
            // TPM_RC_INITIALIZE
            0x100 if step.code != 0x144 => {
                self.soon(|_, random| Some(Step::new(0x144).u16(random.pick(&[0, 0, 1]))))
            }
            // TPM_RC_OBJECT_MEMORY, TPM_RC_SESSION_MEMORY
            0x902 => self.soon(|generator, random| Some(generator.flush_object(random))),
            0x903 => self.soon(|generator, random| Some(generator.flush_session(random))),
            // TPM_RC_CONTEXT_GAP
            0x901 => self.contexts.clear(),
            // TPM_RC_LOCKOUT
            0x921
                if step
                    .handles
                    .first()
                    .is_some_and(|handle| handle.handle[ENGINE] == LOCKOUT) =>
            {
                self.lockout_disabled = true;
            }
            0x921 => self.soon(|generator, random| Some(generator.lock_reset(random))),
            // TPM_RC_REFERENCE_H0 and following
            0x910..=0x916 => {
                if let Some(handle) = step.handles.get((code - 0x910) as usize) {
                    let handle = handle.handle;
                    self.forget(handle);
                }
            }
            // TPM_RC_REFERENCE_S0 and following
            0x918..=0x91E => {
                if let Some(used) = step
                    .auths
                    .get((code - 0x918) as usize)
                    .and_then(Auth::session)
                {
                    let handle = used.handle;
                    self.forget(handle);
                }
            }
            // TPM_RC_HANDLE with a handle's number
            0x18B | 0x28B | 0x38B => {
                if let Some(handle) = step.handles.get((code >> 8) as usize - 1)
                    && matches!(handle.handle[ENGINE] >> 24, 0x01 | 0x80 | 0x81)
                {
                    let handle = handle.handle;
                    self.forget(handle);
                }
            }
            _ if code & 0x0BF == 0x08E => {
                // TPM_RC_AUTH_FAIL: before it becomes a lockout, mostly.
                let lockout = step
                    .handles
                    .first()
                    .is_some_and(|handle| handle.handle[ENGINE] == LOCKOUT);
                if lockout {
                    self.lockout_failed = true;
                } else {
                    self.soon(|generator, random| {
                        (!random.one_in(4)).then(|| generator.lock_reset(random))
                    });
                }
            }
            _ => {}
        }
    }

    pub(super) fn flush_object(&mut self, random: &mut Random) -> Step {
        let mut handles: Vec<_> = self
            .objects
            .iter()
            .filter(|object| !object.is_persistent())
            .map(|object| object.handle.handle)
            .collect();
        handles.extend(self.sequences.iter().map(|sequence| sequence.handle));
        match random.choose(&handles) {
            Some(handle) => flush(*handle),
            None => super::session::flush_any(0x8000_0000 + random.below(4) as u32),
        }
    }
}
