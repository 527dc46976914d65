//! Hierarchies, their authorizations and policies, dictionary attack protection.

use std::rc::Rc;

use vtpm::crypto::HashAlg;

use super::{
    Generator,
    model::{ENDORSEMENT, HASHES, LOCKOUT, NULL, NV_PLATFORM_CREATE, OWNER, PLATFORM},
};
use crate::{
    authorize::Auth,
    random::Random,
    step::{ENGINE, REFERENCE, Step},
};

const PLATFORM_NV: u32 = 0x4000_000D;
const COMMANDS: &[u32] = &[0x15D, 0x17B, 0x182, 0x158, 0x181, 0x12A, 0x17E];

impl Generator {
    pub(super) fn hierarchy(&mut self, random: &mut Random) -> Step {
        let hierarchy = random.pick(&[OWNER, ENDORSEMENT, PLATFORM, LOCKOUT]);
        let hierarchy = if random.one_in(20) { NULL } else { hierarchy };
        match random.below(20) {
            0..4 => self.change_auth(random, hierarchy),
            4..7 => self.set_policy(random, hierarchy),
            7 => {
                let hierarchy = random.pick(&[LOCKOUT, PLATFORM]);
                let auth = self.hierarchy_auth(random, hierarchy);
                Step::new(0x127)
                    .fixed(hierarchy)
                    .auth(auth)
                    .u8(random.pick(&[0, 0, 0, 1, 2]))
            }
            8..10 => self.control(random),
            10..13 => {
                let auditor = random.pick(&[OWNER, PLATFORM]);
                let alg = if random.one_in(3) {
                    random.pick(HASHES)
                } else {
                    0x10
                };
                let step = Step::new(0x140)
                    .fixed(auditor)
                    .auth(self.hierarchy_auth(random, auditor))
                    .u16(alg);
                let code = random.pick(COMMANDS);
                match (alg, random.below(3)) {
                    (0x10, 0) => step.u32(1).u32(code).u32(0),
                    (0x10, 1) => step.u32(0).u32(1).u32(code),
                    (0x10, _) => step.u32(2).u32(code).u32(0x1FFF).u32(0),
                    _ => step.u32(0).u32(0),
                }
            }
            13 => self.clear(random),
            14 if random.one_in(2) => self.change_seed(random),
            15..18 => self.by_policy(random),
            _ => {
                let size = random.pick(&[65, 49, 33]);
                Step::new(0x129)
                    .fixed(hierarchy)
                    .auth(self.hierarchy_auth(random, hierarchy))
                    .blob(vec![1; size])
            }
        }
    }

    fn change_auth(&mut self, random: &mut Random, hierarchy: u32) -> Step {
        let value = if random.one_in(2) {
            Vec::new()
        } else {
            random.pick(super::model::PASSWORDS).to_vec()
        };
        let auth = self.hierarchy_auth(random, hierarchy);
        let mut step = Step::new(0x129).fixed(hierarchy).auth(auth).blob(&value);
        step.new_auth = Some(value.clone());
        step.then(move |generator, _| generator.set_value(hierarchy, value))
    }

    fn set_value(&mut self, hierarchy: u32, value: Vec<u8>) {
        self.hierarchy_auth.retain(|(known, _)| *known != hierarchy);
        if !value.is_empty() {
            self.hierarchy_auth.push((hierarchy, value));
        }
    }

    fn set_policy(&mut self, random: &mut Random, hierarchy: u32) -> Step {
        let auth = self.hierarchy_auth(random, hierarchy);
        let step = Step::new(0x12E).fixed(hierarchy).auth(auth);
        let recipes: Vec<_> = self
            .recipes
            .iter()
            .filter(|recipe| recipe.code.is_none() || random.one_in(6))
            .cloned()
            .collect();
        match random.choose(&recipes) {
            Some(recipe) if !random.one_in(5) => {
                let recipe = Rc::clone(recipe);
                step.each_blob(&recipe.digest)
                    .u16(recipe.alg.id())
                    .then(move |generator, _| {
                        generator
                            .hierarchy_policy
                            .retain(|(known, _)| *known != hierarchy);
                        generator.hierarchy_policy.push((hierarchy, recipe));
                    })
            }
            _ => {
                let (size, alg) =
                    random.pick(&[(0usize, 0x10u16), (32, 0x0B), (20, 0x0B), (20, 4)]);
                step.blob(vec![1; size]).u16(alg).then(move |generator, _| {
                    generator
                        .hierarchy_policy
                        .retain(|(known, _)| *known != hierarchy);
                })
            }
        }
    }

    /// A command that a hierarchy's policy authorizes; also policies for one command only
    /// (`TPM2_PolicyCpHash`, `TPM2_PolicyNameHash`).
    fn by_policy(&mut self, random: &mut Random) -> Step {
        let known: Vec<_> = self
            .hierarchy_policy
            .iter()
            .filter(|(hierarchy, _)| matches!(*hierarchy, OWNER | PLATFORM))
            .cloned()
            .collect();
        let (Some((hierarchy, recipe)), false) = (random.choose(&known).cloned(), random.one_in(3))
        else {
            return self.exact_policy(random);
        };
        let value = self.value(hierarchy);
        let rate = random.below(3) as u8;
        self.with_policy(random, &recipe, hierarchy, value, move |_, _, auth| {
            Some(Step::new(0x130).fixed(hierarchy).auth(auth).u8(rate))
        })
    }

    /// A policy that allows one command with these parameters, or on these handles.
    fn exact_policy(&mut self, random: &mut Random) -> Step {
        let hierarchy = random.pick(&[OWNER, PLATFORM]);
        let (alg, rate) = (HashAlg::Sha256, random.below(3) as u8);
        let command = move || Step::new(0x130).fixed(hierarchy).u8(rate);
        let assertion = if random.one_in(2) {
            let digest = command().cp_hash(alg, ENGINE, &[rate]);
            Step::new(0x16E).blob(digest)
        } else {
            let digest = vtpm::crypto::hash(alg, &[&hierarchy.to_be_bytes()]);
            Step::new(0x170).blob(digest)
        };
        let assertions = vec![super::model::Assertion::of(assertion)];
        let step = self.try_recipe(random, alg, assertions, Some(0x130), 0);
        self.plan(|_, _| None);
        // Once it is known: make it the hierarchy's, then use it.
        let mut step = step;
        let started = step.effect.take();
        step.then(move |generator, answer| {
            if let Some(started) = started {
                started(generator, answer);
            }
            generator.plan(move |generator, random| {
                let recipe = generator.recipes.last()?.clone();
                let auth = generator.hierarchy_auth(random, hierarchy);
                Some(
                    Step::new(0x12E)
                        .fixed(hierarchy)
                        .auth(auth)
                        .each_blob(&recipe.digest)
                        .u16(recipe.alg.id())
                        .then(move |generator, _| {
                            generator
                                .hierarchy_policy
                                .retain(|(known, _)| *known != hierarchy);
                            generator.soon(move |generator, random| {
                                let value = generator.value(hierarchy);
                                Some(generator.with_policy(
                                    random,
                                    &recipe,
                                    hierarchy,
                                    value,
                                    move |_, _, auth| Some(command().auth(auth)),
                                ))
                            });
                        }),
                )
            });
        })
    }

    fn control(&mut self, random: &mut Random) -> Step {
        let enable = random.pick(&[OWNER, ENDORSEMENT, PLATFORM_NV, NULL]);
        let state = u8::from(!random.one_in(4));
        let by = if random.one_in(4) {
            random.pick(&[OWNER, ENDORSEMENT])
        } else {
            PLATFORM
        };
        let step = Step::new(0x121)
            .fixed(by)
            .auth(self.hierarchy_auth(random, by))
            .u32(enable)
            .u8(state);
        step.then(move |generator, _| {
            if state == 1 {
                return;
            }
            generator
                .objects
                .retain(|object| object.is_persistent() || object.hierarchy != enable);
            // Back before long, or nothing works any more.
            generator.plan(move |generator, random| {
                let auth = generator.hierarchy_auth(random, PLATFORM);
                Some(
                    Step::new(0x121)
                        .fixed(PLATFORM)
                        .auth(auth)
                        .u32(enable)
                        .u8(1),
                )
            });
        })
    }

    fn clear(&mut self, random: &mut Random) -> Step {
        let by = random.pick(&[PLATFORM, PLATFORM, LOCKOUT]);
        self.clear_by(random, by)
    }

    fn clear_by(&mut self, random: &mut Random, by: u32) -> Step {
        Step::new(0x126)
            .fixed(by)
            .auth(self.hierarchy_auth(random, by))
            .then(|generator, _| {
                generator.lockout_disabled = false;
                generator.lockout_failed = false;
                generator.lockout_before = false;
                generator.counters_apart |= generator
                    .indices
                    .iter()
                    .any(|index| index.kind() == 1 && index.has(1 << 26));
                for hierarchy in [OWNER, ENDORSEMENT, LOCKOUT] {
                    generator.set_value(hierarchy, Vec::new());
                }
                generator
                    .hierarchy_policy
                    .retain(|(hierarchy, _)| *hierarchy == PLATFORM);
                generator
                    .objects
                    .retain(|object| !matches!(object.hierarchy, OWNER | ENDORSEMENT));
                generator
                    .indices
                    .retain(|index| index.has(NV_PLATFORM_CREATE));
            })
    }

    fn change_seed(&mut self, random: &mut Random) -> Step {
        let (code, gone) = random.pick(&[(0x124, ENDORSEMENT), (0x125, PLATFORM)]);
        let auth = self.hierarchy_auth(random, PLATFORM);
        Step::new(code)
            .fixed(PLATFORM)
            .auth(auth)
            .then(move |generator, _| {
                generator.set_value(gone, Vec::new());
                generator
                    .hierarchy_policy
                    .retain(|(hierarchy, _)| *hierarchy != gone);
                generator.objects.retain(|object| object.hierarchy != gone);
            })
    }

    pub(super) fn lock_reset(&mut self, random: &mut Random) -> Step {
        if self.lockout_disabled && !random.one_in(4) {
            // Nothing but a clear by the platform, or a reset, helps.
            return self.clear_by(random, PLATFORM);
        }
        Step::new(0x139)
            .fixed(LOCKOUT)
            .auth(Auth::Password(if random.one_in(80) {
                b"wrong".to_vec()
            } else {
                self.value(LOCKOUT)
            }))
    }

    pub(super) fn dictionary(&mut self, random: &mut Random) -> Step {
        match random.below(4) {
            0 => Step::new(0x13A)
                .fixed(LOCKOUT)
                .auth(self.hierarchy_auth(random, LOCKOUT))
                .u32(random.pick(&[3, 10, 1000, 1]))
                .u32(100_000)
                .u32(random.pick(&[0, 100_000])),
            1 => self.guess(random),
            2 => Step::new(0x17A).u32(6).u32(0x20E).u32(4),
            _ => self.lock_reset(random),
        }
    }

    /// A wrong value for something that is protected.
    fn guess(&mut self, random: &mut Random) -> Step {
        let Some(object) = self.object(random, |object| {
            !object.has(super::model::NO_DA) && !object.public_only
        }) else {
            return self.create_primary(random);
        };
        let auth = match random.choose(&self.sessions) {
            Some(session)
                if random.one_in(2) && session.kind == super::model::SessionKind::Hmac =>
            {
                session.authorize(random, 1, object.handle.handle[ENGINE], b"guess")
            }
            _ => Auth::Password(b"guess".to_vec()),
        };
        let code = random.pick(&[0x15Eu32, 0x15D, 0x153]);
        let step = Step::new(code).handle(object.handle.clone()).auth(auth);
        match code {
            0x15E => step,
            0x15D => step.blob([0; 32]).u16(0x10).u16(0x8024).u32(NULL).u16(0),
            _ => step
                .blob([0; 4])
                .each_blob(&[
                    object.public[ENGINE].clone(),
                    object.public[REFERENCE].clone(),
                ])
                .u16(0)
                .u32(0),
        }
    }

    pub(super) fn clock(&mut self, random: &mut Random) -> Step {
        let by = random.pick(&[OWNER, PLATFORM]);
        let auth = self.hierarchy_auth(random, by);
        match random.below(4) {
            0 | 1 => Step::new(0x181),
            2 => Step::new(0x128).fixed(by).auth(auth).u64(random.pick(&[
                0,
                1 << 20,
                1 << 24,
                1 << 30,
                1 << 34,
                u64::MAX,
                0xFFFF_0000_0000_0000,
            ])),
            _ => Step::new(0x130)
                .fixed(by)
                .auth(auth)
                .u8(random.pick(&[0, 1, 2, 3, 0xFF, 0xFD, 4])),
        }
    }
}
