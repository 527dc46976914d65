//! Writing: SetVariable (UEFI 2.11, section 8.2.3).

use alloc::vec::Vec;

use super::commit::Update;
use super::{Backing, Service};
use crate::policy::Write;
use crate::rules::SecureBootVariable;
use crate::storage::Storage;
use crate::variable::{Key, MAX_DATA, Variable, cost};
use crate::{Attributes, EfiTime, Status, bytes, rules, siglist};

impl<S: Storage> Service<S> {
    /// Creates, changes, extends or deletes a variable on behalf of the guest. When this
    /// returns `Ok`, the change is stored.
    ///
    /// # Errors
    /// The status to answer with; nothing has changed then.
    pub fn set(&mut self, key: Key, attributes: Attributes, data: &[u8]) -> Result<(), Status> {
        self.settle()?;
        let deletes = attributes.no_access()
            || (data.is_empty() && !attributes.append() && !attributes.authenticated());
        if !attributes.no_access() || attributes.0 & !0x4f != 0 {
            attributes.check()?;
        }
        if rules::is_hidden(key.guid)
            || rules::is_status(&key)
            || (rules::is_firmware_only(&key) && self.phase.end_of_dxe)
        {
            return Err(Status::WRITE_PROTECTED);
        }
        if rules::is_mode_switch(&key) {
            return self.switch_mode(key.name.is("AuditMode"), attributes, data);
        }
        let place = self.position(&key);
        let old = place.map(|place| &self.entries[place].variable);
        self.check_phase(old, attributes, deletes)?;
        if let Some(old) = old
            && !attributes.no_access()
            && attributes.without_append() != old.attributes
        {
            return Err(Status::INVALID_PARAMETER);
        }
        if deletes {
            let (Some(place), Some(old)) = (place, old) else {
                return Err(Status::NOT_FOUND);
            };
            if old.attributes.authenticated() {
                return Err(Status::SECURITY_VIOLATION);
            }
            return self.delete(place);
        }
        if SecureBootVariable::of(&key) == Some(SecureBootVariable::Pk) && attributes.append() {
            return Err(Status::INVALID_PARAMETER);
        }
        // Attributes that a defined variable can not have: known before any signature is.
        let stored = attributes.without_append();
        let is_secure_boot = SecureBootVariable::of(&key).is_some();
        if is_secure_boot && stored != Attributes::SECURE_BOOT {
            return Err(Status::INVALID_PARAMETER);
        }

        let (time, payload, owner) = if attributes.authenticated() {
            let authorized = self.authorize(&key, attributes, data, old)?;
            (authorized.time, authorized.payload, authorized.owner)
        } else {
            (EfiTime::ZERO, data, None)
        };
        if payload.len() > MAX_DATA {
            return Err(Status::INVALID_PARAMETER);
        }
        if payload.is_empty() {
            if attributes.append() {
                return Ok(());
            }
            return self.delete(place.ok_or(Status::NOT_FOUND)?);
        }
        if let Some(kind) = SecureBootVariable::of(&key) {
            siglist::check(kind, payload).map_err(|_| Status::INVALID_PARAMETER)?;
        }
        let (time, data) = match old {
            Some(old) if attributes.append() => {
                let time = if old.time.order() > time.order() {
                    old.time
                } else {
                    time
                };
                (time, appended(&old.data, payload, is_secure_boot)?)
            }
            _ => (time, bytes::copy(payload)?),
        };
        let variable = Variable {
            key,
            attributes: stored,
            time,
            data,
            owner,
        };
        self.put(place, variable)
    }

    /// What a running operating system may not do any more.
    fn check_phase(
        &self,
        old: Option<&Variable>,
        attributes: Attributes,
        deletes: bool,
    ) -> Result<(), Status> {
        if !self.phase.runtime {
            return Ok(());
        }
        match old {
            Some(old) if old.attributes.runtime() && old.attributes.non_volatile() => Ok(()),
            Some(_) => Err(Status::WRITE_PROTECTED),
            None if deletes => Ok(()),
            None if attributes.runtime() && attributes.non_volatile() => Ok(()),
            None => Err(Status::INVALID_PARAMETER),
        }
    }

    fn delete(&mut self, place: usize) -> Result<(), Status> {
        let key = &self.entries[place].variable.key;
        self.check_policy(key, true, None)?;
        let is_pk = SecureBootVariable::of(key) == Some(SecureBootVariable::Pk);
        if rules::is_secure_boot_enable(key) && self.entries[place].backing == Backing::Derived {
            return Err(Status::WRITE_PROTECTED);
        }
        let mut updates = if is_pk {
            self.follow_pk(false)?
        } else {
            Vec::new()
        };
        bytes::push(&mut updates, Update::Remove(place))?;
        self.commit(updates)
    }

    fn put(&mut self, place: Option<usize>, variable: Variable) -> Result<(), Status> {
        let Variable {
            key,
            attributes,
            data,
            ..
        } = &variable;
        if data.len() > MAX_DATA {
            return Err(Status::OUT_OF_RESOURCES);
        }
        rules::check_defined(key, *attributes, data.len())?;
        if rules::is_secure_boot_enable(key) {
            self.check_secure_boot_enable(*attributes, data)?;
        }
        self.check_policy(key, place.is_some(), Some((*attributes, data.len())))?;
        self.check_quota(place, &variable)?;
        let is_pk = SecureBootVariable::of(key) == Some(SecureBootVariable::Pk);
        let mut updates = if is_pk {
            self.follow_pk(true)?
        } else {
            Vec::new()
        };
        bytes::push(&mut updates, Update::Put(variable))?;
        self.commit(updates)
    }

    fn check_secure_boot_enable(&self, attributes: Attributes, data: &[u8]) -> Result<(), Status> {
        if attributes != Attributes(0x03) || !matches!(data, [0 | 1]) {
            return Err(Status::INVALID_PARAMETER);
        }
        // Without PK there is nothing that it could switch.
        if self.is_open() || (data == [0] && self.config.enforce_secure_boot) {
            return Err(Status::WRITE_PROTECTED);
        }
        Ok(())
    }

    fn check_policy(
        &self,
        key: &Key,
        exists: bool,
        after: Option<(Attributes, usize)>,
    ) -> Result<(), Status> {
        if !self.phase.end_of_dxe {
            return Ok(());
        }
        let write = Write { key, exists, after };
        self.policies
            .check(write, |guid, name| self.raw_value(guid, name))
    }

    /// Refuses what takes more room than there is. What takes less than before is never
    /// refused.
    fn check_quota(&self, place: Option<usize>, variable: &Variable) -> Result<(), Status> {
        let quota = &self.config.quota;
        // What is derived takes no room; its first record does.
        let old = place
            .map(|place| &self.entries[place])
            .filter(|entry| entry.backing != Backing::Derived)
            .map(|entry| entry.variable.cost());
        let new = cost(variable.key.name.size(), variable.data.len());
        if old.is_some_and(|old| new <= old) {
            return Ok(());
        }
        let volatile = !variable.attributes.non_volatile();
        let used = self.used(volatile) - old.unwrap_or(0);
        let reserve = if self.phase.runtime {
            quota.boot_reserve_variables
        } else {
            0
        };
        let count = self
            .entries
            .iter()
            .filter(|entry| entry.backing != Backing::Derived)
            .count();
        if used + new > self.limit(volatile)
            || (old.is_none() && count + reserve >= quota.variables)
        {
            return Err(Status::OUT_OF_RESOURCES);
        }
        Ok(())
    }
}

/// What appending makes of a value: signature lists merge, all else goes to the end.
fn appended(old: &[u8], new: &[u8], lists: bool) -> Result<Vec<u8>, Status> {
    if lists {
        return siglist::merge(old, new);
    }
    let mut data = bytes::with_capacity(old.len() + new.len())?;
    data.extend_from_slice(old);
    data.extend_from_slice(new);
    Ok(data)
}
