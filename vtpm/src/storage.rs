//! Where the persistent state lives: a set of records, changed in transactions.
//!
//! Always true: the engine gives an answer that says "done" only after [`Storage::commit`]
//! has returned `Ok` for every record the command changed.

use alloc::{collections::BTreeMap, vec::Vec};
use zeroize::Zeroizing;

/// Name of a record. NV indices and persistent objects use their TPM handle, everything
/// else a small number (see the `records` module); the names fit a file system's inode numbers.
pub type RecordId = u32;

/// Contents of a record. Most records hold secrets.
pub type RecordBytes = Zeroizing<Vec<u8>>;

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Write the record, whether it exists or not.
    Put(RecordId, RecordBytes),
    /// Remove the record; it may be missing.
    Remove(RecordId),
}

impl core::fmt::Debug for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Put(id, bytes) => write!(f, "Put({id:#x}, {} bytes)", bytes.len()),
            Self::Remove(id) => write!(f, "Remove({id:#x})"),
        }
    }
}

/// Why storage did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Not now, but a repetition may succeed: answered with `TPM_RC_NV_RATE`.
    #[error("the storage is busy")]
    Busy,
    /// The storage does not work: answered with `TPM_RC_NV_UNAVAILABLE`.
    #[error("the storage is not available")]
    Unavailable,
    /// No room for the transaction: answered with `TPM_RC_NV_SPACE`.
    #[error("the storage is full")]
    Full,
}

/// A store of records.
pub trait Storage {
    /// All records, in any order; an empty list for a store never written.
    ///
    /// # Errors
    /// When the records cannot be read. The TPM then does not start.
    fn load(&mut self) -> Result<Vec<(RecordId, RecordBytes)>, StorageError>;

    /// Applies all changes or none, durably: when this returns `Ok`, a power cut at any later
    /// moment finds the new records; after an error, the old ones.
    ///
    /// # Errors
    /// When nothing was changed, or will have been when [`Storage::settle`] has returned `Ok`
    /// or another commit has.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError>;

    /// Makes sure that a commit that failed has not taken effect behind its caller's back.
    ///
    /// # Errors
    /// The next start may find the changes of that commit.
    fn settle(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Makes `changes` to `records`.
pub fn apply(records: &mut BTreeMap<RecordId, RecordBytes>, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(id, bytes) => records.insert(*id, bytes.clone()),
            Change::Remove(id) => records.remove(id),
        };
    }
}

/// Records in memory: a TPM without a volume, and tests.
///
/// Tests take faults from it: [`Memory::fail_after`] makes every commit after the next `n`
/// fail without any effect, as a full or unplugged device would, and
/// [`Memory::leave_undecided`] leaves open whether they had one.
#[derive(Default, Clone)]
pub struct Memory {
    records: BTreeMap<RecordId, RecordBytes>,
    commits: u64,
    fault: Option<(u64, StorageError)>,
    undecided: Option<Vec<Change>>,
    dead: bool,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits that succeeded so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The records, for inspection and damage in tests.
    pub fn records_mut(&mut self) -> &mut BTreeMap<RecordId, RecordBytes> {
        &mut self.records
    }

    /// Lets `n` more commits succeed, then refuses all with `error`.
    pub fn fail_after(&mut self, n: u64, error: StorageError) {
        self.fault = Some((self.commits.saturating_add(n), error));
    }

    /// Lets all commits fail from now on, as a device does that dies while they take effect:
    /// the next [`Storage::load`] finds the changes of the last one, unless it was settled.
    pub fn leave_undecided(&mut self) {
        self.dead = true;
    }

    /// Takes the faults away.
    pub fn heal(&mut self) {
        self.fault = None;
        self.dead = false;
    }
}

impl Storage for Memory {
    fn load(&mut self) -> Result<Vec<(RecordId, RecordBytes)>, StorageError> {
        if let Some(changes) = self.undecided.take() {
            apply(&mut self.records, &changes);
        }
        Ok(self
            .records
            .iter()
            .map(|(id, bytes)| (*id, bytes.clone()))
            .collect())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        if let Some((at, error)) = self.fault
            && self.commits >= at
        {
            return Err(error);
        }
        if self.dead {
            self.undecided = Some(changes.to_vec());
            return Err(StorageError::Unavailable);
        }
        self.undecided = None;
        apply(&mut self.records, changes);
        self.commits += 1;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        if self.dead {
            return Err(StorageError::Unavailable);
        }
        self.undecided = None;
        Ok(())
    }
}
