//! The four Secure Boot modes (UEFI 2.11, section 32.3) and the variables that tell of
//! them.

use alloc::vec::Vec;

use uguid::Guid;

use super::commit::Update;
use super::{Backing, Entry, LoadError, Service};
use crate::storage::Storage;
use crate::variable::Variable;
use crate::{Attributes, Status, bytes, guids, rules};

/// Secure Boot mode of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No PK: whoever comes first enrols keys.
    Setup,
    /// No PK, and the firmware reports what it would refuse.
    Audit,
    /// PK is enrolled.
    User,
    /// PK is enrolled, and there is no way back but by its owner's signature.
    Deployed,
}

const AUDIT: u8 = 1;
const DEPLOYED: u8 = 2;

impl Mode {
    /// Whether keys can only be changed with a signature.
    pub const fn has_pk(self) -> bool {
        matches!(self, Self::User | Self::Deployed)
    }

    fn new(pk: bool, stored: Option<u8>) -> Self {
        match (pk, stored) {
            (true, Some(DEPLOYED)) => Self::Deployed,
            (true, _) => Self::User,
            (false, Some(AUDIT)) => Self::Audit,
            (false, _) => Self::Setup,
        }
    }
}

/// SignatureSupport: the types of signatures that edk2 verifies images with.
const SIGNATURES: [Guid; 5] = [
    guids::CERT_SHA256,
    guids::CERT_SHA384,
    guids::CERT_SHA512,
    guids::CERT_RSA2048,
    guids::CERT_X509,
];

impl<S: Storage> Service<S> {
    /// The mode that the stored variables make.
    pub(super) fn stored_mode(&self) -> Mode {
        Mode::new(
            self.find(guids::GLOBAL, "PK").is_some(),
            self.byte(guids::SERVICE, rules::MODE),
        )
    }

    /// PK and the stored mode change together, so a store in which they do not fit was
    /// not written by this service.
    pub(super) fn check_mode(&self) -> Result<(), LoadError> {
        let Some(entry) = self.find(guids::SERVICE, rules::MODE) else {
            return Ok(());
        };
        let Backing::Record(index) = entry.backing else {
            return Ok(());
        };
        let pk = self.find(guids::GLOBAL, "PK").is_some();
        match (entry.variable.data.first(), pk) {
            (Some(&AUDIT), true) => Err(LoadError::Mode {
                index,
                mode: "audit",
                pk: "there",
            }),
            (Some(&DEPLOYED), false) => Err(LoadError::Mode {
                index,
                mode: "deployed",
                pk: "absent",
            }),
            _ => Ok(()),
        }
    }

    /// What has to change with PK: the stored mode, and SecureBootEnable, which belongs
    /// to the PK it was set under.
    pub(super) fn follow_pk(&self, present: bool) -> Result<Vec<Update>, Status> {
        let mut updates = Vec::new();
        if present == self.mode.has_pk() {
            return Ok(updates);
        }
        self.remove_if_there(&mut updates, guids::SECURE_BOOT_ENABLE, "SecureBootEnable")?;
        if present && self.mode == Mode::Audit {
            bytes::push(&mut updates, store_mode(DEPLOYED)?)?;
        } else {
            self.remove_if_there(&mut updates, guids::SERVICE, rules::MODE)?;
        }
        Ok(updates)
    }

    fn remove_if_there(
        &self,
        updates: &mut Vec<Update>,
        guid: Guid,
        name: &str,
    ) -> Result<(), Status> {
        let place = self.entries.iter().position(|entry| {
            entry.variable.key.is(guid, name) && matches!(entry.backing, Backing::Record(_))
        });
        match place {
            Some(place) => bytes::push(updates, Update::Remove(place)),
            None => Ok(()),
        }
    }

    /// A guest writes AuditMode or DeployedMode.
    ///
    /// # Errors
    /// `EFI_WRITE_PROTECTED` where the mode does not allow it.
    pub(super) fn switch_mode(
        &mut self,
        audit: bool,
        attributes: Attributes,
        data: &[u8],
    ) -> Result<(), Status> {
        if self.phase.runtime || attributes.no_access() || data.is_empty() {
            return Err(Status::WRITE_PROTECTED);
        }
        if attributes != Attributes::STATUS || !matches!(data, [0 | 1]) {
            return Err(Status::INVALID_PARAMETER);
        }
        let now = if audit {
            self.mode == Mode::Audit
        } else {
            self.mode == Mode::Deployed
        };
        let mut updates = Vec::new();
        match (audit, data == [1], self.mode) {
            (_, wanted, _) if wanted == now => return Ok(()),
            (true, true, Mode::Setup) => bytes::push(&mut updates, store_mode(AUDIT)?)?,
            (true, true, Mode::User) if !self.config.enforce_secure_boot => {
                self.remove_if_there(&mut updates, guids::GLOBAL, "PK")?;
                self.remove_if_there(&mut updates, guids::SECURE_BOOT_ENABLE, "SecureBootEnable")?;
                bytes::push(&mut updates, store_mode(AUDIT)?)?;
            }
            (false, true, Mode::User) => bytes::push(&mut updates, store_mode(DEPLOYED)?)?,
            _ => return Err(Status::WRITE_PROTECTED),
        }
        self.commit(updates)
    }

    /// The mode after `updates`.
    pub(super) fn mode_after(&self, updates: &[Update]) -> Mode {
        let mut pk = self.mode.has_pk();
        let mut stored = self.byte(guids::SERVICE, rules::MODE);
        for update in updates {
            let (key, data) = match update {
                Update::Put(variable) => (&variable.key, variable.data.first()),
                Update::Remove(place) => match self.entries.get(*place) {
                    Some(entry) => (&entry.variable.key, None),
                    None => continue,
                },
            };
            if key.is(guids::GLOBAL, "PK") {
                pk = data.is_some();
            } else if key.is(guids::SERVICE, rules::MODE) {
                stored = data.copied();
            }
        }
        Mode::new(pk, stored)
    }

    /// All variables that tell of `mode`, built so that [`Service::place_derived`] can not
    /// fail.
    pub(super) fn derived(&self, mode: Mode) -> Result<Vec<Variable>, Status> {
        let status = Attributes::STATUS;
        let setup = u8::from(!mode.has_pk());
        let enabled = self.is_enabled(mode);
        // What SecureBoot says was decided at boot time; a running system keeps it.
        let secure_boot = match self.byte(guids::GLOBAL, "SecureBoot") {
            Some(now) if self.phase.runtime => now,
            _ => u8::from(mode.has_pk() && enabled),
        };
        let mut support = [0; SIGNATURES.len() * 16];
        for (bytes, guid) in support.chunks_exact_mut(16).zip(SIGNATURES) {
            bytes.copy_from_slice(&guid.to_bytes());
        }
        let mut derived = bytes::with_capacity(9)?;
        for (guid, name, attributes, data) in [
            (guids::GLOBAL, "SetupMode", status, &[setup][..]),
            (guids::GLOBAL, "SignatureSupport", status, &support),
            (guids::GLOBAL, "SecureBoot", status, &[secure_boot]),
            (guids::CUSTOM_MODE, "CustomMode", Attributes(0x03), &[0]),
            (guids::GLOBAL, "VendorKeysNv", Attributes(0x23), &[0]),
            (guids::GLOBAL, "VendorKeys", status, &[0]),
            (
                guids::GLOBAL,
                "AuditMode",
                status,
                &[u8::from(mode == Mode::Audit)],
            ),
            (
                guids::GLOBAL,
                "DeployedMode",
                status,
                &[u8::from(mode == Mode::Deployed)],
            ),
        ] {
            derived.push(Variable::plain(guid, name, attributes, data)?);
        }
        if mode.has_pk() {
            let (guid, name) = (guids::SECURE_BOOT_ENABLE, "SecureBootEnable");
            derived.push(Variable::plain(guid, name, Attributes(0x03), &[1])?);
        }
        Ok(derived)
    }

    /// Whether SecureBootEnable leaves Secure Boot on.
    fn is_enabled(&self, mode: Mode) -> bool {
        let stored = self
            .find(guids::SECURE_BOOT_ENABLE, "SecureBootEnable")
            .filter(|entry| matches!(entry.backing, Backing::Record(_)));
        // One that was stored under another PK goes with the change of mode.
        let counts = mode.has_pk() == self.mode.has_pk();
        self.config.enforce_secure_boot
            || !counts
            || stored.is_none_or(|entry| entry.variable.data != [0])
    }

    /// Puts derived variables in place. There is room for all of them.
    pub(super) fn place_derived(&mut self, derived: Vec<Variable>) {
        let enable = derived
            .iter()
            .any(|variable| rules::is_secure_boot_enable(&variable.key));
        self.entries.retain(|entry| {
            enable
                || entry.backing != Backing::Derived
                || !rules::is_secure_boot_enable(&entry.variable.key)
        });
        for variable in derived {
            let there = self
                .entries
                .iter_mut()
                .find(|entry| entry.variable.key == variable.key);
            match there {
                Some(entry) if entry.backing == Backing::Derived => entry.variable = variable,
                // SecureBootEnable that a guest has written.
                Some(_) => {}
                None => self.entries.push(Entry {
                    variable,
                    backing: Backing::Derived,
                }),
            }
        }
    }
}

fn store_mode(mode: u8) -> Result<Update, Status> {
    Variable::plain(guids::SERVICE, rules::MODE, Attributes(0x03), &[mode]).map(Update::Put)
}
