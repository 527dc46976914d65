//! Uses of NV indices.

use super::{
    Generator,
    model::{Index, NV_WRITTEN, OWNER, PLATFORM},
};
use crate::{
    authorize::Auth,
    random::Random,
    step::{ENGINE, Handle, Step, both},
};

const PIN: std::ops::RangeInclusive<u32> = 8..=9;

impl Generator {
    /// Who may read (`shift` 16) or write (0) an index, with the value.
    pub(super) fn nv_authority(
        &self,
        random: &mut Random,
        index: &Index,
        shift: u32,
    ) -> (Handle, Vec<u8>) {
        let mut choices = Vec::new();
        if index.has(1 << (shift + 2)) {
            choices.push((index.handle(), index.auth.clone()));
        }
        if index.has(1 << (shift + 1)) {
            choices.push((Handle::fixed(OWNER), self.value(OWNER)));
        }
        if index.has(1 << shift) {
            choices.push((Handle::fixed(PLATFORM), self.value(PLATFORM)));
        }
        if choices.is_empty() || random.one_in(25) {
            choices = vec![
                (index.handle(), index.auth.clone()),
                (Handle::fixed(OWNER), self.value(OWNER)),
                (Handle::fixed(PLATFORM), self.value(PLATFORM)),
            ];
        }
        random
            .choose(&choices)
            .cloned()
            .unwrap_or_else(|| (Handle::fixed(OWNER), Vec::new()))
    }

    /// A command on an index, authorized by value or by its policy.
    fn with_index(
        &mut self,
        random: &mut Random,
        index: Index,
        code: u32,
        shift: u32,
        rest: impl FnOnce(Step) -> Step + 'static,
    ) -> Step {
        let handle = index.handle();
        if index.has(1 << (shift + 3))
            && random.one_in(2)
            && let Some(recipe) = index.recipe.clone()
        {
            let value = index.auth.clone();
            return self.with_policy(
                random,
                &recipe,
                index.index,
                value,
                move |generator, _, auth| {
                    let handle = generator
                        .indices
                        .iter()
                        .find(|known| known.index == index.index)?
                        .handle();
                    Some(rest(
                        Step::new(code)
                            .handle(handle.clone())
                            .handle(handle)
                            .auth(auth),
                    ))
                },
            );
        }
        let (entity, value) = self.nv_authority(random, &index, shift);
        let auth = self.auth(random, entity.handle[ENGINE], &value);
        rest(Step::new(code).handle(entity).handle(handle).auth(auth))
    }

    pub(super) fn nv_use(&mut self, random: &mut Random) -> Step {
        let Some(index) = random.choose(&self.indices).cloned() else {
            return self.nv_define(random);
        };
        let number = index.index;
        match random.below(20) {
            0..7 => self.nv_write(random, index),
            7..12 => self.nv_read(random, index),
            12..14 => Step::new(0x169)
                .handle(index.handle())
                .then(move |generator, answer| {
                    if let Some(index) = generator
                        .indices
                        .iter_mut()
                        .find(|index| index.index == number)
                    {
                        index.public = answer.blob(0);
                        if let Some(attributes) = index.public[ENGINE].get(6..10) {
                            index.attributes = attributes.try_into().map_or(0, u32::from_be_bytes);
                        }
                    }
                }),
            14 => self.with_index(random, index, 0x138, 0, Self::look_again(number)),
            15 => self.with_index(random, index, 0x14F, 16, Self::look_again(number)),
            16 | 17 => self.undefine(random, number),
            18 => self.nv_change_auth(random, index),
            _ => {
                let by = random.pick(&[OWNER, PLATFORM]);
                let step = Step::new(0x132)
                    .fixed(by)
                    .auth(self.hierarchy_auth(random, by));
                step.then(|generator, _| {
                    let numbers: Vec<_> = generator
                        .indices
                        .iter()
                        .filter(|index| index.has(1 << 15))
                        .map(|index| index.index)
                        .collect();
                    for number in numbers {
                        generator.look(number);
                    }
                })
            }
        }
    }

    /// After a lock: what the attributes, and so the name, are now.
    fn look_again(number: u32) -> impl FnOnce(Step) -> Step {
        move |step| step.then(move |generator, _| generator.look(number))
    }

    /// Plans to read an index's public area.
    pub(super) fn look(&mut self, number: u32) {
        self.soon(move |generator, _| {
            let index = generator
                .indices
                .iter()
                .find(|index| index.index == number)?;
            Some(
                Step::new(0x169)
                    .handle(index.handle())
                    .then(move |generator, answer| {
                        if let Some(index) = generator
                            .indices
                            .iter_mut()
                            .find(|index| index.index == number)
                        {
                            index.public = answer.blob(0);
                            if let Some(attributes) = index.public[ENGINE].get(6..10) {
                                index.attributes =
                                    attributes.try_into().map_or(0, u32::from_be_bytes);
                            }
                        }
                    }),
            )
        });
    }

    fn nv_write(&mut self, random: &mut Random, index: Index) -> Step {
        let (number, was_written) = (index.index, index.has(NV_WRITTEN));
        let written = move |step: Step| {
            step.then(move |generator, _| {
                if let Some(index) = generator
                    .indices
                    .iter_mut()
                    .find(|index| index.index == number)
                    && !was_written
                {
                    index.set(NV_WRITTEN);
                }
            })
        };
        let kind = if random.one_in(25) {
            random.below(5) as u32
        } else {
            index.kind()
        };
        match kind {
            1 => self.with_index(random, index, 0x134, 0, written),
            2 => {
                let bits = 1u64 << random.below(64) | 1 << random.below(64);
                self.with_index(random, index, 0x135, 0, move |step| written(step.u64(bits)))
            }
            4 => {
                let size = random.pick(&[0, 10, 64, 1024]);
                let data = random.bytes(size);
                self.with_index(random, index, 0x136, 0, move |step| {
                    written(step.blob(data))
                })
            }
            kind => {
                let whole = usize::from(index.size);
                // What no one wrote of a PIN index is not defined (Part 1, 37.2.8).
                let first_pin = PIN.contains(&index.kind()) && !was_written;
                let size = if !first_pin && random.one_in(6) {
                    random.below(whole + 2)
                } else {
                    whole.min(1024)
                };
                let mut data = random.bytes(size);
                if PIN.contains(&kind) && data.len() == 8 {
                    // A few uses.
                    data = [
                        0,
                        0,
                        0,
                        random.below(2) as u8,
                        0,
                        0,
                        0,
                        random.below(6) as u8,
                    ]
                    .to_vec();
                }
                let offset = match random.below(12) {
                    0 if !first_pin => random.pick(&[1u16, 4, 2048, 0xFFFF]),
                    1 => (whole - size.min(whole)) as u16,
                    _ => 0,
                };
                self.with_index(random, index, 0x137, 0, move |mut step| {
                    step.intact = first_pin;
                    written(step.blob(data).u16(offset))
                })
            }
        }
    }

    fn nv_read(&mut self, random: &mut Random, index: Index) -> Step {
        let whole = index.size;
        let size = if random.one_in(8) {
            random.pick(&[0, 1, 1025, 2048])
        } else {
            whole.min(1024)
        };
        let offset = match random.below(12) {
            0 => random.pick(&[1u16, 4, 2048, 0xFFFF]),
            1 => whole.saturating_sub(size),
            _ => 0,
        };
        let differs = index.differs;
        self.with_index(random, index, 0x14E, 16, move |step| {
            step.u16(size).u16(offset).differing(differs)
        })
    }

    /// TPM2_NV_ChangeAuth: only a policy can allow it.
    fn nv_change_auth(&mut self, random: &mut Random, index: Index) -> Step {
        let value = random.pick(super::model::PASSWORDS).to_vec();
        let number = index.index;
        let finish = move |index: &Index, auth: Auth| {
            let mut step = Step::new(0x13B)
                .handle(index.handle())
                .auth(auth)
                .blob(&value);
            step.new_auth = Some(value.clone());
            step.then(move |generator, _| {
                if let Some(index) = generator
                    .indices
                    .iter_mut()
                    .find(|index| index.index == number)
                {
                    index.auth = value;
                }
            })
        };
        let old = index.auth.clone();
        match index.recipe.clone() {
            Some(recipe) if recipe.code == Some(0x13B) || random.one_in(10) => {
                self.with_policy(random, &recipe, number, old, move |_, _, auth| {
                    Some(finish(&index, auth))
                })
            }
            _ if random.one_in(4) => {
                let auth = self.auth(random, number, &old);
                finish(&index, auth)
            }
            _ => self.define_changeable(random),
        }
    }

    /// An index whose policy allows TPM2_NV_ChangeAuth.
    fn define_changeable(&mut self, random: &mut Random) -> Step {
        let recipes: Vec<_> = self
            .recipes
            .iter()
            .filter(|recipe| matches!(recipe.code, Some(0x13B | 0x11F)))
            .cloned()
            .collect();
        let Some(recipe) = random.choose(&recipes).cloned() else {
            let code = random.pick(&[0x13B, 0x11F]);
            let assertion = super::model::Assertion::of(Step::new(0x16C).u32(code));
            return self.try_recipe(
                random,
                vtpm::crypto::HashAlg::Sha256,
                vec![assertion],
                Some(code),
                0,
            );
        };
        let number = 0x0150_0020 + random.below(2) as u32;
        if self.indices.iter().any(|index| index.index == number) {
            return self.undefine(random, number);
        }
        // Of the platform, with policyDelete where it is for that.
        let mut attributes: u32 = 0x4007_0007 | 1 << 25;
        if recipe.code == Some(0x11F) {
            attributes |= 1 << 10;
        }
        let public = recipe.digest.clone().map(|digest| {
            [
                &number.to_be_bytes()[..],
                &recipe.alg.id().to_be_bytes(),
                &attributes.to_be_bytes(),
                &crate::step::blob(&digest),
                &[0, 8],
            ]
            .concat()
        });
        let index = Index {
            index: number,
            size: 8,
            auth: Vec::new(),
            attributes,
            public: public.clone(),
            recipe: Some(recipe),
            differs: false,
        };
        Step::new(0x12A)
            .fixed(PLATFORM)
            .auth(self.hierarchy_auth(random, PLATFORM))
            .u16(0)
            .each_blob(&public)
            .then(move |generator, _| {
                generator.forget(both(number));
                generator.indices.push(index);
            })
    }
}
