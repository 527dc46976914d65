//! ECDH, and what takes two commands: ephemeral keys and commits (Part 1, C.2 and C.8).

use vtpm::crypto::{Crypto, Curve, Native};

use super::{
    Generator,
    model::{Commit, DECRYPT, NULL, Object, RESTRICTED, SIGN},
    sign::own_scheme,
    templates::Kind,
};
use crate::{
    random::Random,
    step::{Step, blob, both},
};

/// A point of a curve: the base point, a multiple of it, or sometimes none of the curve.
fn point(random: &mut Random, curve: Curve) -> Vec<u8> {
    let numbers = Native.ecc_parameters(curve);
    let point = match random.below(12) {
        0 => {
            let mut wrong = numbers.g;
            wrong.x[curve.size() - 1] ^= 1;
            wrong
        }
        1..8 => {
            let mut d = vec![0; curve.size()];
            d[curve.size() - 1] = 1 + random.below(200) as u8;
            Native.ecc_public(curve, &d).unwrap_or(numbers.g)
        }
        _ => numbers.g,
    };
    [blob(&point.x), blob(&point.y)].concat()
}

impl Generator {
    pub(super) fn ecc(&mut self, random: &mut Random) -> Step {
        let wanted = |object: &Object| {
            object.algorithm() == 0x23 && object.has(DECRYPT) && !object.has(RESTRICTED)
        };
        match random.below(6) {
            0 => {
                let Some(key) = self.object(random, |object| object.algorithm() == 0x23) else {
                    return self.provide(random, Kind::Ecdh);
                };
                Step::new(0x163).handle(key.handle)
            }
            1 => Step::new(0x178).u16(random.pick(&[3, 4, 5, 0x10, 0, 9])),
            2 => self.commit(random),
            3 => self.two_phase(random),
            _ => {
                let Some(key) = self.object(random, |object| wanted(object) && !object.public_only)
                else {
                    return self.provide(random, Kind::Ecdh);
                };
                let point = point(random, key.curve().unwrap_or(Curve::P256));
                self.with_object(random, key, 0x154, move |_, _, key, auth| {
                    Step::new(0x154).handle(key.handle).auth(auth).blob(point)
                })
            }
        }
    }

    /// TPM2_EC_Ephemeral, then TPM2_ZGen_2Phase with it.
    fn two_phase(&mut self, random: &mut Random) -> Step {
        let wanted = |object: &Object| {
            object.algorithm() == 0x23
                && object.has(DECRYPT)
                && !object.has(RESTRICTED)
                && !object.public_only
        };
        let key = self.object(random, wanted);
        let curve = key
            .as_ref()
            .and_then(Object::curve)
            .map_or_else(|| random.pick(&[3, 4, 5, 0x10, 9]), Curve::id);
        Step::new(0x18E).u16(curve).then(move |generator, answer| {
            let counter = answer
                .after(1)
                .map(|rest| rest.try_into().map_or(0, u16::from_be_bytes));
            generator.remember(Commit {
                counter,
                name: both(Vec::new()),
            });
            let (Some(key), Some(curve)) = (key, Curve::from_id(curve)) else {
                return;
            };
            generator.soon(move |generator, random| {
                let counter = match random.choose(&generator.commits) {
                    Some(commit) if random.one_in(10) => commit.counter,
                    _ => counter,
                };
                let (first, second) = (point(random, curve), point(random, curve));
                let scheme: u16 = random.pick(&[0x19, 0x19, 0x19, 0x10, 0x1D]);
                Some(
                    generator.with_object(random, key, 0x18D, move |_, _, key, auth| {
                        Step::new(0x18D)
                            .handle(key.handle)
                            .auth(auth)
                            .blob(first)
                            .blob(second)
                            .u16(scheme)
                            .each(&counter.map(|counter| counter.to_be_bytes().to_vec()))
                            .differing(true)
                    }),
                )
            });
        })
    }

    fn remember(&mut self, commit: Commit) {
        self.commits.push(commit);
        if self.commits.len() > 8 {
            self.commits.remove(0);
        }
    }

    fn anonymous(&self, random: &mut Random) -> Option<Object> {
        self.object(random, |object| {
            object.algorithm() == 0x23
                && object.has(SIGN)
                && own_scheme(object) == 0x1A
                && !object.public_only
        })
    }

    /// TPM2_Commit
    fn commit(&mut self, random: &mut Random) -> Step {
        let Some(key) = self.anonymous(random) else {
            return self.provide(random, Kind::Ecdh);
        };
        let curve = key.curve().unwrap_or(Curve::P256);
        let p1 = if random.one_in(3) {
            vec![0; 4]
        } else {
            point(random, curve)
        };
        let second = if random.one_in(6) {
            random.bytes(10)
        } else {
            Vec::new()
        };
        let y2 = if random.one_in(6) {
            random.bytes(curve.size())
        } else {
            Vec::new()
        };
        self.with_object(random, key, 0x18B, move |_, _, key, auth| {
            let name = key.handle.name.clone();
            Step::new(0x18B)
                .handle(key.handle)
                .auth(auth)
                .blob(p1)
                .blob(second)
                .blob(y2)
                .differing(true)
                .then(move |generator, answer| {
                    let counter = answer
                        .after(3)
                        .map(|rest| rest.try_into().map_or(0, u16::from_be_bytes));
                    generator.remember(Commit { counter, name });
                })
        })
    }

    /// TPM2_Sign with an ECDAA key: the number of a commit belongs to it.
    pub(super) fn sign_committed(
        &mut self,
        random: &mut Random,
        key: Object,
        digest: Vec<u8>,
    ) -> Step {
        let right = self
            .commits
            .iter()
            .position(|commit| commit.name == key.handle.name);
        let Some(right) = right else {
            return self.commit(random);
        };
        let commit = if random.one_in(15) {
            random.choose(&self.commits).cloned()
        } else {
            Some(self.commits.remove(right))
        };
        let Some(commit) = commit else {
            return self.commit(random);
        };
        let hash = key
            .parameters(0)
            .get(4..6)
            .map_or(0x0B, |b| u16::from_be_bytes([b[0], b[1]]));
        let digest = match vtpm::crypto::HashAlg::from_id(hash) {
            Some(alg) => digest.into_iter().cycle().take(alg.size()).collect(),
            None => digest,
        };
        self.with_object(random, key, 0x15D, move |_, _, key, auth| {
            Step::new(0x15D)
                .handle(key.handle)
                .auth(auth)
                .blob(&digest)
                .u16(0x1A)
                .u16(hash)
                .each(&commit.counter.map(|counter| counter.to_be_bytes().to_vec()))
                .u16(0x8024)
                .u32(NULL)
                .u16(0)
                .differing(true)
        })
    }
}
