//! The first keys, put in by the owner and not by the guest.

use super::Service;
use super::commit::Update;
use crate::rules::SecureBootVariable;
use crate::storage::Storage;
use crate::variable::{Key, Variable};
use crate::{Attributes, EfiTime, Status, bytes, guids, siglist};

/// Values for the Secure Boot variables: signature lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitialSet<'a> {
    pub pk: &'a [u8],
    pub kek: &'a [u8],
    pub db: &'a [u8],
    /// May be empty, and is then not enrolled; so are the next two.
    pub dbx: &'a [u8],
    pub dbt: &'a [u8],
    pub dbr: &'a [u8],
    /// Time stamp of all of them. Updates have to be later.
    pub time: EfiTime,
}

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
    /// `EFI_INVALID_PARAMETER` where a value is no signature list for its variable, or PK or
    /// KEK is empty; `EFI_DEVICE_ERROR`, `EFI_OUT_OF_RESOURCES`. Nothing has changed then.
    pub fn enroll(&mut self, set: &InitialSet<'_>) -> Result<Enrolled, Status> {
        if self
            .variables()
            .any(|variable| SecureBootVariable::of(&variable.key).is_some())
        {
            return Ok(Enrolled::KeysPresent);
        }
        let mut updates = self.follow_pk(true)?;
        for (guid, name, value, needed) in [
            (guids::GLOBAL, "PK", set.pk, true),
            (guids::GLOBAL, "KEK", set.kek, true),
            (guids::IMAGE_SECURITY_DATABASE, "db", set.db, false),
            (guids::IMAGE_SECURITY_DATABASE, "dbx", set.dbx, false),
            (guids::IMAGE_SECURITY_DATABASE, "dbt", set.dbt, false),
            (guids::IMAGE_SECURITY_DATABASE, "dbr", set.dbr, false),
        ] {
            if value.is_empty() && !needed {
                continue;
            }
            bytes::push(
                &mut updates,
                Update::Put(initial(guid, name, value, set.time)?),
            )?;
        }
        self.commit(updates)?;
        Ok(Enrolled::Yes)
    }
}

fn initial(guid: uguid::Guid, name: &str, value: &[u8], time: EfiTime) -> Result<Variable, Status> {
    let key = Key::new(guid, name)?;
    let kind = SecureBootVariable::of(&key).ok_or(Status::INVALID_PARAMETER)?;
    if value.is_empty() || !time.is_time_stamp() || siglist::check(kind, value).is_err() {
        return Err(Status::INVALID_PARAMETER);
    }
    Ok(Variable {
        key,
        attributes: Attributes::SECURE_BOOT,
        time,
        data: bytes::copy(value)?,
        owner: None,
    })
}
