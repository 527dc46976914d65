//! The service: all variables, the rules for changing them, and the state of the boot.
//!
//! Memory never runs ahead of storage: a change is committed first, and only then made
//! here, by steps that can not fail. So a failed commit leaves both as they were.

mod authenticate;
mod commit;
mod enroll;
mod modes;
mod read;
mod write;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use uguid::Guid;

pub use enroll::Enrolled;
pub use modes::Mode;
pub use read::Info;

use crate::policy::Policies;
use crate::record::RecordError;
use crate::storage::{Storage, StorageError};
use crate::variable::{Key, Variable};
use crate::{Status, bytes, guids, record, rules};

/// Limits and choices of the owner.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// In setup mode PK has to be signed with its own key, as the specification wants it
    /// (UEFI 2.11, section 32.3.1). Without this it is taken unsigned.
    pub self_signed_pk: bool,
    /// SecureBootEnable can not switch Secure Boot off, and PK is not removed by way of
    /// audit mode.
    pub enforce_secure_boot: bool,
    pub quota: Quota,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            self_signed_pk: true,
            enforce_secure_boot: false,
            quota: Quota::default(),
        }
    }
}

/// What a guest can fill. Sizes are bytes as [`Variable::cost`] counts them.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    pub non_volatile: usize,
    pub volatile: usize,
    /// Part of the first two that only boot-time code can use, so that an operating system
    /// can not keep the next boot from writing its variables.
    pub boot_reserve: usize,
    /// Number of variables of both kinds.
    pub variables: usize,
    /// Number that only boot-time code can use.
    pub boot_reserve_variables: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            non_volatile: 256 * 1024,
            volatile: 256 * 1024,
            boot_reserve: 32 * 1024,
            variables: 512,
            boot_reserve_variables: 64,
        }
    }
}

/// Why the service can not start. Starting with an empty store instead would mean Secure
/// Boot off, so the boot stops here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("the UEFI variables can not be read: {0}")]
    Storage(#[from] StorageError),
    #[error("UEFI variable record {index} is damaged: {error}")]
    Record { index: u32, error: RecordError },
    #[error("UEFI variable record {index} is there twice")]
    Index { index: u32 },
    #[error("UEFI variable records {first} and {second} are both {key}")]
    Duplicate {
        first: u32,
        second: u32,
        key: String,
    },
    #[error("UEFI variable record {index} says {mode} mode, which does not go with PK being {pk}")]
    Mode {
        index: u32,
        mode: &'static str,
        pk: &'static str,
    },
    #[error("out of memory while reading the UEFI variables")]
    OutOfMemory,
}

impl From<Status> for LoadError {
    fn from(_: Status) -> Self {
        Self::OutOfMemory
    }
}

/// Where a variable is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    /// Here, until the next boot.
    Memory,
    /// Here, and it says what follows from others.
    Derived,
    /// In the record with this index.
    Record(u32),
}

#[derive(Debug)]
struct Entry {
    variable: Variable,
    backing: Backing,
}

/// How far the boot has come.
#[derive(Clone, Copy, Debug, Default)]
struct Phase {
    /// The firmware has loaded its drivers; policies count from here on.
    end_of_dxe: bool,
    /// ExitBootServices was called.
    runtime: bool,
}

/// Bits of the services manifest entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// What is written is there in the next boot.
    pub persistent_nv_vars: bool,
    /// The variable SecureBoot is 1.
    pub secureboot_enabled: bool,
    /// db and dbx can be changed, with a signature that is verified against a key that is
    /// enrolled.
    pub secureboot_db_update: bool,
}

impl Flags {
    pub const fn bits(self) -> u32 {
        self.persistent_nv_vars as u32
            | (self.secureboot_enabled as u32) << 1
            | (self.secureboot_db_update as u32) << 2
    }
}

/// The variable service of one guest.
#[derive(Debug)]
pub struct Service<S> {
    storage: S,
    config: Config,
    /// In the order in which they were created, which is the order of enumeration.
    entries: Vec<Entry>,
    policies: Policies,
    phase: Phase,
    mode: Mode,
    /// A commit failed, and storage has not said yet what became of it.
    unsettled: bool,
}

impl<S: Storage> Service<S> {
    /// Reads all records, and is then where a boot begins.
    ///
    /// # Errors
    /// Why the store is not used. Nothing was written.
    pub fn new(mut storage: S, config: Config) -> Result<Self, LoadError> {
        let mut records = storage.load()?;
        records.sort_unstable_by_key(|(index, _)| *index);
        let mut service = Self {
            storage,
            config,
            entries: Vec::new(),
            policies: Policies::default(),
            phase: Phase::default(),
            mode: Mode::Setup,
            unsettled: false,
        };
        for (index, bytes) in &records {
            service.load(*index, bytes)?;
        }
        service.check_mode()?;
        service.power_on()?;
        Ok(service)
    }

    fn load(&mut self, index: u32, bytes: &[u8]) -> Result<(), LoadError> {
        let variable = record::decode(bytes).map_err(|error| LoadError::Record { index, error })?;
        let before = self.entries.iter().find_map(|entry| match entry.backing {
            Backing::Record(first) if first == index => Some(LoadError::Index { index }),
            Backing::Record(first) if entry.variable.key == variable.key => {
                Some(LoadError::Duplicate {
                    first,
                    second: index,
                    key: variable.key.to_string(),
                })
            }
            _ => None,
        });
        if let Some(error) = before {
            return Err(error);
        }
        let entry = Entry {
            variable,
            backing: Backing::Record(index),
        };
        Ok(bytes::push(&mut self.entries, entry)?)
    }

    /// Begins another boot: what is volatile is gone, policies and locks too.
    ///
    /// # Errors
    /// `EFI_OUT_OF_RESOURCES`; the service can not be used then.
    pub fn power_on(&mut self) -> Result<(), Status> {
        self.entries
            .retain(|entry| matches!(entry.backing, Backing::Record(_)));
        self.policies = Policies::default();
        self.phase = Phase::default();
        self.mode = self.stored_mode();
        let derived = self.derived(self.mode)?;
        self.entries
            .try_reserve(derived.len())
            .map_err(|_| Status::OUT_OF_RESOURCES)?;
        self.place_derived(derived);
        Ok(())
    }

    /// What the services manifest says.
    pub fn flags(&self) -> Flags {
        Flags {
            persistent_nv_vars: self.storage.is_persistent(),
            secureboot_enabled: self.byte(guids::GLOBAL, "SecureBoot") == Some(1),
            secureboot_db_update: self.mode.has_pk() && self.database_anchors().next().is_some(),
        }
    }

    /// The Secure Boot mode of the platform.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The variables in the order of enumeration, whatever phase the boot is in.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.entries
            .iter()
            .map(|entry| &entry.variable)
            .filter(|variable| !rules::is_hidden(variable.key.guid))
    }

    /// One variable, whatever phase the boot is in.
    pub fn variable(&self, guid: Guid, name: &str) -> Option<&Variable> {
        self.variables()
            .find(|variable| variable.key.is(guid, name))
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The storage, to be given faults by a test.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Gives the storage back.
    pub fn into_storage(self) -> S {
        self.storage
    }

    fn position(&self, key: &Key) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.variable.key == *key)
    }

    fn find(&self, guid: Guid, name: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.variable.key.is(guid, name))
    }

    /// The value of a variable of one byte.
    fn byte(&self, guid: Guid, name: &str) -> Option<u8> {
        match self.find(guid, name)?.variable.data[..] {
            [byte] => Some(byte),
            _ => None,
        }
    }

    pub(crate) fn policies(&mut self) -> &mut Policies {
        &mut self.policies
    }

    pub(crate) fn policies_ref(&self) -> &Policies {
        &self.policies
    }

    /// All drivers are loaded.
    pub fn end_of_dxe(&mut self) {
        self.phase.end_of_dxe = true;
    }

    /// A boot option is about to be started: no policy is added any more.
    pub fn ready_to_boot(&mut self) {
        self.policies.lock();
    }

    /// The operating system has taken over. No firmware driver runs any more, so this
    /// implies the other two.
    pub fn exit_boot_services(&mut self) {
        self.end_of_dxe();
        self.ready_to_boot();
        self.phase.runtime = true;
    }

    pub(crate) fn is_after_end_of_dxe(&self) -> bool {
        self.phase.end_of_dxe
    }
}
