//! Single assertions of policies.

use vtpm::crypto::{HashAlg, hash};

use super::{
    Generator,
    model::{Assertion, HIERARCHIES, PASSWORDS, SIGN},
    pcr::selection,
    sign::null_scheme,
    templates::Kind,
};
use crate::{
    authorize::Auth,
    random::Random,
    step::{ENGINE, REFERENCE, Step},
};

/// What goes on with an assertion that took several commands.
pub type Next = Box<dyn FnOnce(&mut Generator, Assertion)>;

impl Generator {
    /// An assertion that a later session can make true.
    pub(super) fn fulfillable(&mut self, random: &mut Random, alg: HashAlg) -> Assertion {
        let step = match random.below(9) {
            0..2 => Step::new(0x16B),
            2 => Step::new(0x18C),
            3 => Step::new(0x16F).u8(random.pick(&[2, 3, 0x1F])).at(0),
            4 => selection(Step::new(0x17F).blob(b""), random),
            5 => {
                let hierarchy = random.pick(HIERARCHIES);
                Step::new(0x151)
                    .fixed(hierarchy)
                    .auth(Auth::Password(self.value(hierarchy)))
                    .u16(0)
                    .u16(0)
                    .blob(random.pick(&[&b""[..], b"ref"]))
                    .u32(0)
            }
            6 => Step::new(0x18F).u8(random.pick(&[0, 1])),
            7 => {
                // Always true: clockSafe or the time is at least 0.
                Step::new(0x16D).blob([0; 8]).u16(0).u16(7)
            }
            _ => {
                return self
                    .nv_assertion(random, alg)
                    .unwrap_or_else(|| Assertion::new(0x16B));
            }
        };
        Assertion::of(step)
    }

    /// TPM2_PolicyNV on an index that can be read.
    fn nv_assertion(&mut self, random: &mut Random, _alg: HashAlg) -> Option<Assertion> {
        let alike: Vec<_> = self.indices.iter().filter(|index| !index.differs).collect();
        let index = random.choose(&alike)?;
        let handle = index.handle();
        let size = index.size.min(8);
        let step = Step::new(0x149)
            .handle(handle.clone())
            .handle(handle)
            .auth(Auth::Password(index.auth.clone()))
            .blob(vec![0; usize::from(size)])
            .u16(0)
            .u16(random.pick(&[1, 2, 6, 7, 0]));
        Some(Assertion {
            differs: index.public[ENGINE] != index.public[REFERENCE],
            ..Assertion::of(step)
        })
    }

    /// Any assertion, right or not.
    pub(super) fn assertion(&mut self, random: &mut Random, alg: HashAlg) -> Assertion {
        let size = alg.size();
        let off = |random: &mut Random| if random.one_in(8) { 5 } else { 0 };
        let step = match random.below(18) {
            0 => Step::new(0x16C).u32(random.pick(&[0x153, 0x15D, 0x137, 0x14B, 0xFFFF])),
            1 => Step::new(0x16F).u8(random.pick(&[1, 2, 4, 0x1F, 0x20, 0, 0xFF, 3, 5, 0x21])),
            2 => Step::new(0x16E).blob(vec![3; size - off(random)]),
            3 => Step::new(0x170).blob(vec![3; size - off(random)]),
            4 => Step::new(0x190).blob(vec![4; size - off(random)]),
            5 => {
                let size = random_size(random);
                let data = random.bytes(size);
                Step::new(0x16D)
                    .blob(data)
                    .u16(random.below(28) as u16)
                    .u16(random.below(13) as u16)
            }
            6 => {
                // As often in this list as not.
                let mut step = Step::new(0x171);
                let count = if random.one_in(6) {
                    random.pick(&[0, 1, 9])
                } else {
                    2 + random.below(7) as u32
                };
                step = step.u32(count);
                for _ in 0..count {
                    step = step.blob(vec![
                        random.below(2) as u8;
                        if random.one_in(30) { 20 } else { size }
                    ]);
                }
                step
            }
            7 => {
                let digest = if random.one_in(2) {
                    Vec::new()
                } else {
                    random.bytes(size)
                };
                selection(Step::new(0x17F).blob(digest), random)
            }
            8 => Step::new(0x18F).u8(random.pick(&[0, 1, 2])),
            9 => Step::new(0x187),
            10 => Step::new(0x188)
                .blob(random.bytes(34))
                .blob(random.bytes(34))
                .u8(random.pick(&[0, 1, 1, 2])),
            11 => {
                let (entity, value) = self.entity(random);
                let differs = entity.name[ENGINE] != entity.name[REFERENCE];
                let step = Step::new(0x151)
                    .auth(self.auth(random, entity.handle[ENGINE], &value))
                    .handle(entity)
                    .u16(0)
                    .u16(0)
                    .blob(random.pick(&[&b""[..], b"ref"]))
                    .u32(random.pick(&[0, 0, 60, 0xFFFF_FFC4]));
                step.differing(differs)
            }
            12 => {
                return self
                    .nv_assertion(random, alg)
                    .unwrap_or_else(|| Assertion::new(0x18C));
            }
            13 => self.or_of_recipes(random, alg),
            14 => Step::new(0x18C),
            15 => Step::new(0x16B),
            _ => return self.fulfillable(random, alg),
        };
        Assertion::of(step)
    }

    /// TPM2_PolicyOR of digests that policies have.
    fn or_of_recipes(&self, random: &mut Random, alg: HashAlg) -> Step {
        let digests: Vec<_> = self
            .recipes
            .iter()
            .filter(|recipe| recipe.alg == alg && !recipe.differs)
            .take(8)
            .collect();
        let mut step = Step::new(0x171).u32(digests.len().max(2) as u32);
        for number in 0..digests.len().max(2) {
            step = match digests.get(number) {
                Some(recipe) => step.each_blob(&recipe.digest),
                None => step.blob(vec![random.below(2) as u8; alg.size()]),
            };
        }
        step
    }

    /// An assertion that rests on a signature, a ticket or on another policy.
    pub(super) fn long_assertion(&mut self, random: &mut Random, alg: HashAlg, next: Next) -> Step {
        match random.below(5) {
            0 | 1 => self.signed_assertion(random, next),
            2 => self.ticket_assertion(random, next),
            3 => self.authorize_assertion(random, alg, next),
            _ => self.authorize_nv_assertion(random, alg, next),
        }
    }

    /// TPM2_PolicySigned with a signature that a loaded key makes, without nonce.
    fn signed_assertion(&mut self, random: &mut Random, next: Next) -> Step {
        let Some(key) = self.object(random, |object| {
            object.has(SIGN) && !object.public_only && object.algorithm() != 0x25
        }) else {
            return self.provide(random, Kind::Signing);
        };
        let expiration: u32 = random.pick(&[0, 0, 0, 3600, 0xFFFF_FE00]);
        let reference = random.pick(&[&b""[..], b"ref"]);
        let digest_of = move |alg: HashAlg| hash(alg, &[&expiration.to_be_bytes(), reference]);
        let (step, alg) = self.signing(random, &key, None);
        let step = step.blob(digest_of(alg));
        let step = null_scheme(step, &key, alg)
            .u16(0x8024)
            .u32(super::model::NULL)
            .u16(0);
        step.then(move |generator, answer| {
            let handle = key.handle.clone();
            let mut assertion = Assertion::of(
                Step::new(0x160)
                    .u16(0)
                    .u16(0)
                    .blob(reference)
                    .u32(expiration)
                    .each(&answer.parameters),
            );
            assertion.differs = handle.name[ENGINE] != handle.name[REFERENCE];
            assertion.handles = vec![handle];
            next(generator, assertion);
        })
    }

    /// TPM2_PolicyTicket: a negative expiration gives a ticket, in a session of its own.
    fn ticket_assertion(&mut self, random: &mut Random, next: Next) -> Step {
        let Some(session) = self
            .sessions
            .iter()
            .find(|session| session.kind == super::model::SessionKind::Policy)
            .cloned()
        else {
            return self.open_session(random, super::model::SessionKind::Policy, HashAlg::Sha256);
        };
        let hierarchy = random.pick(&[
            super::model::OWNER,
            super::model::ENDORSEMENT,
            super::model::PLATFORM,
        ]);
        let reference = random.pick(&[&b""[..], b"ref"]);
        let step = Step::new(0x151)
            .fixed(hierarchy)
            .handle(session.as_handle())
            .auth(Auth::Password(self.value(hierarchy)))
            .each_blob(&session.nonce)
            .u16(0)
            .blob(reference)
            .u32(0xFFFF_FE00);
        step.then(move |generator, answer| {
            let timeout = answer.blob(0);
            let ticket = answer.after(1);
            let step = Step::new(0x172)
                .each_blob(&timeout)
                .u16(0)
                .blob(reference)
                .blob(hierarchy.to_be_bytes())
                .each(&ticket);
            next(generator, Assertion::of(step));
        })
    }

    /// TPM2_PolicyAuthorize of a policy that was tried: signed, verified, authorized.
    fn authorize_assertion(&mut self, random: &mut Random, alg: HashAlg, next: Next) -> Step {
        let signs = |object: &super::model::Object| {
            object.has(SIGN) && !object.public_only && object.algorithm() != 0x25
        };
        let Some(key) = self.object(random, signs) else {
            return self.provide(random, Kind::Signing);
        };
        let Some(recipe) = self.recipe(random, alg.id(), None) else {
            return self.simple(random);
        };
        let reference = random.pick(&[&b""[..], b"ref"]);
        let (step, hash_alg) = self.signing(random, &key, key.name_alg());
        let approved = recipe.digest.clone();
        let digest = approved
            .clone()
            .map(|approved| hash(hash_alg, &[&approved, reference]));
        let step = null_scheme(step.each_blob(&digest), &key, hash_alg)
            .u16(0x8024)
            .u32(super::model::NULL)
            .u16(0);
        step.then(move |generator, answer| {
            let verify = Step::new(0x177)
                .handle(key.handle.clone())
                .each_blob(&digest)
                .each(&answer.parameters);
            let verify = verify.then(move |generator, answer| {
                let name = key.handle.name.clone();
                let differs = name[ENGINE] != name[REFERENCE];
                let step = Step::new(0x16A)
                    .each_blob(&approved)
                    .blob(reference)
                    .each_blob(&name)
                    .each(&answer.parameters);
                let mut assertion = Assertion::of(step);
                assertion.differs = differs;
                // The policy that is authorized comes before; the caller has it follow.
                let before = recipe.assertions.clone();
                next(generator, assertion.clone());
                let recipe_alg = recipe.alg;
                let (code, locality) = (recipe.code, recipe.locality);
                generator.plan(move |generator, random| {
                    let assertions = before.into_iter().chain([assertion]).collect();
                    Some(generator.try_recipe(random, recipe_alg, assertions, code, locality))
                });
            });
            generator.soon(move |_, _| Some(verify));
        })
    }

    /// TPM2_PolicyAuthorizeNV: a policy's digest is written to an index, then authorized by it.
    fn authorize_nv_assertion(&mut self, random: &mut Random, alg: HashAlg, next: Next) -> Step {
        let Some(recipe) = self.recipe(random, alg.id(), None) else {
            return self.simple(random);
        };
        let size = (2 + alg.size()) as u16;
        let auth = random.pick(PASSWORDS).to_vec();
        let right = auth.clone();
        self.define_plain(random, 0x0150_0010, size, auth, move |generator, _| {
            let Some(index) = generator
                .indices
                .iter()
                .find(|index| index.index == 0x0150_0010)
                .cloned()
            else {
                return;
            };
            let contents = recipe
                .digest
                .clone()
                .map(|digest| [&alg.id().to_be_bytes()[..], &digest].concat());
            let handle = index.handle();
            let auth = Auth::Password(right.clone());
            let write = Step::new(0x137)
                .handle(handle.clone())
                .handle(handle)
                .auth(auth.clone())
                .each_blob(&contents)
                .u16(0)
                .then(move |generator, _| {
                    let Some(index) = generator
                        .indices
                        .iter_mut()
                        .find(|index| index.index == 0x0150_0010)
                    else {
                        return;
                    };
                    index.set(super::model::NV_WRITTEN);
                    index.differs = recipe.differs;
                    let handle = index.handle();
                    let assertion = Assertion {
                        handles: vec![handle.clone(), handle],
                        auths: vec![auth],
                        ..Assertion::new(0x192)
                    };
                    let mut assertions = recipe.assertions.clone();
                    assertions.push(assertion.clone());
                    next(generator, assertion);
                    let (code, locality) = (recipe.code, recipe.locality);
                    generator.plan(move |generator, random| {
                        Some(generator.try_recipe(random, alg, assertions, code, locality))
                    });
                });
            generator.soon(move |_, _| Some(write));
        })
    }
}

fn random_size(random: &mut Random) -> usize {
    random.pick(&[8, 8, 4, 1, 2, 0, 25, 26])
}
