//! Files, transactions and volumes as services see them.
//!
//! A file is named by a namespace and an index and is read and written as a whole. A
//! transaction writes and removes any number of files; either all of it happens and
//! is durable when the call returns, or nothing of it is visible to anybody.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

/// A file's contents; zeroed when dropped.
pub type FileData = Zeroizing<Vec<u8>>;

/// Who a file belongs to. Part of the on-disk format; 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Namespace {
    /// State of the virtual TPM.
    Vtpm = 1,
    /// UEFI variables.
    Uefi = 2,
    /// What attestation leaves behind.
    Attestation = 3,
    /// The SVSM itself.
    System = 4,
}

impl Namespace {
    /// First and last inode of the namespace.
    pub const fn inodes(self) -> core::ops::RangeInclusive<u64> {
        let first = (self as u64) << 32;
        first..=first | u32::MAX as u64
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vtpm => "vtpm",
            Self::Uefi => "uefi",
            Self::Attestation => "attestation",
            Self::System => "system",
        })
    }
}

/// Name of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Who the file belongs to.
    pub namespace: Namespace,
    /// Which of its files.
    pub index: u32,
}

impl FileId {
    /// File `index` of `namespace`.
    pub const fn new(namespace: Namespace, index: u32) -> Self {
        Self { namespace, index }
    }

    /// The file's inode number: the namespace in the upper 32 bits, the index in the
    /// lower. Never one of the inodes 0 to 15, which the format reserves.
    pub const fn inode(self) -> u64 {
        ((self.namespace as u64) << 32) | self.index as u64
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.index)
    }
}

/// Why an operation on a volume failed. Where nothing else is said, a failed
/// transaction has changed nothing, in memory or on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum VolumeError {
    #[error("no such file")]
    NotFound,
    #[error("no space left on the volume")]
    NoSpace,
    #[error("not enough memory")]
    NoMemory,
    /// The device failed; nothing has happened.
    #[error("the device failed")]
    DeviceFailed,
    /// The device failed while the transaction was taking effect. The next operation
    /// undoes it before anything else; should the SVSM reboot before that succeeds, it
    /// may find the transaction done.
    #[error("the device failed while it was written to, the outcome is unknown")]
    OutcomeUnknown,
    /// What is on the disk is not what was written there.
    #[error("authentication failed, the data is damaged or was tampered with")]
    AuthenticationFailed,
    #[error("no random numbers")]
    NoRandomness,
    /// A bug, in this kernel or in the file system.
    #[error("internal error")]
    Internal,
}

/// What a transaction does to one file.
pub(super) enum Change {
    Write(FileData),
    Remove,
}

/// Changes that are to happen together.
///
/// A later change to a file replaces an earlier one.
#[derive(Default)]
pub struct Transaction {
    changes: Vec<(FileId, Change)>,
}

impl Transaction {
    /// A transaction that changes nothing.
    pub const fn new() -> Self {
        Self {
            changes: Vec::new(),
        }
    }

    /// Makes `data` the whole contents of `file`, which need not exist.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NoMemory`].
    pub fn write(&mut self, file: FileId, data: FileData) -> Result<&mut Self, VolumeError> {
        self.set(file, Change::Write(data))
    }

    /// Removes `file`. That it does not exist is no error.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NoMemory`].
    pub fn remove(&mut self, file: FileId) -> Result<&mut Self, VolumeError> {
        self.set(file, Change::Remove)
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn changes(&mut self) -> &mut [(FileId, Change)] {
        &mut self.changes
    }

    pub(super) fn into_changes(self) -> Vec<(FileId, Change)> {
        self.changes
    }

    fn set(&mut self, file: FileId, change: Change) -> Result<&mut Self, VolumeError> {
        match self.changes.iter_mut().find(|(id, _)| *id == file) {
            Some((_, earlier)) => *earlier = change,
            None => {
                self.changes
                    .try_reserve(1)
                    .map_err(|_| VolumeError::NoMemory)?;
                self.changes.push((file, change));
            }
        }
        Ok(self)
    }
}

impl fmt::Debug for Transaction {
    /// Names and sizes, never contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.changes.iter().map(|(file, change)| {
                (
                    file,
                    match change {
                        Change::Write(data) => Some(data.len()),
                        Change::Remove => None,
                    },
                )
            }))
            .finish()
    }
}

/// A copy of `bytes` that is zeroed when dropped.
///
/// # Errors
///
/// [`VolumeError::NoMemory`].
pub fn file_data(bytes: &[u8]) -> Result<FileData, VolumeError> {
    let mut data = Zeroizing::new(Vec::new());
    data.try_reserve_exact(bytes.len())
        .map_err(|_| VolumeError::NoMemory)?;
    data.extend_from_slice(bytes);
    Ok(data)
}

/// How large a volume is and what is left of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the whole volume. Constant and exact.
    pub total: u64,
    /// What the volume itself and its files take. An estimate.
    pub used: u64,
}

impl Space {
    /// What new files can take together. An estimate: a transaction needs some room
    /// besides, up to the size of the files it replaces.
    pub const fn free(&self) -> u64 {
        self.total.saturating_sub(self.used)
    }
}

/// Files that survive reboots.
///
/// Readers see committed state only; transactions are serialised.
pub trait Volume: Send + Sync {
    /// The contents of `file`.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotFound`] where there is no such file, which an empty one is
    /// not.
    fn read(&self, file: FileId) -> Result<FileData, VolumeError>;

    /// Indexes of the files in `namespace`, ascending.
    ///
    /// # Errors
    ///
    /// See [`VolumeError`].
    fn list(&self, namespace: Namespace) -> Result<Vec<u32>, VolumeError>;

    /// Makes all changes of `transaction`, or none. When it returns `Ok` they are
    /// durable. One without changes costs nothing.
    ///
    /// Work may be left over that need not be waited for; see [`settle`](Self::settle).
    ///
    /// # Errors
    ///
    /// See [`VolumeError`]; after all but [`VolumeError::OutcomeUnknown`] nothing has
    /// changed.
    fn transaction(&self, transaction: Transaction) -> Result<(), VolumeError>;

    /// Size of the volume and room on it. May read every file: not for each use.
    ///
    /// # Errors
    ///
    /// See [`VolumeError`].
    fn space(&self) -> Result<Space, VolumeError>;

    /// Does what transactions have left over, while nobody waits. Else the next
    /// operation does it first. When it succeeds, no transaction that failed has an effect
    /// any more.
    ///
    /// # Errors
    ///
    /// See [`VolumeError`]; nothing is lost, and the next operation or call tries
    /// again.
    fn settle(&self) -> Result<(), VolumeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn inodes_are_namespace_and_index() {
        assert_eq!(FileId::new(Namespace::Vtpm, 0).inode(), 1 << 32);
        assert_eq!(FileId::new(Namespace::System, 1).inode(), 17179869185);
        assert_eq!(
            FileId::new(Namespace::Uefi, u32::MAX).inode(),
            *Namespace::Uefi.inodes().end()
        );
    }

    #[test]
    fn a_later_change_to_a_file_replaces_an_earlier_one() {
        let file = FileId::new(Namespace::Vtpm, 1);
        let mut transaction = Transaction::new();
        transaction
            .write(file, file_data(b"a").unwrap())
            .unwrap()
            .remove(file)
            .unwrap();
        assert_eq!(transaction.changes().len(), 1);
        assert!(matches!(transaction.changes()[0].1, Change::Remove));
    }

    #[test]
    fn debug_output_tells_no_contents() {
        let mut transaction = Transaction::new();
        transaction
            .write(
                FileId::new(Namespace::Vtpm, 1),
                file_data(b"top secret").unwrap(),
            )
            .unwrap();
        let text = format!("{transaction:?}");
        assert!(text.contains("10") && !text.contains("secret") && !text.contains("116"));
    }
}
