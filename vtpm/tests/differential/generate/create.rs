//! Makes and loads objects.

use std::rc::Rc;

use super::{
    Generator,
    model::{
        ADMIN_WITH_POLICY, Created, Creation, HIERARCHIES, Object, PASSWORDS, Recipe,
        USER_WITH_AUTH,
    },
    pcr::selection,
    templates::{self, Kind, Template},
};
use crate::{
    random::Random,
    step::{Answer, ENGINE, Handle, Pair, Step, both},
};

/// A new object, as the generator wants it.
pub struct Wanted {
    pub kind: Kind,
    pub auth: Vec<u8>,
    pub data: Option<Vec<u8>>,
    pub recipe: Option<Rc<Recipe>>,
    pub template: Template,
}

impl Wanted {
    pub fn public(&self) -> Pair<Vec<u8>> {
        let policy = self
            .recipe
            .as_ref()
            .map_or_else(|| both(Vec::new()), |recipe| recipe.digest.clone());
        self.template.with_policies(&policy)
    }
}

impl Generator {
    /// Something to make.
    pub(super) fn wanted(&self, random: &mut Random, kind: Kind) -> Wanted {
        let mut template = templates::template(random, kind);
        let recipe = if random.one_in(3) {
            self.recipe(random, template.name_alg, None)
        } else {
            None
        };
        if let Some(recipe) = &recipe {
            if random.one_in(3) {
                template.attributes &= !USER_WITH_AUTH;
            }
            match recipe.code {
                Some(0x14B) => template = template.duplicable(),
                Some(0x147 | 0x148 | 0x150) => template.attributes |= ADMIN_WITH_POLICY,
                _ => {}
            }
        }
        let data = templates::data(random, kind);
        Wanted {
            kind,
            auth: random.pick(PASSWORDS).to_vec(),
            data: (kind == Kind::Sealed).then_some(data),
            recipe,
            template,
        }
    }

    pub(super) fn create_primary(&mut self, random: &mut Random) -> Step {
        let kind = if random.one_in(2) {
            Kind::Storage
        } else {
            templates::kind(random)
        };
        self.primary_of(random, kind)
    }

    pub(super) fn primary_of(&mut self, random: &mut Random, kind: Kind) -> Step {
        let wanted = self.wanted(random, kind);
        let hierarchy = random.pick(HIERARCHIES);
        // Both make a key of their own.
        let step = Step::new(0x131)
            .differing(true)
            .fixed(hierarchy)
            .auth(self.hierarchy_auth(random, hierarchy));
        let data = wanted
            .data
            .clone()
            .unwrap_or_else(|| templates::data(random, kind));
        let step = step
            .blob(templates::sensitive(&wanted.auth, &data))
            .each_blob(&wanted.public())
            .blob(random.pick(&[&b""[..], b"outside"]));
        selection(step, random).then(move |generator, answer| {
            let mut creation = creation(&answer.after(2));
            let name = super::external::last_blob(&answer.parameters);
            if name.iter().any(Vec::is_empty) {
                creation = None;
            }
            generator.add(
                wanted,
                answer.handle,
                answer.blob(0),
                name,
                hierarchy,
                None,
                creation,
            );
        })
    }

    /// Remembers an object that was loaded.
    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        wanted: Wanted,
        handle: Pair<u32>,
        public: Pair<Vec<u8>>,
        name: Pair<Vec<u8>>,
        hierarchy: u32,
        parent: Option<Pair<Vec<u8>>>,
        creation: Option<Creation>,
    ) {
        self.objects.push(Object {
            handle: Handle { handle, name },
            kind: wanted.kind,
            auth: wanted.auth,
            public,
            recipe: wanted.recipe,
            data: wanted.data,
            public_only: false,
            hierarchy,
            parent,
            creation,
        });
    }

    pub(super) fn create(&mut self, random: &mut Random) -> Step {
        if random.one_in(6) {
            return self.create_loaded(random);
        }
        let Some(parent) = self.object(random, |object| {
            object.kind == Kind::Storage && !object.public_only
        }) else {
            return self.provide(random, Kind::Storage);
        };
        let kind = templates::kind(random);
        let wanted = self.wanted(random, kind);
        let data = wanted
            .data
            .clone()
            .unwrap_or_else(|| templates::data(random, kind));
        let outside = random.pick(&[&b""[..], b"outside"]);
        self.with_object(random, parent, 0x153, move |_, random, parent, auth| {
            let step = Step::new(0x153)
                .differing(true)
                .handle(parent.handle.clone())
                .auth(auth)
                .blob(templates::sensitive(&wanted.auth, &data))
                .each_blob(&wanted.public())
                .blob(outside);
            selection(step, random).then(move |generator, answer| {
                generator.created.push(Created {
                    private: answer.blob(0),
                    public: answer.blob(1),
                    kind,
                    auth: wanted.auth,
                    recipe: wanted.recipe,
                    data: wanted.data,
                    parent: parent.handle.name.clone(),
                    creation: creation(&answer.after(3)),
                });
                if generator.created.len() > 12 {
                    generator.created.remove(0);
                }
            })
        })
    }

    fn create_loaded(&mut self, random: &mut Random) -> Step {
        let derivation = random.one_in(2);
        let parent = self.object(random, |object| {
            !object.public_only
                && object.kind
                    == if derivation {
                        Kind::Derivation
                    } else {
                        Kind::Storage
                    }
        });
        let kind = templates::kind(random);
        let mut wanted = self.wanted(random, kind);
        if derivation && !random.one_in(10) {
            // Label and context in the place of the unique part; what is sealed is derived, too.
            wanted.template = wanted.template.outside();
            wanted.template.unique = [
                crate::step::blob(b"label"),
                crate::step::blob(random.pick(&[&b""[..], b"context"])),
            ]
            .concat();
        }
        let data = if derivation {
            Vec::new()
        } else {
            wanted.data.clone().unwrap_or_default()
        };
        if derivation {
            wanted.data = None;
        }
        let finish = move |step: Step, wanted: Wanted, hierarchy, parent: Option<Pair<Vec<u8>>>| {
            step.differing(true)
                .blob(templates::sensitive(&wanted.auth, &data))
                .each_blob(&wanted.public())
                .then(move |generator, answer: &Answer| {
                    generator.add(
                        wanted,
                        answer.handle,
                        answer.blob(1),
                        answer.blob(2),
                        hierarchy,
                        parent,
                        None,
                    )
                })
        };
        match parent {
            Some(parent) => self.with_object(random, parent, 0x191, move |_, _, parent, auth| {
                let name = parent.handle.name.clone();
                finish(
                    Step::new(0x191).handle(parent.handle).auth(auth),
                    wanted,
                    parent.hierarchy,
                    Some(name),
                )
            }),
            None => {
                let hierarchy = random.pick(HIERARCHIES);
                let step = Step::new(0x191)
                    .fixed(hierarchy)
                    .auth(self.hierarchy_auth(random, hierarchy));
                finish(step, wanted, hierarchy, None)
            }
        }
    }

    pub(super) fn load(&mut self, random: &mut Random) -> Step {
        let parents: Vec<_> = self
            .objects
            .iter()
            .filter(|object| object.kind == Kind::Storage && !object.public_only)
            .cloned()
            .collect();
        let fitting: Vec<_> = self
            .created
            .iter()
            .filter(|created| {
                random.one_in(20)
                    || parents
                        .iter()
                        .any(|parent| parent.handle.name == created.parent)
            })
            .cloned()
            .collect();
        let Some(created) = random.choose(&fitting).cloned() else {
            return self.create(random);
        };
        let parent = parents
            .iter()
            .find(|parent| parent.handle.name == created.parent);
        let Some(parent) = parent.or(parents.first()).cloned() else {
            return self.create(random);
        };
        self.with_object(random, parent, 0x157, move |_, _, parent, auth| {
            load(&created, parent, auth)
        })
    }
}

/// TPM2_Load
pub fn load(created: &Created, parent: Object, auth: crate::authorize::Auth) -> Step {
    let created = created.clone();
    Step::new(0x157)
        .handle(parent.handle.clone())
        .auth(auth)
        .each_blob(&created.private)
        .each_blob(&created.public)
        .then(move |generator, answer| {
            generator.objects.push(Object {
                handle: Handle {
                    handle: answer.handle,
                    name: answer.blob(0),
                },
                kind: created.kind,
                auth: created.auth,
                public: created.public,
                recipe: created.recipe,
                data: created.data,
                public_only: false,
                hierarchy: parent.hierarchy,
                parent: Some(parent.handle.name),
                creation: created.creation,
            });
        })
}

/// creationHash and creationTicket at the start of `rest`.
fn creation(rest: &Pair<Vec<u8>>) -> Option<Creation> {
    let mut hashes = both(Vec::new());
    let mut tickets = both(Vec::new());
    for side in [ENGINE, crate::step::REFERENCE] {
        let (hash, rest) = crate::step::split_blob(&rest[side])?;
        let digest = crate::step::split_blob(rest.get(6..)?)?.0.len();
        hashes[side] = hash.to_vec();
        tickets[side] = rest[..8 + digest].to_vec();
    }
    Some((hashes, tickets))
}
