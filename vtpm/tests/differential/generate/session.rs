//! Sessions of all kinds: plain, salted, bound; for authorization, audit and encryption.

use vtpm::{
    crypto::{Crypto, HashAlg, KdfRng, Native, RsaPadding, RsaPublic, kdfa, kdfe},
    table,
};

use super::{
    Generator,
    model::{DECRYPT as OBJECT_DECRYPT, HASHES, HIERARCHIES, NULL, Object, Session, SessionKind},
};
use crate::{
    authorize::{AUDIT, Auth, CONTINUE, DECRYPT, ENCRYPT, EXCLUSIVE, RESET, Symmetric},
    random::Random,
    step::{ENGINE, Handle, Pair, REFERENCE, Step, blob, both, split_blob},
};

/// The salt for a key on one side: what to send, and the secret.
fn salt(random: &mut Random, key: &Object, side: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let alg = key.name_alg()?;
    let mut rng = KdfRng::new(HashAlg::Sha256, &random.bytes(32), "salt", &[]);
    if let Some(curve) = key.curve() {
        let point = key.point(side)?;
        let (d, ephemeral) = Native.ecc_generate(curve, &mut rng).ok()?;
        let z = Native.ecc_multiply(curve, &d, &point).ok()?;
        let secret = kdfe(
            alg,
            &z.x,
            "SECRET",
            &ephemeral.x,
            &point.x,
            alg.size() as u32 * 8,
        );
        return Some((
            [blob(&ephemeral.x), blob(&ephemeral.y)].concat(),
            secret.to_vec(),
        ));
    }
    if key.algorithm() != 1 {
        return None;
    }
    let (modulus, _) = split_blob(key.unique(side))?;
    let parameters = key.parameters(side);
    let size = crate::fields::parameters(parameters, 1)?;
    let exponent = u32::from_be_bytes(parameters.get(size - 4..size)?.try_into().ok()?);
    let public = RsaPublic {
        n: modulus,
        e: if exponent == 0 { 65537 } else { exponent },
    };
    // A key with a scheme of its own has the hash of that.
    let own = match parameters.get(2..6) {
        Some([0, 0x17, a, b]) => HashAlg::from_id(u16::from_be_bytes([*a, *b])),
        _ => None,
    };
    let padding = RsaPadding::Oaep {
        hash: own.unwrap_or(alg),
        label: b"SECRET\0",
    };
    let secret = random.bytes(alg.size());
    let sent = Native
        .rsa_encrypt(&public, padding, &secret, &mut rng)
        .ok()?;
    Some((sent, secret))
}

fn symmetric(random: &mut Random) -> Symmetric {
    match random.below(6) {
        0 => Symmetric::Null,
        1 => Symmetric::Xor(HashAlg::from_id(random.pick(HASHES)).unwrap_or(HashAlg::Sha256)),
        2 => Symmetric::Aes(256),
        _ => Symmetric::Aes(128),
    }
}

impl Generator {
    pub(super) fn start_session(&mut self, random: &mut Random) -> Step {
        let kind = random.pick(&[
            SessionKind::Hmac,
            SessionKind::Hmac,
            SessionKind::Policy,
            SessionKind::Trial,
        ]);
        let alg = HashAlg::from_id(random.pick(HASHES)).unwrap_or(HashAlg::Sha256);
        let mut step = self.open_session(random, kind, alg);
        if random.one_in(12) {
            // A number or an algorithm that does not fit.
            let part = random.below(step.parameters.len());
            step.parameters[part] = crate::step::Part::Same(
                random
                    .pick(&[
                        &[0u8, 0x12][..],
                        &[2],
                        &[0, 0],
                        &[0, 6, 0, 192, 0, 0x43],
                        &[0, 0x10],
                    ])
                    .to_vec(),
            );
            step.effect = None;
        }
        step
    }

    /// TPM2_StartAuthSession
    pub(super) fn open_session(
        &mut self,
        random: &mut Random,
        kind: SessionKind,
        alg: HashAlg,
    ) -> Step {
        let symmetric = symmetric(random);
        let salted = random.one_in(3).then(|| {
            self.object(random, |object| {
                object.has(OBJECT_DECRYPT)
                    && !object.public_only
                    && matches!(object.algorithm(), 1 | 0x23)
            })
        });
        let bound = random.one_in(3).then(|| self.entity(random));
        self.session_with(random, kind, alg, symmetric, salted.flatten(), bound)
    }

    fn session_with(
        &mut self,
        random: &mut Random,
        kind: SessionKind,
        alg: HashAlg,
        symmetric: Symmetric,
        salted: Option<Object>,
        bound: Option<(Handle, Vec<u8>)>,
    ) -> Step {
        let size = if random.one_in(30) {
            random.pick(&[0, 8, 15, 65])
        } else {
            random.pick(&[16, 20, 32])
        };
        let nonce_caller = random.bytes(size);
        let salts = salted.as_ref().and_then(|key| {
            let [engine, reference] = [ENGINE, REFERENCE].map(|side| salt(random, key, side));
            Some([engine?, reference?])
        });
        let mut step = match &salted {
            Some(key) => Step::new(0x176).handle(key.handle.clone()),
            None => Step::new(0x176).fixed(NULL),
        };
        step = match &bound {
            Some((entity, _)) => step.handle(entity.clone()),
            None => step.fixed(NULL),
        };
        step = step.blob(&nonce_caller);
        let empty = || [Vec::new(), Vec::new()];
        let (sent, secrets) =
            salts.map_or_else(|| (empty(), empty()), |[a, b]| ([a.0, b.0], [a.1, b.1]));
        step = step.each_blob(&sent).u8(match kind {
            SessionKind::Hmac => 0,
            SessionKind::Policy => 1,
            SessionKind::Trial => 3,
        });
        step = match symmetric {
            Symmetric::Null => step.u16(0x10),
            Symmetric::Aes(bits) => step.u16(6).u16(bits).u16(0x43),
            Symmetric::Xor(hash) => step.u16(0x0A).u16(hash.id()),
        };
        let bound = bound.map(|(entity, value)| (entity.handle[ENGINE], value));
        step.u16(alg.id()).then(move |generator, answer| {
            let nonce = answer.blob(0);
            let key = [ENGINE, REFERENCE].map(|side| {
                let value = bound.as_ref().map_or(&[][..], |(_, value)| value);
                let secret = [value, &secrets[side]].concat();
                if bound.is_none() && secret.is_empty() {
                    return Vec::new();
                }
                kdfa(
                    alg,
                    &secret,
                    "ATH",
                    &nonce[side],
                    &nonce_caller,
                    alg.size() as u32 * 8,
                )
                .to_vec()
            });
            generator.sessions.push(Session {
                handle: answer.handle,
                kind,
                alg,
                symmetric,
                nonce,
                key,
                bound,
                needs_value: false,
                needs_password: false,
                differs: false,
            });
        })
    }

    /// Something with an authorization value.
    pub(super) fn entity(&self, random: &mut Random) -> (Handle, Vec<u8>) {
        match random.below(3) {
            0 => {
                if let Some(object) = self.object(random, |object| !object.public_only) {
                    return (object.handle, object.auth);
                }
            }
            1 => {
                if let Some(index) = random.choose(&self.indices) {
                    return (index.handle(), index.auth.clone());
                }
            }
            _ => {}
        }
        let hierarchy = random.pick(HIERARCHIES);
        (Handle::fixed(hierarchy), self.value(hierarchy))
    }

    /// The authorization value of a hierarchy.
    pub(super) fn value(&self, hierarchy: u32) -> Vec<u8> {
        self.hierarchy_auth
            .iter()
            .find(|(known, _)| *known == hierarchy)
            .map_or_else(Vec::new, |(_, value)| value.clone())
    }

    pub(super) fn flush_session(&mut self, random: &mut Random) -> Step {
        let Some(session) = random.choose(&self.sessions) else {
            return self.start_session(random);
        };
        flush(session.handle)
    }

    pub(super) fn password(random: &mut Random, right: &[u8]) -> Auth {
        Auth::Password(if random.one_in(50) {
            b"wrong".to_vec()
        } else {
            right.to_vec()
        })
    }

    /// Authorization with a known value: a password, or an HMAC session.
    pub(super) fn auth(&self, random: &mut Random, entity: u32, value: &[u8]) -> Auth {
        if random.one_in(2) {
            let hmac: Vec<_> = self
                .sessions
                .iter()
                .filter(|session| session.kind == SessionKind::Hmac)
                .collect();
            if let Some(session) = random.choose(&hmac) {
                let mut attributes = if random.one_in(10) { 0 } else { CONTINUE };
                if random.one_in(6) {
                    attributes |= random.pick(&[
                        AUDIT,
                        AUDIT,
                        AUDIT | RESET,
                        AUDIT | EXCLUSIVE,
                        RESET,
                        EXCLUSIVE,
                        8,
                    ]);
                }
                let value = if random.one_in(50) { b"wrong" } else { value };
                return session.authorize(random, attributes, entity, value);
            }
        }
        if random.one_in(60)
            && let Some(session) = self
                .sessions
                .iter()
                .find(|session| session.kind != SessionKind::Hmac)
        {
            return session.authorize(random, CONTINUE, entity, value);
        }
        Self::password(random, value)
    }

    /// Authorization by a hierarchy.
    pub(super) fn hierarchy_auth(&self, random: &mut Random, hierarchy: u32) -> Auth {
        self.auth(random, hierarchy, &self.value(hierarchy))
    }

    /// Encrypts parameters, audits, or adds sessions that do.
    pub(super) fn dress(&self, random: &mut Random, step: &mut Step) {
        let Some(command) = table::find(step.code) else {
            return;
        };
        if command.has(table::NO_SESSIONS) && !random.one_in(40) {
            return;
        }
        let mut possible = 0;
        if command.has(table::DECRYPT) || random.one_in(40) {
            possible |= DECRYPT;
        }
        if command.has(table::ENCRYPT) || random.one_in(40) {
            possible |= ENCRYPT;
        }
        let mut wanted = possible & random.pick(&[0, 0, DECRYPT, ENCRYPT, DECRYPT | ENCRYPT]);
        // A session that is there already may do it.
        for auth in &mut step.auths {
            if let Auth::Session(used) = auth
                && random.one_in(2)
                && used.symmetric != Symmetric::Null
            {
                used.attributes |= wanted;
                wanted = 0;
            }
        }
        if (wanted == 0 || random.one_in(2)) && !random.one_in(15) {
            return;
        }
        let free: Vec<_> = self
            .sessions
            .iter()
            .filter(|session| session.kind == SessionKind::Hmac || random.one_in(10))
            .filter(|session| {
                step.auths
                    .iter()
                    .filter_map(Auth::session)
                    .all(|used| used.handle != session.handle)
            })
            .filter(|session| session.symmetric != Symmetric::Null || wanted == 0)
            .collect();
        if step.auths.len() < 3
            && let Some(session) = random.choose(&free)
        {
            let mut attributes = wanted | if random.one_in(8) { 0 } else { CONTINUE };
            if session.kind == SessionKind::Hmac && (wanted == 0 || random.one_in(4)) {
                attributes |= AUDIT;
            }
            step.auths.push(session.accompany(random, attributes));
        }
    }
}

/// TPM2_FlushContext
pub fn flush(handle: Pair<u32>) -> Step {
    Step::new(0x165)
        .each(&handle.map(|handle| handle.to_be_bytes().to_vec()))
        .then(move |generator, _| generator.forget(handle))
}

/// As [`flush`], for a handle that is the same on both sides.
pub fn flush_any(handle: u32) -> Step {
    flush(both(handle))
}
