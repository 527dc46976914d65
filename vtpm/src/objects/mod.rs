//! Objects: what a public area may say, how keys are made, loaded and wrapped (Part 1, 23 to 27).

pub mod check;
pub mod create;
pub mod protect;
pub mod secret;

use alloc::{sync::Arc, vec::Vec};

use crate::{
    crypto,
    rc::{Rc, Result},
    state::{
        State,
        object::{Object, Slot},
    },
    wire::public::{Public, Sensitive},
};

/// Qualified name of an object below a parent with qualified name `parent`.
#[must_use]
pub fn qualified_name(parent: &[u8], public: &Public) -> Vec<u8> {
    let Some(hash) = public.name_alg else {
        return Vec::new();
    };
    let mut name = hash.id().to_be_bytes().to_vec();
    name.extend_from_slice(&crypto::hash(hash, &[parent, &public.name()]));
    name
}

/// An object of `hierarchy` below a parent, or below the hierarchy itself.
#[must_use]
pub fn assemble(
    public: Public,
    sensitive: Option<Sensitive>,
    parent: Option<&Object>,
    hierarchy: u32,
) -> Object {
    let above = parent.map_or_else(|| hierarchy.to_be_bytes().to_vec(), |p| p.qualified.clone());
    Object {
        name: public.name(),
        qualified: qualified_name(&above, &public),
        public,
        sensitive,
        hierarchy: parent.map_or(hierarchy, |parent| parent.hierarchy),
        external: false,
        primary: false,
    }
}

/// Puts the object into a transient slot.
///
/// # Errors
/// `TPM_RC_OBJECT_MEMORY`
pub fn add(state: &mut State, object: Object) -> Result<u32> {
    state.add_slot(Slot::Object(Arc::new(object)))
}

/// The sensitive area of an object.
///
/// # Errors
/// `TPM_RC_KEY` when only the public area is loaded.
pub fn sensitive(object: &Object) -> Result<&Sensitive> {
    object.sensitive.as_ref().ok_or(Rc::KEY)
}
