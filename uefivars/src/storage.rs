//! Where records live. The service writes through [`Storage`] before it answers, and
//! what it has not committed it has not said.

use alloc::vec::Vec;

/// Why records could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    #[error("the storage device failed")]
    Device,
    #[error("the storage has no room left")]
    NoSpace,
    #[error("out of memory")]
    OutOfMemory,
}

/// One step of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Create the record `index`, or replace all of it.
    Put { index: u32, bytes: &'a [u8] },
    /// Remove the record `index`. It is there.
    Remove { index: u32 },
}

impl Change<'_> {
    pub const fn index(&self) -> u32 {
        match self {
            Self::Put { index, .. } | Self::Remove { index } => *index,
        }
    }
}

/// A record and the index it is stored under.
pub type Record = (u32, Vec<u8>);

/// A set of numbered records.
pub trait Storage {
    /// All records, in any order, each index once.
    ///
    /// # Errors
    /// What kept them from being read.
    fn load(&mut self) -> Result<Vec<Record>, StorageError>;

    /// Carries out all changes or none. When this returns `Ok`, they are durable. No two
    /// of them name the same index.
    ///
    /// # Errors
    /// Nothing has changed then, or will have when [`Storage::settle`] has returned `Ok`.
    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StorageError>;

    /// Makes sure that a commit that failed, as far as anybody knows, has not taken effect
    /// behind its caller's back.
    ///
    /// # Errors
    /// The changes of that commit may be there after the next boot.
    fn settle(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Whether what is committed is there in the next boot.
    fn is_persistent(&self) -> bool {
        true
    }
}

impl<S: Storage + ?Sized> Storage for &mut S {
    fn load(&mut self) -> Result<Vec<Record>, StorageError> {
        (**self).load()
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StorageError> {
        (**self).commit(changes)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        (**self).settle()
    }

    fn is_persistent(&self) -> bool {
        (**self).is_persistent()
    }
}

impl<S: Storage + ?Sized> Storage for alloc::boxed::Box<S> {
    fn load(&mut self) -> Result<Vec<Record>, StorageError> {
        (**self).load()
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StorageError> {
        (**self).commit(changes)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        (**self).settle()
    }

    fn is_persistent(&self) -> bool {
        (**self).is_persistent()
    }
}

/// For a boot without a volume: nothing is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Volatile;

impl Storage for Volatile {
    fn load(&mut self) -> Result<Vec<Record>, StorageError> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _changes: &[Change<'_>]) -> Result<(), StorageError> {
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        false
    }
}
