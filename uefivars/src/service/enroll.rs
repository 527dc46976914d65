//! The first keys, put in by the owner and not by the guest.

use super::Service;
use super::commit::Update;
use crate::rules::SecureBootVariable;
use crate::storage::Storage;
use crate::variable::{Key, Variable};
use crate::{Attributes, InitialSet, Status, bytes};

/// What became of an initial set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// All of it is stored, and counts.
    Yes,
    /// There are keys already, and they stay as they are.
    KeysPresent,
}

impl<S: Storage> Service<S> {
    /// Enrols an initial set, all of it at once. Never changes what is there: where any of
    /// the Secure Boot variables has a value, nothing happens.
    ///
    /// # Errors
    /// `EFI_INVALID_PARAMETER` where [`InitialSet::check`] finds something wrong; `EFI_DEVICE_ERROR`, `EFI_OUT_OF_RESOURCES`. Nothing has changed then.
    pub fn enroll(&mut self, set: &InitialSet<'_>) -> Result<Enrolled, Status> {
        if self
            .variables()
            .any(|variable| SecureBootVariable::of(&variable.key).is_some())
        {
            return Ok(Enrolled::KeysPresent);
        }
        set.check().map_err(|error| {
            log::debug!("initial set: {error}");
            Status::INVALID_PARAMETER
        })?;
        let mut updates = self.follow_pk(true)?;
        for (guid, name, value) in set.variables() {
            let variable = Variable {
                key: Key::new(guid, name)?,
                attributes: Attributes::SECURE_BOOT,
                time: set.time,
                data: bytes::copy(value)?,
                owner: None,
            };
            bytes::push(&mut updates, Update::Put(variable))?;
        }
        self.commit(updates)?;
        Ok(Enrolled::Yes)
    }
}
