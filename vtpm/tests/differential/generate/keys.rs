//! Uses of objects of any kind.

use vtpm::table::{self, Role};

use super::{
    Generator,
    create::load,
    model::{ADMIN_WITH_POLICY, Created, OWNER, Object, PASSWORDS, PLATFORM, USER_WITH_AUTH},
    templates::Kind,
};
use crate::{
    authorize::Auth,
    random::Random,
    step::{ENGINE, Step, both},
};

impl Generator {
    /// Some object that is wanted, or now and then any.
    pub(super) fn object(
        &self,
        random: &mut Random,
        wanted: impl Fn(&Object) -> bool,
    ) -> Option<Object> {
        let any = random.one_in(25);
        let all: Vec<_> = self
            .objects
            .iter()
            .filter(|object| any || wanted(object))
            .collect();
        random.choose(&all).map(|object| (*object).clone())
    }

    /// A command that the first handle's object authorizes: by value, or by its policy.
    pub(super) fn with_object(
        &mut self,
        random: &mut Random,
        object: Object,
        code: u32,
        build: impl FnOnce(&mut Self, &mut Random, Object, Auth) -> Step + 'static,
    ) -> Step {
        let role = table::find(code)
            .and_then(|command| command.handles.first())
            .map(|(_, role)| *role);
        let by_value = match role {
            Some(Role::Dup) => false,
            Some(Role::Admin) => !object.has(ADMIN_WITH_POLICY),
            _ => object.has(USER_WITH_AUTH),
        };
        let handle = object.handle.handle[ENGINE];
        if let Some(recipe) = object.recipe.clone()
            && (!by_value || random.one_in(3))
            && (recipe.code.is_none_or(|only| only == code) || random.one_in(10))
        {
            let value = object.auth.clone();
            return self.with_policy(
                random,
                &recipe,
                handle,
                value,
                move |generator, random, auth| Some(build(generator, random, object, auth)),
            );
        }
        let auth = self.auth(random, handle, &object.auth);
        build(self, random, object, auth)
    }

    pub(super) fn unseal(&mut self, random: &mut Random) -> Step {
        let Some(object) = self.object(random, |object| {
            object.kind == Kind::Sealed && !object.public_only
        }) else {
            return self.load(random);
        };
        self.with_object(random, object, 0x15E, |_, _, object, auth| {
            let step = Step::new(0x15E).handle(object.handle).auth(auth);
            match object.data {
                Some(data) => step.expecting(&data),
                None => step,
            }
        })
    }

    pub(super) fn object_use(&mut self, random: &mut Random) -> Step {
        let Some(object) = self.object(random, |_| true) else {
            return self.provide(random, Kind::Storage);
        };
        if random.one_in(2) {
            return Step::new(0x173).handle(object.handle);
        }
        let object = self
            .object(random, |object| object.parent.is_some())
            .unwrap_or(object);
        let born = object.parent.clone();
        let right = self
            .objects
            .iter()
            .find(|parent| Some(&parent.handle.name) == born.as_ref())
            .cloned();
        let parent = match right {
            Some(parent) if !random.one_in(10) => Some(parent),
            _ if random.one_in(4) => self.object(random, |object| object.kind == Kind::Storage),
            _ => None,
        };
        let Some(parent) = parent else {
            return self.load(random);
        };
        let value = random.pick(PASSWORDS).to_vec();
        self.with_object(random, object, 0x150, move |_, _, object, auth| {
            Step::new(0x150)
                .handle(object.handle.clone())
                .handle(parent.handle.clone())
                .auth(auth)
                .blob(&value)
                .then(move |generator, answer| {
                    let created = Created {
                        private: answer.blob(0),
                        public: object.public,
                        kind: object.kind,
                        auth: value,
                        recipe: object.recipe,
                        data: object.data,
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

    pub(super) fn persist(&mut self, random: &mut Random) -> Step {
        let persistent: Vec<_> = self
            .objects
            .iter()
            .filter(|object| object.is_persistent())
            .cloned()
            .collect();
        if random.one_in(3)
            && let Some(object) = random.choose(&persistent)
        {
            let handle = object.handle.handle;
            let hierarchy = if handle[ENGINE] >= 0x8180_0000 {
                PLATFORM
            } else {
                OWNER
            };
            return Step::new(0x120)
                .fixed(hierarchy)
                .handle(object.handle.clone())
                .auth(self.hierarchy_auth(random, hierarchy))
                .u32(handle[ENGINE])
                .then(move |generator, _| generator.forget(handle));
        }
        let wanted = |object: &Object| {
            !object.is_persistent() && !object.public_only && object.hierarchy != super::model::NULL
        };
        let Some(object) = self.object(random, wanted) else {
            return self.provide(random, Kind::Storage);
        };
        let platform = if random.one_in(10) {
            random.one_in(2)
        } else {
            object.hierarchy == PLATFORM
        };
        let hierarchy = if platform { PLATFORM } else { OWNER };
        let base = if platform != random.one_in(20) {
            0x8180_0000
        } else {
            0x8100_0000
        };
        let handle: u32 = base + random.below(3) as u32;
        Step::new(0x120)
            .fixed(hierarchy)
            .handle(object.handle.clone())
            .auth(self.hierarchy_auth(random, hierarchy))
            .u32(handle)
            .then(move |generator, _| {
                let mut object = object;
                object.handle.handle = both(handle);
                generator.objects.push(object);
            })
    }
}
