//! Entities: everything a handle can name, with its name, authorization and policy (Part 1, 16, 19).

use alloc::vec::Vec;

use crate::{
    constants::{ht, limit, nva, oa, rh},
    crypto::{Bytes, HashAlg},
    pcr,
    rc::{Rc, Result, ensure},
    state::{Access, NvIndex, State, object::Slot, session},
    table::{self, Command, Kind, Role},
};

/// Is `handle` of this kind?
///
/// # Errors
/// `TPM_RC_VALUE` when it is not.
pub fn check_kind(kind: Kind, handle: u32) -> Result<()> {
    let class = ht::of(handle);
    let transient =
        (rh::TRANSIENT_FIRST..rh::TRANSIENT_FIRST + limit::LOADED_OBJECTS as u32).contains(&handle);
    let session = session::number(handle) < limit::ACTIVE_SESSIONS as u32;
    let object = transient || class == ht::PERSISTENT;
    let hierarchy = matches!(handle, rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM);
    let pcr = (handle as usize) < limit::PCR_COUNT;
    let nv = class == ht::NV_INDEX;
    let fits = match kind {
        Kind::Object => object,
        Kind::ObjectOrNull => object || handle == rh::NULL,
        Kind::Parent => object || hierarchy || handle == rh::NULL,
        Kind::Entity | Kind::EntityOrNull => {
            object
                || hierarchy
                || pcr
                || nv
                || handle == rh::LOCKOUT
                || rh::VENDOR_AUTH.contains(&handle)
                || (kind == Kind::EntityOrNull && handle == rh::NULL)
        }
        Kind::Context => {
            transient || (session && matches!(class, ht::HMAC_SESSION | ht::POLICY_SESSION))
        }
        Kind::Pcr => pcr,
        Kind::PcrOrNull => pcr || handle == rh::NULL,
        Kind::HmacSession => session && class == ht::HMAC_SESSION,
        Kind::PolicySession => session && class == ht::POLICY_SESSION,
        Kind::Hierarchy => hierarchy,
        Kind::HierarchyOrNull => hierarchy || handle == rh::NULL,
        Kind::HierarchyAuth => hierarchy || handle == rh::LOCKOUT,
        Kind::Platform => handle == rh::PLATFORM,
        Kind::Endorsement => handle == rh::ENDORSEMENT,
        Kind::Provision => matches!(handle, rh::OWNER | rh::PLATFORM),
        Kind::Clear => matches!(handle, rh::LOCKOUT | rh::PLATFORM),
        Kind::Lockout => handle == rh::LOCKOUT,
        Kind::NvAuth => nv || matches!(handle, rh::OWNER | rh::PLATFORM),
        Kind::NvIndex => nv,
    };
    ensure(fits, Rc::VALUE)
}

impl State {
    /// Is there something behind `handle` now?
    ///
    /// # Errors
    /// The code for what is missing; `TPM_RC_REFERENCE_H0` is to be raised by the number of
    /// the handle.
    pub fn check_present(&self, handle: u32) -> Result<()> {
        match ht::of(handle) {
            ht::PERMANENT if rh::VENDOR_AUTH.contains(&handle) => Err(Rc::VALUE),
            ht::PERMANENT => ensure(self.is_enabled(handle), Rc::HIERARCHY),
            ht::TRANSIENT => {
                let slot = self.slot(handle).ok_or(Rc::REFERENCE_H0)?;
                match slot {
                    Slot::Object(object) => ensure(self.is_enabled(object.hierarchy), Rc::HANDLE),
                    _ => Ok(()),
                }
            }
            ht::PERSISTENT => {
                let object = self.persistent.get(&handle).ok_or(Rc::HANDLE)?;
                ensure(self.is_enabled(object.hierarchy), Rc::HANDLE)
            }
            ht::HMAC_SESSION | ht::POLICY_SESSION => {
                let loaded = self.ram.sessions.get(&session::number(handle));
                let loaded = loaded.ok_or(Rc::REFERENCE_H0)?;
                ensure(loaded.handle == handle, Rc::HANDLE)
            }
            ht::NV_INDEX => {
                let index = self.nv_index(handle).ok_or(Rc::HANDLE)?;
                let enabled = if index.public.has(nva::PLATFORMCREATE) {
                    self.clear.platform_nv_enabled
                } else {
                    self.clear.storage_enabled
                };
                ensure(enabled, Rc::HANDLE)
            }
            ht::PCR => Ok(()),
            _ => Err(Rc::HANDLE),
        }
    }

    /// Is there access to persistent objects in the range of this handle: the platform's or the
    /// owner's (Part 1, 37.3)?
    #[must_use]
    pub fn is_persistent_enabled(&self, handle: u32) -> bool {
        self.is_enabled(if handle < rh::PLATFORM_PERSISTENT {
            rh::OWNER
        } else {
            rh::PLATFORM
        })
    }

    /// The current form of an NV index: the RAM copy of an orderly one.
    #[must_use]
    pub fn nv_index(&self, handle: u32) -> Option<&NvIndex> {
        self.ram
            .orderly_nv
            .get(&handle)
            .or_else(|| self.nv.get(&handle))
            .map(|index| &**index)
    }

    /// The name of an entity: its handle, or a digest of its public area.
    #[must_use]
    pub fn name(&self, handle: u32) -> Vec<u8> {
        match ht::of(handle) {
            ht::TRANSIENT | ht::PERSISTENT => self
                .object(handle)
                .map(|object| object.name.clone())
                .unwrap_or_default(),
            ht::NV_INDEX => self
                .nv_index(handle)
                .map(|index| index.public.name())
                .unwrap_or_default(),
            _ => handle.to_be_bytes().to_vec(),
        }
    }

    /// Who may use a hierarchy.
    #[must_use]
    pub fn access(&self, handle: u32) -> Option<&Access> {
        match handle {
            rh::OWNER => Some(&self.owners.owner),
            rh::ENDORSEMENT => Some(&self.owners.endorsement),
            rh::LOCKOUT => Some(&self.owners.lockout),
            rh::PLATFORM => Some(&self.clear.platform),
            _ => None,
        }
    }

    /// The authorization value of an entity, without trailing zeros.
    #[must_use]
    pub fn auth_value(&self, handle: u32) -> Bytes {
        match ht::of(handle) {
            ht::PERMANENT => self.access(handle).map(|access| access.auth.clone()),
            ht::TRANSIENT => self.slot(handle).and_then(Slot::auth).cloned(),
            ht::PERSISTENT => {
                let object = self.persistent.get(&handle);
                object
                    .and_then(|object| object.sensitive.as_ref())
                    .map(|s| s.auth.clone())
            }
            ht::NV_INDEX => self.nv_index(handle).map(|index| index.auth.clone()),
            ht::PCR if pcr::has_auth(handle) => Some(self.clear.pcr_auth.clone()),
            _ => None,
        }
        .unwrap_or_default()
    }

    /// The policy of an entity and the hash that made it.
    #[must_use]
    pub fn policy_of(&self, handle: u32) -> (Option<HashAlg>, Vec<u8>) {
        match ht::of(handle) {
            ht::PERMANENT => self
                .access(handle)
                .map(|access| (access.policy_alg, access.policy.clone()))
                .unwrap_or_default(),
            ht::TRANSIENT | ht::PERSISTENT => self
                .object(handle)
                .map(|object| (object.public.name_alg, object.public.policy.clone()))
                .unwrap_or_default(),
            ht::NV_INDEX => self
                .nv_index(handle)
                .map(|index| (Some(index.public.name_alg), index.public.policy.clone()))
                .unwrap_or_default(),
            ht::PCR if pcr::has_policy(handle) => (
                self.settings.pcr_policy.policy_alg,
                self.settings.pcr_policy.policy.clone(),
            ),
            _ => (None, Vec::new()),
        }
    }

    /// The hierarchy whose proof makes tickets about the entity.
    #[must_use]
    pub fn hierarchy_of(&self, handle: u32) -> u32 {
        match ht::of(handle) {
            ht::PERMANENT => match handle {
                rh::PLATFORM | rh::ENDORSEMENT | rh::NULL => handle,
                _ => rh::OWNER,
            },
            ht::TRANSIENT | ht::PERSISTENT => self
                .object(handle)
                .map_or(rh::NULL, |object| object.hierarchy),
            ht::NV_INDEX => match self.nv_index(handle) {
                Some(index) if index.public.has(nva::PLATFORMCREATE) => rh::PLATFORM,
                _ => rh::OWNER,
            },
            ht::PCR => rh::OWNER,
            _ => rh::NULL,
        }
    }

    /// Is the entity outside the dictionary attack protection?
    #[must_use]
    pub fn is_da_exempt(&self, handle: u32) -> bool {
        match ht::of(handle) {
            ht::PERMANENT => handle != rh::LOCKOUT,
            ht::TRANSIENT | ht::PERSISTENT => {
                self.object(handle)
                    .is_ok_and(|object| object.public.has(oa::NO_DA))
                    || matches!(self.slot(handle), Some(slot) if !matches!(slot, Slot::Object(_)))
            }
            ht::NV_INDEX => self
                .nv_index(handle)
                .is_none_or(|index| index.public.has(nva::NO_DA)),
            _ => true,
        }
    }

    /// May the authorization value of the entity authorize it in this role?
    #[must_use]
    pub fn auth_value_serves(&self, handle: u32, command: &Command, role: Role) -> bool {
        match ht::of(handle) {
            ht::TRANSIENT | ht::PERSISTENT => match self.object(handle) {
                Ok(object) if object.sensitive.is_none() => false,
                Ok(object) => match role {
                    Role::User => object.public.has(oa::USER_WITH_AUTH),
                    Role::Admin => !object.public.has(oa::ADMIN_WITH_POLICY),
                    Role::Dup | Role::None => false,
                },
                Err(_) => true,
            },
            ht::NV_INDEX => self.nv_index(handle).is_some_and(|index| {
                let usable = match index.public.kind() {
                    nva::NT_PIN_FAIL | nva::NT_PIN_PASS => crate::nv::pin_is_open(index),
                    _ => true,
                };
                usable
                    && if command.has(table::NV_WRITES) {
                        index.public.has(nva::AUTHWRITE)
                    } else if command.has(table::NV_READS) {
                        index.public.has(nva::AUTHREAD)
                    } else {
                        true
                    }
            }),
            _ => true,
        }
    }

    /// May the policy of the entity authorize it?
    #[must_use]
    pub fn policy_serves(&self, handle: u32, command: &Command) -> bool {
        let (_, policy) = self.policy_of(handle);
        match ht::of(handle) {
            ht::TRANSIENT | ht::PERSISTENT => self
                .object(handle)
                .is_ok_and(|object| object.sensitive.is_some()),
            ht::NV_INDEX => {
                !policy.is_empty()
                    && self.nv_index(handle).is_some_and(|index| {
                        if command.has(table::NV_WRITES) {
                            index.public.has(nva::POLICYWRITE)
                        } else if command.has(table::NV_READS) {
                            index.public.has(nva::POLICYREAD)
                        } else {
                            true
                        }
                    })
            }
            // A policy group has one, be it empty.
            ht::PCR => pcr::has_policy(handle),
            _ => !policy.is_empty(),
        }
    }

    /// Does this role need a policy session whatever the authorization value is?
    #[must_use]
    pub fn role_needs_policy(&self, handle: u32, role: Role) -> bool {
        match role {
            Role::Dup => true,
            Role::Admin => match ht::of(handle) {
                ht::TRANSIENT | ht::PERSISTENT => self
                    .object(handle)
                    .is_ok_and(|object| object.public.has(oa::ADMIN_WITH_POLICY)),
                ht::NV_INDEX => true,
                _ => false,
            },
            // A PCR that has a policy has no authorization value beside it (Part 1, 17.7.2).
            Role::User => ht::of(handle) == ht::PCR && self.policy_of(handle).0.is_some(),
            Role::None => false,
        }
    }
}

impl State {
    /// To change who may use a hierarchy.
    pub fn access_mut(&mut self, handle: u32) -> Option<&mut Access> {
        match handle {
            rh::OWNER => Some(&mut self.owners_mut().owner),
            rh::ENDORSEMENT => Some(&mut self.owners_mut().endorsement),
            rh::LOCKOUT => Some(&mut self.owners_mut().lockout),
            rh::PLATFORM => Some(&mut self.clear_mut().platform),
            _ => None,
        }
    }

    /// Does the command need physical presence when the platform authorizes it?
    #[must_use]
    pub fn needs_presence(&self, code: u32) -> bool {
        self.presence_commands().contains(&code)
    }

    /// The commands that need physical presence. Only `TPM2_PP_Commands` could add to the
    /// fixed one, and it needs physical presence itself.
    #[must_use]
    pub fn presence_commands(&self) -> Vec<u32> {
        alloc::vec![table::CC_PP_COMMANDS]
    }
}
