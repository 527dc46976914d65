//! Attestation: statements that a key signs (Part 3, 18).

use super::{
    Generator,
    model::{ENDORSEMENT, NULL, Object, SIGN, SessionKind},
    pcr::selection,
    sign::scheme_for,
    templates::Kind,
};
use crate::{
    authorize::Auth,
    random::Random,
    step::{ENGINE, Handle, Step},
};

/// Who signs: a key, or nobody.
struct Signer {
    handle: Handle,
    auth: Auth,
    scheme: Vec<u8>,
}

impl Generator {
    fn signer(&self, random: &mut Random) -> Option<Signer> {
        if random.one_in(10) {
            return Some(Signer {
                handle: Handle::fixed(NULL),
                auth: Auth::Password(Vec::new()),
                scheme: vec![0, 0x10],
            });
        }
        let key = self.object(random, |object| {
            object.has(SIGN) && !object.public_only && matches!(object.algorithm(), 1 | 0x23 | 8)
        })?;
        Some(Signer {
            scheme: scheme_for(random, &key),
            auth: self.auth(random, key.handle.handle[ENGINE], &key.auth),
            handle: key.handle,
        })
    }

    pub(super) fn attest(&mut self, random: &mut Random) -> Step {
        let Some(signer) = self.signer(random) else {
            return self.provide(random, Kind::Signing);
        };
        let extra = random.pick(&[&b"qualify"[..], b""]);
        match random.below(10) {
            0..3 => {
                let step = Step::new(0x158)
                    .handle(signer.handle)
                    .auth(signer.auth)
                    .blob(extra)
                    .bytes(signer.scheme);
                selection(step, random)
            }
            3..5 => {
                let Some(object) = self.object(random, |object| !object.public_only) else {
                    return self.provide(random, Kind::Signing);
                };
                self.with_object(random, object, 0x148, move |_, _, object, auth| {
                    Step::new(0x148)
                        .handle(object.handle)
                        .handle(signer.handle)
                        .auth(auth)
                        .auth(signer.auth)
                        .blob(extra)
                        .bytes(signer.scheme)
                })
            }
            5 => {
                let Some(object) = self.object(random, |object: &Object| object.creation.is_some())
                else {
                    return self.provide(random, Kind::Signing);
                };
                let (hash, ticket) = object.creation.clone().unwrap_or_default();
                Step::new(0x14A)
                    .handle(signer.handle)
                    .handle(object.handle)
                    .auth(signer.auth)
                    .blob(extra)
                    .each_blob(&hash)
                    .bytes(signer.scheme)
                    .each(&ticket)
            }
            6 => Step::new(0x14C)
                .fixed(ENDORSEMENT)
                .handle(signer.handle)
                .auth(self.hierarchy_auth(random, ENDORSEMENT))
                .auth(signer.auth)
                .blob(extra)
                .bytes(signer.scheme),
            7 => Step::new(0x133)
                .fixed(ENDORSEMENT)
                .handle(signer.handle)
                .auth(self.hierarchy_auth(random, ENDORSEMENT))
                .auth(signer.auth)
                .blob(extra)
                .bytes(signer.scheme),
            8 => {
                let sessions: Vec<_> = self
                    .sessions
                    .iter()
                    .filter(|session| session.kind == SessionKind::Hmac)
                    .cloned()
                    .collect();
                let Some(session) = random.choose(&sessions) else {
                    return self.start_session(random);
                };
                Step::new(0x14D)
                    .fixed(ENDORSEMENT)
                    .handle(signer.handle)
                    .handle(session.as_handle())
                    .auth(Auth::Password(self.value(ENDORSEMENT)))
                    .auth(signer.auth)
                    .blob(extra)
                    .bytes(signer.scheme)
            }
            _ => self.certify_index(random, signer, extra),
        }
    }

    fn certify_index(&mut self, random: &mut Random, signer: Signer, extra: &[u8]) -> Step {
        let Some(index) = random.choose(&self.indices).cloned() else {
            return self.nv_define(random);
        };
        let (entity, value) = self.nv_authority(random, &index, 16);
        let auth = self.auth(random, entity.handle[ENGINE], &value);
        let size = if random.one_in(6) {
            0
        } else {
            index.size.min(64)
        };
        Step::new(0x184)
            .handle(signer.handle)
            .handle(entity)
            .handle(index.handle())
            .auth(signer.auth)
            .auth(auth)
            .blob(extra)
            .bytes(signer.scheme)
            .u16(size)
            .u16(0)
            .differing(index.differs)
    }
}
