//! Policies as a whole: tried out in a trial session, given to objects, and fulfilled.

use std::rc::Rc;

use vtpm::crypto::HashAlg;

use super::{
    Generator,
    model::{Assertion, HASHES, Recipe, SessionKind},
    session::flush,
};
use crate::{
    authorize::{Auth, CONTINUE},
    random::Random,
    step::{Handle, Pair, Step},
};

/// Commands that policies are bound to.
const CODES: &[u32] = &[
    0x14B, 0x14B, 0x14B, 0x11F, 0x13B, 0x148, 0x150, 0x147, 0x15E, 0x15D, 0x14E, 0x137,
];

impl Assertion {
    /// The command for a session.
    pub fn step(&self, session: Pair<u32>) -> Step {
        let mut step = Step::new(self.code);
        step.handles.clone_from(&self.handles);
        step.handles.push(Handle::of(session));
        step.auths.clone_from(&self.auths);
        step.parameters.clone_from(&self.parameters);
        step.locality = self.locality;
        let (code, differs) = (self.code, self.differs);
        step.then(move |generator, _| {
            let Some(session) = generator
                .sessions
                .iter_mut()
                .find(|known| known.handle == session)
            else {
                return;
            };
            session.differs |= differs;
            match code {
                0x16B => (session.needs_value, session.needs_password) = (true, false),
                0x18C => (session.needs_value, session.needs_password) = (false, true),
                0x180 => {
                    (session.needs_value, session.needs_password) = (false, false);
                    session.differs = false;
                }
                // The digest is replaced by one that both sides have alike.
                0x171 => session.differs = false,
                _ => {}
            }
        })
    }
}

impl Generator {
    /// One assertion in any policy session.
    pub(super) fn policy_step(&mut self, random: &mut Random) -> Step {
        let policies: Vec<_> = self
            .sessions
            .iter()
            .filter(|session| session.kind != SessionKind::Hmac || random.one_in(20))
            .cloned()
            .collect();
        let Some(session) = random.choose(&policies) else {
            return self.start_session(random);
        };
        if random.one_in(6) {
            return Step::new(0x189)
                .handle(session.as_handle())
                .differing(session.differs);
        }
        if random.one_in(12) {
            return Assertion::new(0x180).step(session.handle);
        }
        if random.one_in(4) {
            let handle = session.handle;
            let kind = session.kind;
            return self.long_assertion(
                random,
                session.alg,
                Box::new(move |generator, assertion| {
                    if kind != SessionKind::Hmac {
                        generator.soon(move |_, _| Some(assertion.step(handle)));
                    }
                }),
            );
        }
        self.assertion(random, session.alg).step(session.handle)
    }

    /// Tries a new policy out and remembers it.
    pub(super) fn new_recipe(&mut self, random: &mut Random) -> Step {
        let alg = HashAlg::from_id(random.pick(HASHES)).unwrap_or(HashAlg::Sha256);
        let mut assertions = Vec::new();
        let code = random.one_in(2).then(|| random.pick(CODES));
        for _ in 0..random.below(3) {
            let assertion = self.fulfillable(random, alg);
            assertions.push(assertion);
        }
        let mut locality = 0;
        for assertion in &assertions {
            if assertion.code == 0x16F {
                locality = 1;
            }
        }
        if let Some(code) = code {
            assertions.push(Assertion::of(Step::new(0x16C).u32(code)));
        }
        if random.one_in(3) || assertions.is_empty() {
            return self.long_assertion(
                random,
                alg,
                Box::new(move |generator, assertion| {
                    assertions.insert(0, assertion);
                    generator.soon(move |generator, random| {
                        Some(generator.try_recipe(random, alg, assertions, code, locality))
                    });
                }),
            );
        }
        self.try_recipe(random, alg, assertions, code, locality)
    }

    /// Tries these assertions; with success they are a recipe.
    pub(super) fn try_recipe(
        &mut self,
        random: &mut Random,
        alg: HashAlg,
        assertions: Vec<Assertion>,
        code: Option<u32>,
        locality: u8,
    ) -> Step {
        let step = self.open_session(random, SessionKind::Trial, alg);
        self.continue_with(step, move |generator, session| {
            for assertion in assertions.clone() {
                generator.plan(move |_, _| Some(assertion.step(session)));
            }
            generator.plan(move |generator, _| {
                let differs = generator
                    .sessions
                    .iter()
                    .find(|known| known.handle == session)?
                    .differs;
                let step = Step::new(0x189)
                    .handle(Handle::of(session))
                    .differing(differs);
                Some(step.then(move |generator, answer| {
                    let digest = answer.blob(0);
                    generator.recipes.push(Rc::new(Recipe {
                        alg,
                        assertions,
                        digest,
                        differs,
                        code,
                        locality,
                    }));
                    if generator.recipes.len() > 12 {
                        generator.recipes.remove(0);
                    }
                }))
            });
            generator.plan(move |_, _| Some(flush(session)));
        })
    }

    /// After the session of `step` is there: `then`.
    fn continue_with(
        &mut self,
        mut step: Step,
        then: impl FnOnce(&mut Self, Pair<u32>) + 'static,
    ) -> Step {
        // Plans of other things would use up the slots.
        self.plans.clear();
        let started = step.effect.take();
        step.then(move |generator, answer| {
            let handle = answer.handle;
            if let Some(started) = started {
                started(generator, answer);
            }
            then(generator, handle);
        })
    }

    /// Fulfils a policy, then uses it for a command.
    pub(super) fn with_policy(
        &mut self,
        random: &mut Random,
        recipe: &Recipe,
        entity: u32,
        value: Vec<u8>,
        build: impl FnOnce(&mut Self, &mut Random, Auth) -> Option<Step> + 'static,
    ) -> Step {
        let step = self.open_session(random, SessionKind::Policy, recipe.alg);
        let assertions = recipe.assertions.clone();
        let locality = recipe.locality;
        self.continue_with(step, move |generator, session| {
            for assertion in assertions {
                generator.plan(move |_, _| Some(assertion.step(session)));
            }
            generator.plan(move |generator, random| {
                let known = generator
                    .sessions
                    .iter()
                    .find(|known| known.handle == session)?;
                let attributes = if random.one_in(2) { CONTINUE } else { 0 };
                let auth = known.authorize(random, attributes, entity, &value);
                let mut step = build(generator, random, auth)?;
                step.locality = locality;
                Some(step)
            });
            generator.plan(move |generator, random| {
                let left = generator
                    .sessions
                    .iter()
                    .any(|known| known.handle == session);
                (left && !random.one_in(5)).then(|| flush(session))
            });
        })
    }

    /// A recipe for objects with this hash, and mostly for any command or this one.
    pub(super) fn recipe(
        &self,
        random: &mut Random,
        alg: u16,
        code: Option<u32>,
    ) -> Option<Rc<Recipe>> {
        let fitting: Vec<_> = self
            .recipes
            .iter()
            .filter(|recipe| recipe.alg.id() == alg && (code.is_none() || recipe.code == code))
            .collect();
        random.choose(&fitting).map(|recipe| Rc::clone(recipe))
    }
}
