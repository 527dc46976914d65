//! Reading: GetVariable, GetNextVariableName, QueryVariableInfo.

use super::Service;
use crate::storage::Storage;
use crate::variable::{Key, MAX_DATA, Variable};
use crate::{Attributes, Status, rules};

/// The answer of QueryVariableInfo, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    pub maximum_storage: u64,
    pub remaining_storage: u64,
    pub maximum_variable: u64,
}

impl<S: Storage> Service<S> {
    pub(super) fn is_visible(&self, variable: &Variable) -> bool {
        !rules::is_hidden(variable.key.guid)
            && (!self.phase.runtime || variable.attributes.runtime())
    }

    /// A variable, as far as the phase of the boot lets it be seen.
    ///
    /// # Errors
    /// `EFI_NOT_FOUND`.
    pub fn get(&self, key: &Key) -> Result<&Variable, Status> {
        self.position(key)
            .map(|place| &self.entries[place].variable)
            .filter(|variable| self.is_visible(variable))
            .ok_or(Status::NOT_FOUND)
    }

    /// The variable after `key`; the first one for `None`.
    ///
    /// # Errors
    /// `EFI_NOT_FOUND` after the last one, `EFI_INVALID_PARAMETER` where `key` is none.
    pub fn next(&self, key: Option<&Key>) -> Result<&Variable, Status> {
        let start = match key {
            None => 0,
            Some(key) => {
                let place = self.position(key).ok_or(Status::INVALID_PARAMETER)?;
                if !self.is_visible(&self.entries[place].variable) {
                    return Err(Status::INVALID_PARAMETER);
                }
                place + 1
            }
        };
        self.entries[start..]
            .iter()
            .map(|entry| &entry.variable)
            .find(|variable| self.is_visible(variable))
            .ok_or(Status::NOT_FOUND)
    }

    /// How much room there is for variables with these attributes, now.
    ///
    /// # Errors
    /// `EFI_UNSUPPORTED` for attributes that are not offered, `EFI_INVALID_PARAMETER` for
    /// meaningless ones, and for those of boot time after it.
    pub fn query_info(&self, attributes: Attributes) -> Result<Info, Status> {
        let attributes = attributes.without_append();
        if attributes.0 == 0 {
            return Err(Status::UNSUPPORTED);
        }
        attributes.check()?;
        if self.phase.runtime && !attributes.runtime() {
            return Err(Status::INVALID_PARAMETER);
        }
        let volatile = !attributes.non_volatile();
        let limit = self.limit(volatile);
        let remaining = limit.saturating_sub(self.used(volatile));
        Ok(Info {
            maximum_storage: if volatile {
                self.config.quota.volatile
            } else {
                self.config.quota.non_volatile
            } as u64,
            remaining_storage: remaining as u64,
            maximum_variable: MAX_DATA as u64,
        })
    }

    /// Bytes of quota in use by variables of one kind.
    pub(super) fn used(&self, volatile: bool) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.backing != super::Backing::Derived)
            .filter(|entry| entry.variable.attributes.non_volatile() != volatile)
            .map(|entry| entry.variable.cost())
            .sum()
    }

    /// Bytes of quota for variables of one kind in this phase.
    pub(super) fn limit(&self, volatile: bool) -> usize {
        let quota = &self.config.quota;
        let all = if volatile {
            quota.volatile
        } else {
            quota.non_volatile
        };
        if self.phase.runtime {
            all.saturating_sub(quota.boot_reserve)
        } else {
            all
        }
    }

    /// The value of a variable that a policy depends on, by namespace and raw name with its
    /// zero.
    pub(super) fn raw_value(&self, guid: uguid::Guid, name: &[u8]) -> Option<&[u8]> {
        let name = name.strip_suffix(&[0, 0])?;
        self.entries
            .iter()
            .find(|entry| {
                entry.variable.key.guid == guid
                    && entry.variable.key.name.le_bytes().eq(name.iter().copied())
            })
            .map(|entry| &entry.variable.data[..])
    }
}
