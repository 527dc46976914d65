//! Storage in memory, with the faults that real storage has. For tests.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::storage::{Change, Record, Storage, StorageError};

/// What the next commits meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// This many commits succeed, then each fails and changes nothing.
    FailAfter(u32, StorageError),
    /// This many commits succeed; the next one is cut by a power failure before it takes
    /// effect, and nothing is written after that.
    CutBefore(u32),
    /// The same, with the cut after it has taken effect: the caller sees an error, the
    /// disk has the change.
    CutAfter(u32),
}

/// Records in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    records: BTreeMap<u32, Vec<u8>>,
    fault: Fault,
    off: bool,
    /// Commits that took effect.
    pub commits: u64,
    /// Bytes of the records that were put.
    pub bytes: u64,
}

impl Memory {
    /// Storage that holds `records`.
    pub fn with(records: impl IntoIterator<Item = Record>) -> Self {
        Self {
            records: records.into_iter().collect(),
            ..Self::default()
        }
    }

    pub fn set_fault(&mut self, fault: Fault) {
        self.fault = fault;
    }

    /// What a power cycle finds.
    pub fn power_cycle(&self) -> Self {
        Self::with(self.records.clone())
    }

    pub fn records(&self) -> &BTreeMap<u32, Vec<u8>> {
        &self.records
    }

    pub fn records_mut(&mut self) -> &mut BTreeMap<u32, Vec<u8>> {
        &mut self.records
    }

    fn apply(&mut self, changes: &[Change<'_>]) {
        for change in changes {
            match *change {
                Change::Put { index, bytes } => {
                    self.bytes += bytes.len() as u64;
                    self.records.insert(index, bytes.to_vec());
                }
                Change::Remove { index } => {
                    let removed = self.records.remove(&index);
                    debug_assert!(removed.is_some(), "record {index} is not there");
                }
            }
        }
        self.commits += 1;
    }
}

impl Storage for Memory {
    fn load(&mut self) -> Result<Vec<Record>, StorageError> {
        Ok(self
            .records
            .iter()
            .map(|(index, bytes)| (*index, bytes.clone()))
            .collect())
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StorageError> {
        if self.off {
            return Err(StorageError::Device);
        }
        match &mut self.fault {
            Fault::None => {}
            Fault::FailAfter(0, error) => return Err(*error),
            Fault::CutBefore(0) => {
                self.off = true;
                return Err(StorageError::Device);
            }
            Fault::CutAfter(0) => {
                self.apply(changes);
                self.off = true;
                return Err(StorageError::Device);
            }
            Fault::FailAfter(left, _) | Fault::CutBefore(left) | Fault::CutAfter(left) => {
                *left -= 1;
            }
        }
        self.apply(changes);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        if self.off {
            return Err(StorageError::Device);
        }
        Ok(())
    }
}
