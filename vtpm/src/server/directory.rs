//! Records in a directory of the host: one file, replaced as a whole.
//!
//! Always true: the file under its final name is complete. A commit writes another file,
//! syncs it, renames it and syncs the directory, and returns only then; at a power cut the old
//! or the new state is there, never a mixture.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    string::{String, ToString as _},
    vec::Vec,
};

use alloc::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::{
    archive::{self, ArchiveError},
    storage::{self, Change, RecordBytes, RecordId, Storage, StorageError},
};

/// Name of the state file.
pub const FILE: &str = "vtpm-state";
const NEW: &str = "vtpm-state.new";
/// State files of swtpm, which this server neither reads nor may ignore.
const FOREIGN: &str = "tpm2-00.permall";

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The file system said no.
    #[error("TPM state {path}: {error}")]
    Io {
        /// What was to be read or written
        path: String,
        /// Why not
        error: io::Error,
    },
    /// The state file is none.
    #[error("TPM state {path}: {error}")]
    Archive {
        /// The state file
        path: String,
        /// What is wrong with it
        error: ArchiveError,
    },
    /// The directory holds the state of another program.
    #[error(
        "TPM state {0} was written by swtpm; its format is not read here (Documentation/VTPM.md says how to move)"
    )]
    Foreign(String),
    /// Another process has it open.
    #[error("TPM state {0} is in use by another process")]
    InUse(String),
}

/// A state directory, locked while this lives.
pub struct Directory {
    path: PathBuf,
    directory: File,
    records: BTreeMap<RecordId, RecordBytes>,
}

impl Directory {
    /// Opens a directory and reads the state in it, if there is one.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |error| DirectoryError::Io { path, error }
        };
        let directory = File::open(path).map_err(io(path))?;
        // The server may be started again before the kernel has let its predecessor go.
        rustix::fs::flock(
            &directory,
            rustix::fs::FlockOperation::NonBlockingLockExclusive,
        )
        .map_err(|_| DirectoryError::InUse(path.display().to_string()))?;
        let file = path.join(FILE);
        let records = match File::open(&file) {
            Ok(open) => {
                let mut bytes = Zeroizing::new(Vec::with_capacity(archive::MAX_SIZE + 1));
                // One byte above the bound shows that there is more.
                let limit = archive::MAX_SIZE as u64 + 1;
                open.take(limit)
                    .read_to_end(&mut bytes)
                    .map_err(io(&file))?;
                let path = file.display().to_string();
                archive::decode(&bytes).map_err(|error| DirectoryError::Archive { path, error })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.join(FOREIGN).exists() {
                    return Err(DirectoryError::Foreign(
                        path.join(FOREIGN).display().to_string(),
                    ));
                }
                Vec::new()
            }
            Err(error) => return Err(io(&file)(error)),
        };
        Ok(Self {
            path: path.to_path_buf(),
            directory,
            records: records.into_iter().collect(),
        })
    }

    /// Replaces the file by one with these records.
    fn write(&self, records: &BTreeMap<RecordId, RecordBytes>) -> Result<(), StorageError> {
        self.try_write(records).map_err(|error| {
            log::error!("TPM state {}: {error}", self.path.display());
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full,
                _ => StorageError::Unavailable,
            }
        })
    }

    fn try_write(&self, records: &BTreeMap<RecordId, RecordBytes>) -> io::Result<()> {
        let list: Vec<_> = records
            .iter()
            .map(|(id, bytes)| (*id, bytes.clone()))
            .collect();
        let bytes = archive::encode(&list);
        let new = self.path.join(NEW);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(FILE))?;
        self.directory.sync_all()
    }
}

impl Storage for Directory {
    fn load(&mut self) -> Result<Vec<(RecordId, RecordBytes)>, StorageError> {
        Ok(self
            .records
            .iter()
            .map(|(id, bytes)| (*id, bytes.clone()))
            .collect())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageError> {
        let mut records = self.records.clone();
        storage::apply(&mut records, changes);
        self.write(&records)?;
        self.records = records;
        Ok(())
    }

    /// The file may have been replaced before the commit failed.
    fn settle(&mut self) -> Result<(), StorageError> {
        self.write(&self.records)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn put(id: RecordId, byte: u8) -> Change {
        Change::Put(id, RecordBytes::new(vec![byte; 40]))
    }

    #[test]
    fn commits_are_there_after_opening_again() {
        let place = tempfile::tempdir().unwrap();
        let mut directory = Directory::open(place.path()).unwrap();
        assert!(directory.load().unwrap().is_empty());
        directory.commit(&[put(1, 1), put(2, 2)]).unwrap();
        directory
            .commit(&[Change::Remove(1), Change::Remove(9), put(3, 3)])
            .unwrap();
        drop(directory);
        let ids: Vec<_> = Directory::open(place.path())
            .unwrap()
            .load()
            .unwrap()
            .iter()
            .map(|r| r.0)
            .collect();
        assert_eq!(ids, [2, 3]);
    }

    #[test]
    fn an_unfinished_replacement_is_ignored_and_a_damaged_state_refused() {
        let place = tempfile::tempdir().unwrap();
        Directory::open(place.path())
            .unwrap()
            .commit(&[put(1, 1)])
            .unwrap();
        fs::write(place.path().join(NEW), b"half").unwrap();
        assert_eq!(
            Directory::open(place.path()).unwrap().load().unwrap().len(),
            1
        );
        let file = place.path().join(FILE);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(
            Directory::open(place.path()),
            Err(DirectoryError::Archive { .. })
        ));
        assert_eq!(fs::read(&file).unwrap().len(), bytes.len() - 1);
    }

    #[test]
    fn a_failed_commit_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let mut directory = Directory::open(place.path()).unwrap();
        directory.commit(&[put(1, 1)]).unwrap();
        // The temporary name is taken by something that cannot be opened for writing.
        fs::create_dir(place.path().join(NEW)).unwrap();
        assert_eq!(
            directory.commit(&[put(2, 2)]),
            Err(StorageError::Unavailable)
        );
        assert_eq!(directory.load().unwrap().len(), 1);
        fs::remove_dir(place.path().join(NEW)).unwrap();
        directory.commit(&[put(2, 2)]).unwrap();
        assert_eq!(directory.load().unwrap().len(), 2);
    }

    #[test]
    fn only_one_process_at_a_time_and_no_foreign_state() {
        let place = tempfile::tempdir().unwrap();
        let first = Directory::open(place.path()).unwrap();
        assert!(matches!(
            Directory::open(place.path()),
            Err(DirectoryError::InUse(_))
        ));
        drop(first);
        fs::write(place.path().join(FOREIGN), b"x").unwrap();
        assert!(matches!(
            Directory::open(place.path()),
            Err(DirectoryError::Foreign(_))
        ));
    }
}
