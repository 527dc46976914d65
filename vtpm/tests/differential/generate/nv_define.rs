//! NV indices: their definition and their end.

use super::{
    Generator,
    model::{HASHES, Index, NV_PLATFORM_CREATE, OWNER, PASSWORDS, PLATFORM},
};
use crate::{
    random::Random,
    step::{Answer, Step, blob, both},
};

const ORDINARY: u32 = 0;
const COUNTER: u32 = 1;
const BITS: u32 = 2;
const EXTEND: u32 = 4;
const PIN_FAIL: u32 = 8;
const PIN_PASS: u32 = 9;

/// Attributes that may be set besides.
const OPTIONAL: &[u32] = &[25, 11, 13, 14, 15, 26, 26, 27, 31, 12, 16, 28, 29];

impl Generator {
    pub(super) fn nv_define(&mut self, random: &mut Random) -> Step {
        let number = 0x0150_0000 + random.below(8) as u32;
        let platform = random.one_in(3);
        let kind = random.pick(&[
            ORDINARY, ORDINARY, ORDINARY, COUNTER, COUNTER, BITS, EXTEND, PIN_FAIL, PIN_PASS,
        ]);
        let kind = if random.one_in(40) {
            random.pick(&[3, 5, 15])
        } else {
            kind
        };
        let pin = matches!(kind, PIN_FAIL | PIN_PASS);
        // authRead, ownerRead, ownerWrite; and authWrite where it is allowed.
        let mut attributes = kind << 4 | 0x0004_0000 | 0x0002_0002;
        if !pin {
            attributes |= 0x0000_0004;
        }
        if platform {
            attributes |= NV_PLATFORM_CREATE | 0x0001_0001;
        }
        if kind == PIN_FAIL || random.one_in(3) {
            attributes |= 1 << 25;
        }
        // writeStClear or writeDefine, readStClear: so that locks are possible.
        if random.one_in(3) {
            attributes |= random.pick(&[1 << 14, 1 << 13, 1 << 31, 1 << 14 | 1 << 31]);
        }
        for bit in OPTIONAL {
            if random.one_in(24) {
                attributes ^= 1 << bit;
            }
        }
        let alg = if random.one_in(60) {
            0x12
        } else {
            random.pick(HASHES)
        };
        let recipe = if random.one_in(2) {
            self.recipe(random, alg, None)
        } else {
            None
        };
        if let Some(recipe) = &recipe {
            // policyRead and policyWrite
            attributes |= random.pick(&[1 << 3, 1 << 19, 1 << 3 | 1 << 19]);
            if platform && recipe.code == Some(0x11F) {
                // policyDelete
                attributes |= 1 << 10;
            }
        }
        let digest =
            vtpm::crypto::HashAlg::from_id(alg).map_or(32, vtpm::crypto::HashAlg::size) as u16;
        let size = match kind {
            COUNTER | BITS | PIN_FAIL | PIN_PASS => 8,
            EXTEND => digest,
            _ => random.pick(&[1, 8, 32, 100, 300, 2048]),
        };
        let size = if random.one_in(40) {
            random.pick(&[0, 7, 2049])
        } else {
            size
        };
        let auth = random.pick(PASSWORDS).to_vec();
        let policy = match &recipe {
            Some(recipe) => recipe.digest.clone(),
            None if random.one_in(30) => both(vec![9; random.pick(&[32, 20])]),
            None => both(Vec::new()),
        };
        let public = policy.map(|policy| {
            [
                &number.to_be_bytes()[..],
                &alg.to_be_bytes(),
                &attributes.to_be_bytes(),
                &blob(&policy),
                &u16::to_be_bytes(size),
            ]
            .concat()
        });
        let by = if platform != random.one_in(40) {
            PLATFORM
        } else {
            OWNER
        };
        let index = Index {
            index: number,
            size,
            auth: auth.clone(),
            attributes,
            public: public.clone(),
            recipe,
            differs: self.counters_apart && kind == COUNTER,
        };
        let step = Step::new(0x12A)
            .fixed(by)
            .auth(self.hierarchy_auth(random, by))
            .blob(auth)
            .each_blob(&public);
        step.then(move |generator, _| generator.indices.push(index))
    }

    /// An ordinary index of the owner's with nothing special about it; an old one goes away.
    pub(super) fn define_plain(
        &mut self,
        random: &mut Random,
        number: u32,
        size: u16,
        auth: Vec<u8>,
        then: impl FnOnce(&mut Self, &Answer) + 'static,
    ) -> Step {
        if self.indices.iter().any(|index| index.index == number) {
            return self.undefine(random, number);
        }
        let attributes: u32 = 0x0006_0006 | 1 << 25;
        let public = [
            &number.to_be_bytes()[..],
            &[0, 0x0B],
            &attributes.to_be_bytes(),
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        let index = Index {
            index: number,
            size,
            auth: auth.clone(),
            attributes,
            public: both(public.clone()),
            recipe: None,
            differs: false,
        };
        Step::new(0x12A)
            .fixed(OWNER)
            .auth(self.hierarchy_auth(random, OWNER))
            .blob(auth)
            .blob(public)
            .then(move |generator, answer| {
                generator.indices.push(index);
                then(generator, answer);
            })
    }

    /// TPM2_NV_UndefineSpace, or with a policy TPM2_NV_UndefineSpaceSpecial.
    pub(super) fn undefine(&mut self, random: &mut Random, number: u32) -> Step {
        let Some(index) = self
            .indices
            .iter()
            .find(|index| index.index == number)
            .cloned()
        else {
            return self.nv_define(random);
        };
        if index.has(1 << 10)
            && let Some(recipe) = index.recipe.clone()
        {
            let value = index.auth.clone();
            return self.with_policy(
                random,
                &recipe,
                number,
                value,
                move |generator, random, auth| {
                    let mut step = Step::new(0x11F)
                        .handle(index.handle())
                        .fixed(PLATFORM)
                        .auth(auth);
                    step = step.auth(generator.hierarchy_auth(random, PLATFORM));
                    Some(step.then(move |generator, _| generator.forget(both(number))))
                },
            );
        }
        let by = if index.has(NV_PLATFORM_CREATE) != random.one_in(15) {
            PLATFORM
        } else {
            OWNER
        };
        Step::new(0x122)
            .fixed(by)
            .handle(index.handle())
            .auth(self.hierarchy_auth(random, by))
            .then(move |generator, _| generator.forget(both(number)))
    }
}
