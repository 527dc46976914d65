//! Objects that move from parent to parent, and credentials.

use super::{
    Generator,
    create::load,
    external::Outside,
    model::{ADMIN_WITH_POLICY, Created, NULL, Object},
    templates::Kind,
};
use crate::{
    random::Random,
    step::{ENGINE, Handle, Pair, Step, blob, both},
};

/// What Duplicate gives and Import takes.
#[derive(Clone)]
struct Moved {
    object: Object,
    /// Key of the inner wrapper, empty for none.
    key: Pair<Vec<u8>>,
    /// TPMT_SYM_DEF_OBJECT
    symmetric: Vec<u8>,
    duplicate: Pair<Vec<u8>>,
    /// Seed of the outer wrapper, encrypted.
    seed: Pair<Vec<u8>>,
}

impl Generator {
    fn parent(&self, random: &mut Random) -> Option<Object> {
        self.object(random, |object| {
            object.kind == Kind::Storage && !object.public_only
        })
    }

    pub(super) fn duplicate(&mut self, random: &mut Random) -> Step {
        match random.below(5) {
            0 => self.credential(random),
            1 => self.import_outside(random),
            2 => self.garbage(random),
            _ => self.duplicate_object(random),
        }
    }

    fn duplicate_object(&mut self, random: &mut Random) -> Step {
        let object = self.object(random, |object| {
            object
                .recipe
                .as_ref()
                .is_some_and(|recipe| recipe.code == Some(0x14B))
        });
        let object = object.or_else(|| {
            if random.one_in(6) {
                self.object(random, |_| true)
            } else {
                None
            }
        });
        let Some(object) = object else {
            return self.make_duplicable(random);
        };
        let parent = if random.one_in(3) {
            None
        } else {
            self.object(random, |object| object.kind == Kind::Storage)
        };
        let symmetric = random.pick(&[
            &[0, 0x10][..],
            &[0, 6, 0, 128, 0, 0x43],
            &[0, 6, 1, 0, 0, 0x43],
        ]);
        let given = symmetric.len() > 2 && random.one_in(3);
        let key = if given {
            random.bytes(if symmetric[2] == 1 { 32 } else { 16 })
        } else {
            Vec::new()
        };
        self.with_object(random, object, 0x14B, move |_, _, object, auth| {
            let new_parent = parent
                .as_ref()
                .map_or_else(|| Handle::fixed(NULL), |parent| parent.handle.clone());
            Step::new(0x14B)
                .handle(object.handle.clone())
                .handle(new_parent)
                .auth(auth)
                .blob(&key)
                .bytes(symmetric)
                .then(move |generator, answer| {
                    let shown = answer.blob(0);
                    let moved = Moved {
                        object,
                        key: if given { both(key) } else { shown },
                        symmetric: symmetric.to_vec(),
                        duplicate: answer.blob(1),
                        seed: answer.blob(2),
                    };
                    generator.soon(move |generator, random| {
                        if random.one_in(3) {
                            generator.rewrap(random, moved, parent)
                        } else {
                            let parent = parent.or_else(|| generator.parent(random))?;
                            Some(generator.import(random, moved, parent))
                        }
                    });
                })
        })
    }

    /// An object whose policy lets it be duplicated; first such a policy.
    fn make_duplicable(&mut self, random: &mut Random) -> Step {
        let recipes: Vec<_> = self
            .recipes
            .iter()
            .filter(|recipe| recipe.code == Some(0x14B))
            .cloned()
            .collect();
        let Some(recipe) = random.choose(&recipes).cloned() else {
            let assertion = super::model::Assertion::of(Step::new(0x16C).u32(0x14B));
            return self.try_recipe(
                random,
                vtpm::crypto::HashAlg::Sha256,
                vec![assertion],
                Some(0x14B),
                0,
            );
        };
        let Outside { mut wanted, .. } = self.outside(random, None);
        wanted.template.name_alg = recipe.alg.id();
        wanted.recipe = Some(recipe);
        let hierarchy = random.pick(super::model::HIERARCHIES);
        wanted.template.attributes |= if wanted.kind == Kind::Sealed {
            0
        } else {
            1 << 5
        };
        wanted.template.attributes &= !ADMIN_WITH_POLICY;
        wanted.template.unique = if wanted.template.algorithm == 0x23 {
            vec![0; 4]
        } else {
            vec![0; 2]
        };
        let data = wanted.data.clone().unwrap_or_default();
        let step = Step::new(0x131)
            .differing(true)
            .fixed(hierarchy)
            .auth(self.hierarchy_auth(random, hierarchy))
            .blob(super::templates::sensitive(&wanted.auth, &data))
            .each_blob(&wanted.public())
            .blob(b"")
            .u32(0);
        step.then(move |generator, answer| {
            generator.objects.push(Object {
                handle: Handle {
                    handle: answer.handle,
                    name: super::external::last_blob(&answer.parameters),
                },
                kind: wanted.kind,
                auth: wanted.auth,
                public: answer.blob(0),
                recipe: wanted.recipe,
                data: wanted.data,
                public_only: false,
                hierarchy,
                parent: None,
                creation: None,
            });
            generator.soon(|generator, random| Some(generator.duplicate_object(random)));
        })
    }

    /// TPM2_Rewrap from the old parent, or none, to another.
    fn rewrap(&mut self, random: &mut Random, moved: Moved, old: Option<Object>) -> Option<Step> {
        let new = if random.one_in(4) {
            None
        } else {
            self.parent(random)
        };
        let old_handle = old
            .as_ref()
            .map_or_else(|| Handle::fixed(NULL), |old| old.handle.clone());
        let auth = match &old {
            Some(old) => self.auth(random, old.handle.handle[ENGINE], &old.auth),
            None => crate::authorize::Auth::Password(Vec::new()),
        };
        let new_handle = new
            .as_ref()
            .map_or_else(|| Handle::fixed(NULL), |new| new.handle.clone());
        let step = Step::new(0x152)
            .handle(old_handle)
            .handle(new_handle)
            .auth(auth)
            .each_blob(&moved.duplicate)
            .each_blob(&moved.object.handle.name)
            .each_blob(&moved.seed);
        Some(step.then(move |generator, answer| {
            let moved = Moved {
                duplicate: answer.blob(0),
                seed: answer.blob(1),
                ..moved
            };
            generator.soon(move |generator, random| {
                let parent = new.or_else(|| generator.parent(random))?;
                Some(generator.import(random, moved, parent))
            });
        }))
    }

    /// TPM2_Import, then TPM2_Load.
    fn import(&mut self, random: &mut Random, moved: Moved, parent: Object) -> Step {
        self.with_object(random, parent, 0x156, move |_, _, parent, auth| {
            Step::new(0x156)
                .handle(parent.handle.clone())
                .auth(auth)
                .each_blob(&moved.key)
                .each_blob(&moved.object.public)
                .each_blob(&moved.duplicate)
                .each_blob(&moved.seed)
                .bytes(&moved.symmetric)
                .then(move |generator, answer| {
                    let created = Created {
                        private: answer.blob(0),
                        public: moved.object.public,
                        kind: moved.object.kind,
                        auth: moved.object.auth,
                        recipe: moved.object.recipe,
                        data: moved.object.data,
                        parent: parent.handle.name.clone(),
                        creation: None,
                    };
                    generator.soon(move |generator, random| {
                        let auth =
                            generator.auth(random, parent.handle.handle[ENGINE], &parent.auth);
                        Some(load(&created, parent, auth))
                    });
                })
        })
    }

    /// What was made outside comes in without any wrapper.
    fn import_outside(&mut self, random: &mut Random) -> Step {
        let Some(parent) = self.parent(random) else {
            return self.provide(random, Kind::Storage);
        };
        let Outside { wanted, sensitive } = self.outside(random, None);
        let moved = Moved {
            object: Object {
                handle: Handle::fixed(NULL),
                kind: wanted.kind,
                auth: wanted.auth.clone(),
                public: wanted.public(),
                recipe: wanted.recipe.clone(),
                data: wanted.data.clone(),
                public_only: false,
                hierarchy: parent.hierarchy,
                parent: None,
                creation: None,
            },
            key: both(Vec::new()),
            symmetric: vec![0, 0x10],
            duplicate: both(blob(&sensitive)),
            seed: both(Vec::new()),
        };
        self.import(random, moved, parent)
    }

    /// TPM2_MakeCredential, then TPM2_ActivateCredential.
    fn credential(&mut self, random: &mut Random) -> Step {
        let Some(key) = self.object(random, |object| object.kind == Kind::Storage) else {
            return self.provide(random, Kind::Storage);
        };
        let Some(other) = self.object(random, |object| !object.public_only) else {
            return self.provide(random, Kind::Storage);
        };
        let limit = key.name_alg().map_or(32, vtpm::crypto::HashAlg::size);
        let size = if random.one_in(12) {
            random.pick(&[0, 33, 64])
        } else {
            1 + random.below(limit)
        };
        let secret = random.bytes(size);
        Step::new(0x168)
            .handle(key.handle.clone())
            .blob(&secret)
            .each_blob(&other.handle.name)
            .then(move |generator, answer| {
                let (credential, sent) = (answer.blob(0), answer.blob(1));
                generator.soon(move |generator, random| {
                    let wrong = random.one_in(12);
                    Some(generator.with_object(
                        random,
                        other,
                        0x147,
                        move |generator, random, other, auth| {
                            let key_auth =
                                generator.auth(random, key.handle.handle[ENGINE], &key.auth);
                            let step = Step::new(0x147)
                                .handle(other.handle)
                                .handle(key.handle)
                                .auth(auth)
                                .auth(key_auth);
                            let step = step.each_blob(&credential).each_blob(&sent);
                            if wrong { step } else { step.expecting(&secret) }
                        },
                    ))
                });
            })
    }

    /// Blobs that were never wrapped.
    fn garbage(&mut self, random: &mut Random) -> Step {
        let (Some(object), Some(parent)) = (self.object(random, |_| true), self.parent(random))
        else {
            return self.provide(random, Kind::Storage);
        };
        let auth = self.auth(random, parent.handle.handle[ENGINE], &parent.auth);
        match random.below(4) {
            0 => Step::new(0x156)
                .handle(parent.handle)
                .auth(auth)
                .u16(0)
                .each_blob(&object.public)
                .blob(random.bytes(60))
                .u16(0)
                .u16(0x10),
            1 => Step::new(0x147)
                .handle(object.handle.clone())
                .handle(parent.handle)
                .auth(self.auth(random, object.handle.handle[ENGINE], &object.auth))
                .auth(auth)
                .blob(random.bytes(50))
                .blob(random.bytes(100)),
            2 => Step::new(0x157)
                .handle(parent.handle)
                .auth(auth)
                .blob(random.bytes(80))
                .each_blob(&object.public),
            _ => Step::new(0x152)
                .handle(parent.handle)
                .fixed(NULL)
                .auth(auth)
                .blob(random.bytes(70))
                .each_blob(&object.handle.name)
                .blob(random.bytes(68)),
        }
    }
}
