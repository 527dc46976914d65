//! A variable and its key.

use alloc::vec::Vec;
use core::fmt;

use uguid::Guid;

use crate::name::Name;
use crate::{Attributes, EfiTime, Status, bytes};

/// Size of the largest value, in bytes; the same as edk2's limit for a variable in flash.
pub const MAX_DATA: usize = 0x8400;

/// What identifies a variable: its namespace and its name in there.
#[derive(PartialEq, Eq)]
pub struct Key {
    pub guid: Guid,
    pub name: Name,
}

impl Key {
    /// A key from a name as text.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn new(guid: Guid, name: &str) -> Result<Self, Status> {
        Ok(Self {
            guid,
            name: Name::from_text(name)?,
        })
    }

    /// Whether this is the variable `name` of the namespace `guid`.
    pub fn is(&self, guid: Guid, name: &str) -> bool {
        self.guid == guid && self.name.is(name)
    }

    /// A copy.
    ///
    /// # Errors
    /// `EFI_OUT_OF_RESOURCES`.
    pub fn try_clone(&self) -> Result<Self, Status> {
        Ok(Self {
            guid: self.guid,
            name: Name::new(self.name.units())?,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.guid)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 that names the owner of a private authenticated variable.
pub type Owner = [u8; 32];

/// A variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    pub key: Key,
    pub attributes: Attributes,
    /// Time stamp of the last authenticated write, else zero.
    pub time: EfiTime,
    /// Not empty.
    pub data: Vec<u8>,
    /// Of an authenticated variable that is none of the Secure Boot variables.
    pub owner: Option<Owner>,
}

impl Variable {
    /// A variable without authentication.
    ///
    /// # Errors
    /// As [`Key::new`].
    pub fn plain(
        guid: Guid,
        name: &str,
        attributes: Attributes,
        data: &[u8],
    ) -> Result<Self, Status> {
        Ok(Self {
            key: Key::new(guid, name)?,
            attributes,
            time: EfiTime::ZERO,
            data: bytes::copy(data)?,
            owner: None,
        })
    }

    /// Bytes that the variable takes of its quota: name and value, and a fixed part for
    /// what is kept beside them.
    pub fn cost(&self) -> usize {
        cost(self.key.name.size(), self.data.len())
    }
}

/// Bytes that a variable with a name and a value of these sizes takes of its quota.
pub const fn cost(name: usize, data: usize) -> usize {
    crate::record::HEADER + name.next_multiple_of(4) + data.next_multiple_of(4)
}
